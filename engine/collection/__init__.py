"""The collection on disk: a directory that holds documents, their embedded snippets, and an index of these.

    manifest.json             which generation is in force, what it holds, and checksums; replaced as a whole
    sequences.lmdb            the truth: documents, embeddings, places and biases, by document number
    scores-000007.faiss       derived from it: the index of the snippets of all scores, as generation 7 wrote it
    recordings-000005.faiss   the same for recordings, which have not changed since generation 5
    writer.lock               held by the one process that writes

A reader (`Collection`) opens a generation and keeps it, whatever a writer does meanwhile. A writer
(`CollectionWriter`) makes the next generation beside it and puts it in force by renaming the manifest.
"""

from engine.collection.reader import Collection
from engine.collection.writer import CollectionWriter

__all__ = ["Collection", "CollectionWriter"]
