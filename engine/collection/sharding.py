"""Which shards a collection has, and which of them has the document of an id.

A document's shard follows from its id and the names of the shards alone, by rendezvous hashing: of all shards, the one
with the highest hash of the shard's name and the id. A further shard takes its part of the documents from all others,
and no document moves between these. So everybody agrees on the shard of an id without a table, and a document stays in
its shard whatever is added.

Documents of different lengths fall into shards by chance, so shards differ by the square root of the number of
documents: 2 % with 10,000 documents a shard, 6 % with 1,000. Weights that even out today's documents would burden
tomorrow's, and a table of ids would have to be the same everywhere at every moment, so there is neither.

Source: Thaler & Ravishankar, A Name-Based Mapping Scheme for Rendezvous (1996).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine import files, names
from engine.errors import CollectionDamagedError, CollectionError, CollectionVersionError

FORMAT = "scorefind shards"
VERSION = 1
NAME = "shards.json"
MAX_SHARDS = 64
"""Largest number of shards in one folder: each reserves 1 TiB of a process's 128 TiB of addresses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardMap:
    """The shards of a collection."""

    shards: tuple[str, ...]
    """Names of the shards, which are those of their folders."""
    written: Mapping[str, str] = field(default_factory=dict)
    """Digest of each shard when `scorefind shard` last wrote it, by its name: a shard with another one was changed
    since. Empty in collections of older versions."""
    updating: Mapping[str, str] = field(default_factory=dict)
    """Digest that a shard has after the update that runs, or that was stopped; by its name. A stopped `scorefind shard`
    leaves each shard with this digest or with that in `written`."""

    @classmethod
    def of(cls, count: int) -> "ShardMap":
        """Returns the map of a number of shards. Raises CollectionError if there are too few or too many."""
        if not 1 <= count <= MAX_SHARDS:
            raise CollectionError(NAME, f"expected 1 to {MAX_SHARDS} shards, got {count}")
        return cls(shards=tuple(f"shard-{number:03d}" for number in range(count)))

    @classmethod
    def read(cls, path: Path) -> "ShardMap":
        """Returns the map of the sharded collection at `path`.

        Raises CollectionDamagedError, or CollectionVersionError if a newer version wrote it.
        """
        try:
            content = json.loads((path / NAME).read_bytes())
            file_format, version, shards = content["format"], int(content["version"]), tuple(content["shards"])
            written, updating = (
                {str(name): str(digest) for name, digest in content.get(key, {}).items()}
                for key in ("written", "updating")
            )
            checksum = content.pop("checksum")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
            raise CollectionDamagedError(path, f"{NAME} cannot be parsed: {exc!r}") from exc
        if file_format != FORMAT:
            raise CollectionDamagedError(path, f"{NAME}: expected the format {FORMAT!r}, got {file_format!r}")
        if version > VERSION:
            raise CollectionVersionError(path, f"{NAME}: version {version}, this program reads up to {VERSION}")
        if checksum != _checksum(content):
            raise CollectionDamagedError(path, f"{NAME} does not match its checksum")
        are_names = all(isinstance(one, str) and one == Path(one).name and one not in ("", "..") for one in shards)
        if not (are_names and 1 <= len(set(shards)) == len(shards) <= MAX_SHARDS):
            raise CollectionDamagedError(path, f"{NAME}: expected names of 1 to {MAX_SHARDS} folders, got {shards}")
        return cls(shards=shards, written=written, updating=updating)

    def write(self, path: Path) -> None:
        """Writes the map, which makes the folder `path` a sharded collection."""
        content: dict[str, object] = {"format": FORMAT, "version": VERSION, "shards": list(self.shards)}
        if self.written:
            content["written"] = dict(self.written)
        if self.updating:
            content["updating"] = dict(self.updating)
        content["checksum"] = _checksum(content)
        with files.replacing(path / NAME, durable=True) as new:
            new.write_text(json.dumps(content, indent=2), encoding="utf-8")

    def home(self, id: str) -> str:
        """Returns the shard of the document with this id, in whatever composition its letters are."""
        normal = names.normal(id)
        return max(self.shards, key=lambda shard: (_weight(shard, normal), shard))


def is_sharded(path: Path) -> bool:
    """Returns whether the folder `path` is a collection in shards."""
    return (path / NAME).exists()


def _weight(shard: str, id: str) -> bytes:
    return hashlib.blake2b(f"{shard}\0{id}".encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _checksum(content: dict[str, object]) -> str:
    """Returns the SHA-256 (hex) of the content as compact JSON with sorted keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
