"""The sources of a run: files and page folders under the given paths, with ids and titles from a manifest.

Nothing is decoded here: kinds follow from names, a manifest or the caller. Only the sizes of images in folders are
read, because a thumbnail is no page.
"""

import csv
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from engine import names
from engine.embedding import documents, folders
from engine.embedding.folders import FolderContents
from engine.errors import MediaError
from engine.score import pages
from engine.values import Kind
from indexer.errors import ManifestError

logger = logging.getLogger(__name__)

COLUMNS = ("path", "id", "title", "composer", "work", "kind")
"""Columns of a manifest. Only `path` is required. Columns with other names are ignored."""

Entries = dict[Path, dict[str, str]]
"""The rows of a manifest, by real path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file, or a folder of page images, that is to become a document."""

    path: Path
    id: str = ""
    """Id that the manifest gives; empty: `indexer.identifiers` chooses one."""
    kind: Kind
    title: str = ""
    """Title of the document. Title, composer and work are empty where the manifest gives none."""
    composer: str = ""
    work: str = ""
    presumed: bool = False
    """Whether the source is an image found beside recordings: perhaps a picture of the artist, and no score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """The result of `discover`: what the given paths hold."""

    sources: tuple[Source, ...]
    failed: dict[Path, str]
    """Paths that cannot become a source, each with the reason."""
    ignored: dict[str, int]
    """Number of files in folders that are neither scores nor recordings, by suffix, or as `picture`."""

    @classmethod
    def nothing(cls) -> "Discovery":
        """The result where no paths are given."""
        return cls(sources=(), failed={}, ignored={})


def discover(paths: Iterable[Path], kind: Kind | None = None, manifest: Path | None = None) -> Discovery:
    """The sources under `paths`; if no paths are given, all sources that the manifest lists.

    A file is a source. A folder is one source if it holds page images only, or if the manifest lists it. Any other
    folder is walked. Files in it are passed over if their names are no media names, or if their kind is not `kind`. A
    warning names those that hold music in formats that are not read, and pipes, devices and broken links.

    kind: the kind of each path given; None: the manifest or the name of the path says the kind.
    Raises ManifestError.
    """
    entries = read_manifest(manifest) if manifest else {}
    walk, sources = _Walk(entries), dict[Path, Source]()
    for path in list(paths) or list(entries):
        files = list(walk.below(path))
        for file in files:
            try:
                source = _source(file, kind if file == path else None, entries, presumed=file in walk.presumed)
            except MediaError as exc:
                walk.failed[file] = exc.cause
                continue
            real = _real(file)
            is_link = file.absolute() != real  # where a file and links to it are found, the file is the source
            if kind in (None, source.kind) and not (real in sources and is_link):
                sources[real] = source
        if not files:
            walk.failed.setdefault(path, "a folder without scores and recordings")
    unused = entries.keys() - sources.keys() - {_real(path) for path in walk.failed}
    if unused:
        logger.warning(
            "%d rows of %s belong to no source of this run, for example %s", len(unused), manifest, min(unused)
        )
    folders.warn(walk.unread)
    ignored = Counter(label for path, label in walk.ignored.items() if manifest is None or path != _real(manifest))
    return Discovery(sources=tuple(sources.values()), failed=walk.failed, ignored=dict(ignored.most_common()))


def read_manifest(path: Path) -> Entries:
    """The rows of a manifest by real path. Rows without any text are left out.

    A row's path is relative to the manifest's folder or, if nothing is there, to the current folder.
    Raises ManifestError if the file is not CSV in UTF-8, lacks the column `path`, or has a row with no path, with an
    unknown kind, with more fields than columns, or with the path of another row and other texts.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise ManifestError(path, f"cannot be read as CSV in UTF-8: {exc}") from exc
    if "path" not in (reader.fieldnames or ()):
        raise ManifestError(path, f"expected the columns {','.join(COLUMNS)}, got {reader.fieldnames}")
    entries: Entries = {}
    lines: dict[Path, int] = {}
    for line, row in rows:
        if extra := row.get(None):  # an unquoted comma has moved all that follows it into other columns
            columns = len(reader.fieldnames or ())
            cause = f"expected {columns} fields, got {columns + len(extra)}; quote texts that hold commas"
            raise ManifestError(path, f"line {line}: {cause}")
        entry = {column: (row.get(column) or "").strip() for column in COLUMNS}
        if not any(entry.values()):
            continue  # spreadsheets write such rows
        if not entry["path"]:
            raise ManifestError(path, f"line {line}: no path")
        if entry["kind"] not in ("", "auto", "score", "recording"):
            raise ManifestError(path, f"line {line}: expected kind score, recording or auto, got {entry['kind']!r}")
        beside = _spelt(path.parent / entry["path"])
        real = _real(beside if os.path.lexists(beside) else _spelt(Path(entry["path"])))
        if entries.get(real, entry) != entry:
            raise ManifestError(path, f"line {line}: {entry['path']} is listed in line {lines[real]} already")
        entries[real] = entry
        lines.setdefault(real, line)
    return entries


