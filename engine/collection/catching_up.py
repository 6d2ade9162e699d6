"""A shard is made to hold exactly the documents that another holder of the same documents has, under their numbers."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from engine.collection.store import Entry
from engine.collection.writer import CollectionWriter
from engine.errors import CollectionError
from engine.values import Document, SnippetSequence

Content = tuple[Document, SnippetSequence, Mapping[int, bytes]]
"""A document with its snippets and its media."""
MOVED_TOGETHER = 64
"""Documents that are fetched at a time."""


def catch_up(
    writer: CollectionWriter,
    held: Iterable[Entry],
    wanted: Iterable[Entry],
    fetch: Callable[[Sequence[str]], Sequence[Content]],
) -> int:
    """Stages what a collection lacks and removes what it should not have; returns the number of documents changed.

    held: entries of the collection's current generation. wanted: entries that its next generation shall have.
    fetch: returns the documents with some ids. The writer has no leftover documents (`CollectionWriter.forget`). The
    caller commits.
    Raises CollectionError, before anything is staged, if a document cannot have its number here.
    """
    goal = {entry.number: entry for entry in wanted}
    present = {entry.number: entry for entry in held}
    outdated = [entry for number, entry in present.items() if goal.get(number) != entry]
    missing = [entry for number, entry in sorted(goal.items()) if present.get(number) != entry]
    if missing and missing[0].number < writer.next_number:
        first_missing = missing[0]
        raise CollectionError(
            writer.path,
            f"{first_missing.id} cannot be taken over under its number {first_missing.number}: expected "
            f"{writer.next_number} or a higher one; write the collection into a new folder",
        )
    for entry in outdated:
        writer.remove(entry.id)
    for first in range(0, len(missing), MOVED_TOGETHER):
        part = missing[first : first + MOVED_TOGETHER]
        for entry, (document, sequence, media) in zip(part, fetch([one.id for one in part]), strict=True):
            writer.skip_to(entry.number)
            writer.put(document, sequence, media=media)
    return len(outdated) + len(missing)
