"""The manifest: the small file that names the current generation of a collection, with its counts and checksums."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from engine import files
from engine.config import FrontEnd
from engine.errors import (
    CollectionDamagedError,
    CollectionMissingError,
    CollectionVersionError,
    NetworkMismatchError,
)
from engine.values import Kind, NetworkIdentity

FORMAT = "scorefind collection"
VERSION = 4
WITHOUT_MEDIA = 3
"""Version of a collection that keeps no media: programs of that version read it, and may write to it."""
NAME = "manifest.json"
LMDB_NAME = "sequences.lmdb"
"""Name of a new collection's LMDB file. `build` writes the file anew, under a name with the generation's number."""
LOCK_SUFFIX = "-lock"
"""What LMDB appends to the name of its file to name its table of readers."""
KINDS: tuple[Kind, ...] = get_args(Kind)
"""The kinds, in the order by which the tables of generations number them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFile:
    """A FAISS file of the collection."""

    file: str
    """Name of the file."""
    size: int
    """Size of the file in bytes."""
    sha256: str
    """SHA-256 (hex) of the file."""
    generation: int
    """Generation that wrote the index. The index has that generation's documents, not those of the current one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The documents of one kind in a generation, counted, and their index."""

    documents: int = 0
    """Number of documents."""
    snippets: int = 0
    """Number of snippets of these documents."""
    index: IndexFile | None = None
    """Index on disk; None if there are so few snippets that a search compares them all."""


def added_up(parts: Sequence[Mapping[Kind, Contents]]) -> dict[Kind, Contents]:
    """Returns the numbers of documents and snippets by kind of several collections together, without indexes."""
    return {
        kind: Contents(
            documents=sum(part[kind].documents for part in parts), snippets=sum(part[kind].snippets for part in parts)
        )
        for kind in KINDS
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The facts about one generation of a collection."""

    generation: int
    """Number of the generation, from 0."""
    network: NetworkIdentity
    """Network that embedded the documents."""
    kinds: dict[Kind, Contents]
    """Contents of the generation, by kind."""
    digest: str
    """SHA-256 (hex) over the number and the checksum of every document, in order."""
    next_number: int
    """Number of the next new document. Lower numbers are never used again."""
    lmdb_size: int
    """Size of the LMDB file at the commit, in bytes. The file never gets smaller."""
    lmdb: str = LMDB_NAME
    """Name of the LMDB file."""
    media: bool = False
    """Whether the LMDB file holds pictures or sound of documents."""

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """Returns the manifest of the collection at `path`.

        Raises CollectionMissingError, CollectionVersionError or CollectionDamagedError. The version is checked before
        the checksum, because a newer format may compute its checksum in another way.
        """
        if (path / NAME).exists() and not (path / NAME).is_file():  # a pipe would be waited for
            raise CollectionDamagedError(path, f"{NAME} is not a file")
        try:
            content = json.loads((path / NAME).read_bytes())
            file_format, version = content["format"], int(content["version"])
        except (FileNotFoundError, NotADirectoryError) as exc:
            if found := sorted(path.glob("*.lmdb")):
                raise CollectionDamagedError(path, f"{NAME} is missing beside {found[0].name}; restore it") from exc
            raise CollectionMissingError(
                path, "expected a collection, got no manifest.json; add documents first"
            ) from exc
        except (ValueError, KeyError, TypeError, RecursionError) as exc:
            raise CollectionDamagedError(path, f"{NAME} cannot be parsed: {exc!r}") from exc
        if file_format != FORMAT:
            raise CollectionDamagedError(path, f"{NAME}: expected the format {FORMAT!r}, got {file_format!r}")
        if version > VERSION:
            raise CollectionVersionError(
                path, f"written in format version {version}, this program reads up to {VERSION}; use a newer scorefind"
            )
        if content.pop("checksum", None) != _checksum(content):
            raise CollectionDamagedError(path, f"{NAME} does not match its checksum")
        try:
            return _decoded(content)
        except (ValueError, KeyError, TypeError) as exc:
            raise CollectionDamagedError(path, f"{NAME} has a missing or wrong field: {exc!r}") from exc

    def write(self, path: Path) -> None:
        """Writes the manifest, which makes this generation the current one of the collection at `path`."""
        version = VERSION if self.media else WITHOUT_MEDIA
        content: dict[str, Any] = {"format": FORMAT, "version": version, **asdict(self)}
        if not self.media:
            del content["media"]
        content["checksum"] = _checksum(content)
        files.sync(path)  # the names of the index files, to which the manifest refers
        with files.replacing(path / NAME, durable=True) as new:
            new.write_text(json.dumps(content, indent=2), encoding="utf-8")

    def require(self, network: NetworkIdentity, path: Path) -> None:
        """Raises NetworkMismatchError if the collection at `path` was made with another network or front end."""
        if self.network == network:
            return
        ours, theirs = asdict(network), asdict(self.network)
        ours |= ours.pop("front_end")
        theirs |= theirs.pop("front_end")
        differ = [key for key in theirs if theirs[key] != ours[key]]
        old, current = (", ".join(f"{key} {values[key]}" for key in differ) for values in (theirs, ours))
        cause = f"made with {old}; in use: {current}; load the collection's weights, or make a new collection"
        raise NetworkMismatchError(path, cause)


def _checksum(content: dict[str, Any]) -> str:
    """Returns the SHA-256 (hex) of the content as compact JSON with sorted keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _decoded(content: dict[str, Any]) -> Manifest:
    """Returns the manifest of a parsed file. Raises KeyError, TypeError or ValueError for a missing or wrong field."""
    network = content["network"]
    kinds: dict[Kind, Contents] = {}
    for kind in KINDS:
        part = content["kinds"][kind]
        # An index of format version 1 has no generation, and is not used.
        index = part["index"] and "generation" in part["index"] and IndexFile(**part["index"])
        kinds[kind] = Contents(**part | {"index": index or None})
    lmdb = content.get("lmdb", LMDB_NAME)  # older format versions have one name only
    for name in (lmdb, *(part.index.file for part in kinds.values() if part.index)):
        if Path(name).name != name:
            raise ValueError(f"expected the name of a file in the collection, got {name!r}")
    return Manifest(
        generation=content["generation"],
        network=NetworkIdentity(**network | {"front_end": FrontEnd(**network["front_end"])}),
        kinds=kinds,
        digest=content["digest"],
        next_number=content["next_number"],
        lmdb_size=content["lmdb_size"],
        lmdb=lmdb,
        media=content.get("media", False),
    )
