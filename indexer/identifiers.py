"""Which id does each source get? The manifest's, the one that the collection has for it, or one made of its path.

An id that is made of a path is the stem of the file. Where several sources of a run have the same stem, kind and parent
folders make their ids distinct: `k545` and `k545_recording`, `A/01` and `B/01`. The choice depends neither on the order
of the sources nor on sources with other stems. A document keeps its id when further sources come.
"""

import itertools
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine import names
from engine.embedding import documents, folders
from engine.values import Kind
from indexer.sources import Source

logger = logging.getLogger(__name__)

Held = Mapping[tuple[Kind, str], Sequence[str]]
"""Ids of the documents in a collection, by kind and source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assigned:
    """The result of `assign`."""

    sources: tuple[Source, ...]
    """The sources with their ids, all different, in the given order."""
    failed: dict[Path, str]
    """Sources that have no id of their own, each with the reason."""


def assign(sources: Sequence[Source], held: Held) -> Assigned:
    """Gives each source an id, and logs one warning with the ids of the sources whose stems others have too.

    held: the documents of the collection. A source that is among them keeps its id, unless the manifest gives another.
    """
    fixed = {source.path: id for source in sources if (id := source.id or _held(source, held))}
    failed = _contested(fixed)
    failed |= {
        source.path: "has no name; give it an id in a manifest"
        for source in sources
        if source.path not in fixed and not _stem(source)
    }
    chosen = _chosen([source for source in sources if source.path not in failed], fixed)
    longer = sorted(id for source in sources if (id := chosen.get(source.path, "")) not in ("", _stem(source)))
    if longer:
        logger.warning("several files have the same name; ids chosen: %s", folders.named(longer))
    ids = fixed | chosen
    given = tuple(replace(source, id=ids[source.path]) for source in sources if source.path not in failed)
    return Assigned(sources=given, failed=failed)


def _held(source: Source, held: Held) -> str:
    """The id of the document that was made from a source; empty if there is none."""
    ids = held.get((source.kind, documents.source_of(source.path)), ())
    return _stem(source) if _stem(source) in ids else min(ids, default="")


def _contested(fixed: Mapping[Path, str]) -> dict[Path, str]:
    """The sources that share a fixed id with another source, each with the reason why it fails."""
    owners: defaultdict[str, list[Path]] = defaultdict(list)
    for path, id in fixed.items():
        owners[id].append(path)
    return {
        path: f"{next(other for other in paths if other != path)} would have the same id {id!r}; "
        "give each its own id in the manifest"
        for id, paths in owners.items()
        if len(paths) > 1
        for path in paths
    }


def _chosen(sources: Sequence[Source], fixed: Mapping[Path, str]) -> dict[Path, str]:
    """Ids for the sources without a fixed id, all different, and different from the fixed ids."""
    groups: defaultdict[str, list[Source]] = defaultdict(list)
    for source in sorted(sources, key=lambda source: str(source.path.absolute())):
        for stem in {_stem(source), fixed.get(source.path, _stem(source))}:
            groups[stem].append(source)
    taken, chosen = set(fixed.values()), dict[Path, str]()
    for stem, members in sorted(groups.items()):
        group = _Group(stem, members)
        for source in members:
            if source.path not in fixed:
                is_free = (
                    id for id in group.candidates(source) if id not in taken and (id == stem or id not in groups)
                )
                chosen[source.path] = next(is_free)
                taken.add(chosen[source.path])
    return chosen


class _Group:
    """All sources of one stem, and those that have the stem as their fixed id."""

    def __init__(self, stem: str, members: Sequence[Source]) -> None:
        self._stem = stem
        kinds_differ = max(Counter(source.kind for source in members).values()) == 1
        self._parents = 0 if kinds_differ else _distinguishing({_folder(source) for source in members})
        self._beside = Counter((self._tail(source), source.kind) for source in members)
        """Number of sources of each kind that the parent folders do not make distinct."""

    def candidates(self, source: Source) -> Iterator[str]:
        """Yields ids for one of the sources, the best first, without end."""
        tail, folder = self._tail(source), _folder(source)
        bare = "/".join((*tail, self._stem))
        if self._beside[tail, source.kind] == 1:
            if source.kind == "score" or not self._beside[tail, "score"]:
                yield bare  # a score's id does not depend on recordings beside it
            yield f"{bare}_{source.kind}"
        for parents in range(len(tail), len(folder) + 1):
            yield "/".join((*folder[len(folder) - parents :], names.normal(source.path.name)))
        yield from (f"{bare}_{number}" for number in itertools.count(2))

    def _tail(self, source: Source) -> tuple[str, ...]:
        """The parent folders that are part of the ids."""
        folder = _folder(source)
        return folder[max(0, len(folder) - self._parents) :]


def _distinguishing(folders: Collection[tuple[str, ...]]) -> int:
    """The smallest number of last parts by which the folders differ."""
    longest = max(map(len, folders))
    return next(
        (
            count
            for count in range(longest)
            if len({folder[len(folder) - count :] for folder in folders}) == len(folders)
        ),
        longest,
    )


def _stem(source: Source) -> str:
    """The shortest id of a source."""
    return documents.name_of(source.path)


def _folder(source: Source) -> tuple[str, ...]:
    """The names of the folders that a source lies in, from the root."""
    return tuple(map(names.normal, Path(os.path.abspath(source.path)).parts[1:-1]))
