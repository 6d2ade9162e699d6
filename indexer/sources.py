"""The sources of a run: files and page folders under the given paths, with ids and titles from a manifest.

Nothing is decoded here: kinds follow from names, a manifest or the caller.
"""

import csv
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.embedding import documents
from engine.errors import MediaError
from engine.score import pages
from engine.values import Kind
from indexer.errors import DuplicateIdError, ManifestError

logger = logging.getLogger(__name__)

COLUMNS = ("path", "id", "title", "composer", "work", "kind")
"""Columns of a manifest. Only `path` is required. Columns with other names are ignored."""

Entries = dict[Path, dict[str, str]]
"""The rows of a manifest, by resolved path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file, or a folder of page images, that is to become a document."""

    path: Path
    id: str
    kind: Kind
    title: str = ""
    """Title of the document. Title, composer and work are empty where the manifest gives none."""
    composer: str = ""
    work: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """The result of `discover`: what the given paths hold."""

    sources: tuple[Source, ...]
    failed: dict[Path, str]
    """Paths that cannot become a source, each with the reason."""


def discover(paths: Iterable[Path], kind: Kind | None = None, manifest: Path | None = None) -> Discovery:
    """The sources under `paths`; if no paths are given, all sources that the manifest lists.

    A file is a source. A folder is one source if it holds page images only, or if the manifest lists it. Any other
    folder is walked; files in it whose names are no media names, or whose kind is not `kind`, are skipped.

    kind: the kind of each path given; None: the manifest or the name of the path says the kind.
    Raises ManifestError, and DuplicateIdError if two sources would become documents with the same id.
    """
    entries = read_manifest(manifest) if manifest else {}
    sources: dict[Path, Source] = {}
    failed: dict[Path, str] = {}
    for path in list(paths) or list(entries):
        files = list(_files(path, entries, set(), failed))
        for file in files:
            try:
                source = _source(file, kind if file == path else None, entries)
            except MediaError as exc:
                failed[file] = exc.cause
                continue
            if kind in (None, source.kind):
                sources.setdefault(file.resolve(), source)
        if not files:
            failed.setdefault(path, "a folder without scores and recordings")
    unused = entries.keys() - sources.keys() - {path.resolve() for path in failed}
    if unused:
        logger.warning(
            "%d rows of %s belong to no source of this run, for example %s", len(unused), manifest, min(unused)
        )
    _check_ids(sources.values())
    return Discovery(sources=tuple(sources.values()), failed=failed)


def read_manifest(path: Path) -> Entries:
    """The rows of a manifest by resolved path.

    A row's path is relative to the manifest's folder or, if nothing is there, to the current folder.
    Raises ManifestError if the file is not CSV in UTF-8, lacks the column `path`, or has a row with no path or with an
    unknown kind.
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
    for line, row in rows:
        entry = {column: (row.get(column) or "").strip() for column in COLUMNS}
        if not entry["path"]:
            raise ManifestError(path, f"line {line}: no path")
        if entry["kind"] not in ("", "auto", "score", "recording"):
            raise ManifestError(path, f"line {line}: expected kind score, recording or auto, got {entry['kind']!r}")
        beside = path.parent / entry["path"]
        entries[(beside if beside.exists() else Path(entry["path"])).resolve()] = entry
    return entries


def _files(path: Path, entries: Entries, seen: set[Path], failed: dict[Path, str]) -> Iterator[Path]:
    """The files and page folders at or below a path, in natural order.

    seen: folders that were walked already; a link back to one of them is not followed.
    failed: receives the folders that cannot be listed.
    """
    if not path.is_dir() or path.resolve() in entries:
        yield path
        return
    try:
        is_document = bool(documents.page_files(path))
        children = sorted(path.iterdir(), key=pages.natural_order)
    except OSError as exc:
        failed[path] = f"cannot be listed: {exc.strerror}"
        return
    if is_document:
        yield path
    elif path.resolve() not in seen:
        seen.add(path.resolve())
        for child in children:
            is_candidate = child.is_dir() or documents.is_media(child) or child.resolve() in entries
            if is_candidate and not child.name.startswith("."):
                yield from _files(child, entries, seen, failed)


def _source(path: Path, kind: Kind | None, entries: Entries) -> Source:
    """The source at a path; `kind` None: the manifest or the name says the kind.

    Raises MediaError if the path does not exist, or if its kind cannot be determined.
    """
    entry = entries.get(path.resolve(), {})
    if kind is None:
        kind = _kind(entry.get("kind", "")) or documents.kind_of(path)
    if not path.exists():
        raise MediaError(path, "no such file or folder")
    return Source(
        path=path,
        id=entry.get("id") or documents.name_of(path),
        kind=kind,
        title=entry.get("title", ""),
        composer=entry.get("composer", ""),
        work=entry.get("work", ""),
    )


def _kind(name: str) -> Kind | None:
    """The kind that a manifest names; None for `auto` and for an empty field."""
    if name == "score":
        return "score"
    return "recording" if name == "recording" else None


def _check_ids(sources: Iterable[Source]) -> None:
    """Raises DuplicateIdError if two sources have the same id."""
    first: dict[str, Path] = {}
    for source in sources:
        if source.id in first:
            raise DuplicateIdError(source.id, first[source.id], source.path)
        first[source.id] = source.path
