"""A long score in a run: its pages, and then its snippets, are tasks of their own, which all processes share.

The pages of a score are read apart, but its snippets run on from system to system, and which systems belong to the
score is known when the last page is read. So the parent joins the parts, and hands out the snippets. Between the two,
the strips of the systems wait in the parent, most of them in a temporary file.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine import media, score
from engine.config import FrontEnd
from engine.embedding import documents
from engine.embedding.documents import Encoder
from engine.score import PageAddress, Score, ScorePart, SnippetBlock
from engine.score.packed import Spool
from engine.values import Embeddings

LONG_PAGES = 16
"""A score with more pages is divided."""
PART_PAGES = 8
"""Pages that a process reads at a time: about a second of work, and 3 MB of strips."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PagesTask:
    """Pages of a long score to be read."""

    addresses: tuple[PageAddress, ...]
    first: int
    """Number of the first of the pages, from 1."""
    keep_media: bool
    """Whether pictures of the pages are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadPages:
    """Pages of a long score that were read."""

    part: ScorePart
    pictures: dict[int, bytes]
    """Pictures of the pages to keep, by their numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnippetsTask:
    """Snippets of a long score to be embedded."""

    number: int
    """Number of the block, from 0."""
    block: SnippetBlock


class LongScore:
    """A long score at work. `embeddings` are there when all its tasks are done."""

    def __init__(self, path: Path, addresses: Sequence[PageAddress], front_end: FrontEnd, *, keep_media: bool) -> None:
        """addresses: of all pages. keep_media: whether pictures of the pages are kept."""
        self.pages = len(addresses)
        self.pages_read = 0
        self.pictures: dict[int, bytes] = {}
        """Pictures of the pages to keep, by their numbers."""
        self.score: Score | None = None
        """The score, once all pages are read."""
        self.embeddings: Embeddings | None = None
        """Embeddings of all snippets of the score, once they are there."""
        self._path = path
        self._addresses = tuple(addresses)
        self._front_end = front_end
        self._keep_media = keep_media
        self._spool = Spool()
        self._parts: dict[int, ScorePart] = {}
        self._embedded: dict[int, Embeddings] = {}

    def tasks(self) -> Iterator[PagesTask]:
        """Yields the tasks to read the pages."""
        for start in range(0, self.pages, PART_PAGES):
            addresses = self._addresses[start : start + PART_PAGES]
            yield PagesTask(addresses=addresses, first=start + 1, keep_media=self._keep_media)

    def take_pages(self, task: PagesTask, result: ReadPages) -> Iterator[SnippetsTask]:
        """Takes pages that a process has read. Returns the tasks to embed the snippets if no page is left to read.

        Raises PageError if no page is left to read and the score shows no systems.
        """
        self._parts[task.first] = result.part.moved_to(self._spool)
        self.pictures |= result.pictures
        self.pages_read += len(task.addresses)
        if self.pages_read < self.pages:
            return iter(())
        self.score = score.joined([self._parts[first] for first in sorted(self._parts)], self._path)
        snippet_blocks = enumerate(score.snippet_blocks(self.score, self._front_end))
        return (SnippetsTask(number=number, block=block.in_memory()) for number, block in snippet_blocks)

    def take_embeddings(self, task: SnippetsTask, embeddings: Embeddings) -> None:
        """Takes snippets that a process has embedded."""
        assert self.score is not None
        self._embedded[task.number] = embeddings
        if sum(map(len, self._embedded.values())) == score.snippet_count(self.score, self._front_end):
            self.embeddings = np.concatenate([self._embedded[number] for number in sorted(self._embedded)])


def done(task: PagesTask | SnippetsTask, encoder: Encoder) -> ReadPages | Embeddings:
    """Returns the result of a task; runs in a worker. Raises MediaError if a file of the pages is gone."""
    front_end = encoder.identity.front_end
    if isinstance(task, SnippetsTask):
        return encoder.score(score.cut_snippets(task.block, front_end))
    for address in task.addresses:
        documents.require_file_or_folder(address.file)
    pages = list(score.pages_at(task.addresses, task.first))
    return ReadPages(part=score.part_of(pages, front_end), pictures=media.pictures(pages) if task.keep_media else {})
