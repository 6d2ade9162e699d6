"""Nearest-neighbour indexes: find the document snippets with the largest inner products with query snippets.

    interface.py    the interfaces `Index` (all indexes) and `FaissIndex` (those that are one FAISS index), and a search
                    by several threads (`nearest`)
    flat.py         the index that compares every row, for up to 250,000 rows
    cells.py        the index of more rows: an inverted file on disk, of which a search reads a few cells
    gpu.py          a copy of either index on a GPU
    amended.py      an older index that skips removed documents, with an index of added documents beside it
    centroids.py    the centroids of cells
    blocks.py       documents read in blocks while an index is built
    files.py        index files

Row i of an index is snippet i of the documents packed one after the other.
"""

from engine.neighbours import cells, flat
from engine.neighbours.amended import AmendedIndex, Segment
from engine.neighbours.cells import CellIndex, cell_count, extend, extendable, part
from engine.neighbours.files import checksum, load, save
from engine.neighbours.flat import FlatIndex, exact
from engine.neighbours.gpu import GpuIndex, on_gpu
from engine.neighbours.interface import PROBES, FaissIndex, Index, Neighbours, gpus, merged, nearest
from engine.values import Documents

__all__ = [
    "PROBES",
    "AmendedIndex",
    "CellIndex",
    "FaissIndex",
    "FlatIndex",
    "GpuIndex",
    "Index",
    "Neighbours",
    "Segment",
    "build",
    "cell_count",
    "checksum",
    "exact",
    "extend",
    "extendable",
    "gpus",
    "load",
    "merged",
    "nearest",
    "on_gpu",
    "part",
    "save",
]


def build(documents: Documents, *, threads: int) -> FaissIndex:
    """A new index of the documents: flat for up to 250,000 snippets, with cells for more.

    Documents are read in blocks. While the index is built, memory holds 128 bytes per snippet (flat) or 41 (cells).
    """
    if cell_count(int(documents.offsets[-1] - documents.offsets[0])) == 0:
        return flat.build(documents)
    return cells.build(documents, threads=threads)
