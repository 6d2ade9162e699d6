"""The collection on disk: a directory with documents, their embedded snippets, and an index of the snippets.

    manifest.json             the current generation, its counts and checksums; replaced atomically
    sequences.lmdb            documents, embeddings, places and biases, by document number; after `build` its name has
                              the generation's number, as those of the indexes
    scores-000007.faiss       index of the snippets of all scores, written by generation 7 from sequences.lmdb
    recordings-000005.faiss   index of the snippets of all recordings, written by generation 5
    writer.lock               locked by the one process that writes

A reader (`Collection`) opens a generation and keeps it, whatever a writer does meanwhile. A writer
(`CollectionWriter`) writes the next generation beside the current one, and makes it current by renaming the manifest.
`backup` copies a generation meanwhile.

A collection may lie in shards: a directory of collections with a list of them, `shards.json`. `open_collection` and
`open_writer` open either form.
"""

from engine.collection.backups import backup
from engine.collection.interface import AnyCollection, AnyWriter
from engine.collection.opening import ShardHealth, Storage, current_generation, open_collection, open_writer, storage_of
from engine.collection.reader import Collection
from engine.collection.sharded import ShardedCollection
from engine.collection.sharded_writer import ShardedWriter
from engine.collection.splitting import shard
from engine.collection.writer import CollectionWriter

__all__ = [
    "AnyCollection",
    "AnyWriter",
    "Collection",
    "CollectionWriter",
    "ShardHealth",
    "ShardedCollection",
    "ShardedWriter",
    "Storage",
    "backup",
    "current_generation",
    "open_collection",
    "open_writer",
    "shard",
    "storage_of",
]
