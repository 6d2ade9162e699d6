"""The manifest: the small file that says which generation of a collection is in force, and what it must hold."""

import hashlib
import json
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
VERSION = 2
NAME = "manifest.json"
LMDB_NAME = "sequences.lmdb"
KINDS: tuple[Kind, ...] = get_args(Kind)
"""Tables of generations tell a kind by its place here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFile:
    """A FAISS file of the collection."""

    file: str
    size: int
    sha256: str
    generation: int
    """It holds the documents of that generation, of its kind: those in force may be others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a generation holds of one kind."""

    documents: int = 0
    snippets: int = 0
    index: IndexFile | None = None
    """None where there are so few snippets that they are all compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One generation."""

    generation: int
    network: NetworkIdentity
    kinds: dict[Kind, Contents]
    digest: str
    """SHA-256 over the number and the checksum of every document, in order."""
    next_number: int
    """Documents get numbers from here on; those below are never given again."""
    lmdb_size: int
    """Bytes of the LMDB file when it was committed: it never gets smaller."""

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """That of the collection at `path`.

        Raises CollectionMissingError, CollectionVersionError (told before the checksum is looked at: a newer format may
        have another), or CollectionDamagedError.
        """
        try:
            content = json.loads((path / NAME).read_bytes())
            given_format, version = content["format"], int(content["version"])
        except (FileNotFoundError, NotADirectoryError) as exc:
            if (path / LMDB_NAME).exists():
                raise CollectionDamagedError(path, f"{NAME} is missing beside {LMDB_NAME}; restore it") from exc
            raise CollectionMissingError(
                path, "expected a collection, got no manifest.json; add documents first"
            ) from exc
        except (ValueError, KeyError, TypeError, RecursionError) as exc:
            raise CollectionDamagedError(path, f"{NAME} cannot be parsed: {exc!r}") from exc
        if given_format != FORMAT:
            raise CollectionDamagedError(path, f"{NAME}: expected the format {FORMAT!r}, got {given_format!r}")
        if version > VERSION:
            raise CollectionVersionError(
                path, f"written in format version {version}, this program reads up to {VERSION}; use a newer scorefind"
            )
        if content.pop("checksum", None) != _checksum(content):
            raise CollectionDamagedError(path, f"{NAME} does not match its checksum")
        try:
            return _decoded(content)
        except (ValueError, KeyError, TypeError) as exc:
            raise CollectionDamagedError(path, f"{NAME} lacks something: {exc!r}") from exc

    def write(self, path: Path) -> None:
        """Puts it in force: from the rename on, readers of `path` see this generation."""
        content: dict[str, Any] = {"format": FORMAT, "version": VERSION, **asdict(self)}
        content["checksum"] = _checksum(content)
        files.sync(path)  # the names of the index files that it refers to
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
        made, given = (", ".join(f"{key} {values[key]}" for key in differ) for values in (theirs, ours))
        raise NetworkMismatchError(
            path, f"made with {made}; in force: {given}; load the weights it was made with, or make a new collection"
        )


def _checksum(content: dict[str, Any]) -> str:
    """SHA-256 of the content as compact JSON with sorted keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _decoded(content: dict[str, Any]) -> Manifest:
    network = content["network"]
    kinds: dict[Kind, Contents] = {}
    for kind in KINDS:
        held = content["kinds"][kind]
        index = held["index"] and "generation" in held["index"] and IndexFile(**held["index"])  # of version 1: no use
        kinds[kind] = Contents(**held | {"index": index or None})
    return Manifest(
        generation=content["generation"],
        network=NetworkIdentity(**network | {"front_end": FrontEnd(**network["front_end"])}),
        kinds=kinds,
        digest=content["digest"],
        next_number=content["next_number"],
        lmdb_size=content["lmdb_size"],
    )
