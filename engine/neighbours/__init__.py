"""Which document snippets are nearest to those of a query? Indexes by inner product, one type a module.

    interface.py    what every index does (`Index`), and a search shared among threads (`nearest`)
    flat.py         compares every row: up to a quarter of a million
    cells.py        an inverted file: searches a few cells of many rows, from disk
    gpu.py          a copy of either on a GPU
    amended.py      an older index, with what was added since beside it and what was removed since skipped
    centroids.py    the centroids of cells
    blocks.py       documents read in blocks, for those that build
    files.py        index files

Row i of an index is snippet i of the documents packed one after the other.
"""

from engine.neighbours import cells, flat
from engine.neighbours.amended import AmendedIndex, Segment
from engine.neighbours.cells import CellIndex, cell_count, extend, extendable
from engine.neighbours.files import checksum, load, save
from engine.neighbours.flat import FlatIndex, exact
from engine.neighbours.gpu import GpuIndex, on_gpu
from engine.neighbours.interface import PROBES, Index, Neighbours, gpus, nearest
from engine.values import Documents

__all__ = [
    "PROBES",
    "AmendedIndex",
    "CellIndex",
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
    "nearest",
    "on_gpu",
    "save",
]


def build(documents: Documents, *, threads: int) -> FlatIndex | CellIndex:
    """An index of the type that the number of snippets asks for.

    Documents are read in blocks, and memory holds 128 bytes a snippet (flat) or 41 (cells) meanwhile.
    """
    if cell_count(int(documents.offsets[-1] - documents.offsets[0])) == 0:
        return flat.build(documents)
    return cells.build(documents, threads=threads)