class _Walk:
    """Walks the given paths, and records what it passes over."""

    def __init__(self, entries: Entries) -> None:
        self.failed: dict[Path, str] = {}
        """Folders that cannot be listed, each with the reason."""
        self.unread: dict[Path, str] = {}
        """Files that a person may miss, each with the reason."""
        self.ignored: dict[Path, str] = {}
        """Real paths of all other files, each with its suffix, or `picture`."""
        self.presumed: set[Path] = set()
        """Images beside recordings."""
        self._entries = entries

    def below(self, path: Path) -> list[Path]:
        """The files and page folders at or below a path, in natural order."""
        return list(self._below(path, set()))

    def _below(self, path: Path, seen: set[Path]) -> Iterator[Path]:
        """Yields the files and page folders at or below a path.

        seen: folders that were walked already; a link back to one of them is not followed.
        """
        real = _real(path)
        if not os.path.isdir(path) or real in self._entries:  # `Path.is_dir` raises where access is denied
            yield path
            return
        try:
            contents = folders.contents(path)
        except OSError as exc:
            self.failed[path] = f"cannot be listed: {exc.strerror}"
            return
        if contents.pages:
            self._pass_over(contents, listed=set())
            yield from (path, *contents.symbols)
        elif real not in seen:
            seen.add(real)
            passed_over = (*contents.unread, *contents.pictures, *contents.others)
            listed = {file for file in passed_over if self._entries and _real(file) in self._entries}
            self._pass_over(contents, listed)
            for child in sorted({*contents.folders, *contents.media, *contents.symbols, *listed}, key=_links_last):
                yield from self._below(child, seen)

    def _pass_over(self, contents: FolderContents, listed: set[Path]) -> None:
        """Records what is passed over in a folder. listed: files that the manifest lists, which are not passed over."""
        self.unread |= {path: cause for path, cause in contents.unread.items() if path not in listed}
        self.ignored |= {_real(path): "picture" for path in contents.pictures if path not in listed}
        self.ignored |= {
            _real(path): path.suffix.lower() or path.name for path in contents.others if path not in listed
        }
        if any(folders.kind_by_suffix(path.suffix.lower()) == "recording" for path in contents.media):
            self.presumed.update(path for path in contents.media if path.suffix.lower() in pages.IMAGE_SUFFIXES)


def _source(path: Path, kind: Kind | None, entries: Entries, *, presumed: bool) -> Source:
    """The source at a path; `kind` None: the manifest or the name says the kind.

    Raises MediaError if the path is no file or folder, or if its kind cannot be determined.
    """
    entry = entries.get(_real(path), {})
    if kind is None:
        kind = _kind(entry.get("kind", "")) or documents.kind_of(path)
    documents.require_file_or_folder(path)
    return Source(
        path=path,
        id=names.normal(entry.get("id", "")),
        kind=kind,
        title=entry.get("title", ""),
        composer=entry.get("composer", ""),
        work=entry.get("work", ""),
        presumed=presumed and not entry,
    )


def _kind(name: str) -> Kind | None:
    """The kind that a manifest names; None for `auto` and for an empty field."""
    if name == "score":
        return "score"
    return "recording" if name == "recording" else None


def _real(path: Path) -> Path:
    """The path without links. Unlike `Path.resolve`, this raises no error for links that lead in circles."""
    return Path(os.path.realpath(path))


def _spelt(path: Path) -> Path:
    """The path as the file system spells it, which may compose accents differently; the path itself if none fits."""
    if os.path.lexists(path) or path == path.parent:
        return path
    folder = _spelt(path.parent)
    try:
        twins = [child for child in folder.iterdir() if names.normal(child.name) == names.normal(path.name)]
    except OSError:
        twins = []
    return min(twins, default=folder / path.name)


def _links_last(path: Path) -> tuple[bool, pages.NaturalOrder]:
    """A sorting key by which links follow files and folders, so that no folder is first seen by a link to it."""
    return path.is_symlink(), pages.natural_order(path)
