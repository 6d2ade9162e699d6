"""Makes a crowd of documents, among which other benches hide their pieces: the pieces of a training corpus.

    python -m bench.crowd [--corpus DIR] [--split train|val] [--work DIR]

Benches that need a crowd make it themselves if it does not exist (`bench.lib.takes`).
"""

import argparse
from pathlib import Path

from bench.lib import takes
from engine import process
from engine.collection import Collection
from engine.embedding.encoder import DEFAULT_WEIGHTS, Encoder


def main() -> None:
    process.prepare()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=Path("corpus"), help="training corpus whose takes are used")
    parser.add_argument("--split", choices=("train", "val"), default="train")
    parser.add_argument("--work", type=Path, default=Path("runs/crowd"), help="folder that keeps the collection")
    parser.add_argument("--weights", type=Path, default=DEFAULT_WEIGHTS)
    options = parser.parse_args()
    encoder = Encoder.load(options.weights, threads=1)
    path = takes.collect(options.corpus, options.split, options.work, encoder)
    with Collection.open(path, encoder.identity) as collection:
        print(f"{path}: {len(collection.documents)} documents, {collection.snippets} snippets")


if __name__ == "__main__":
    main()
