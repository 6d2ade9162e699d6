"""Trains on a folder of scores (MusicXML, kern, MEI): python examples/train.py SCORES RUN [TABLE.NAME=VALUE ...]"""

import csv
import sys
from pathlib import Path

from indexer.training import train

scores, run = (Path(path).resolve() for path in sys.argv[1:3])
files = [path for path in sorted(scores.iterdir()) if path.suffix in (".musicxml", ".mxl", ".xml", ".krn", ".mei")]
rows = [(path.name, path, "val" if number % 10 == 0 else "train") for number, path in enumerate(files)]
run.mkdir(parents=True, exist_ok=True)
with (run / "scores.csv").open("w", newline="") as file:
    csv.writer(file).writerows([("id", "path", "split"), *rows])
settings = [f"corpus.data={run}", 'corpus.manifests=["scores.csv"]', "corpus.splits=scores.csv"]
settings += ["corpus.instruments=", "corpus.responses=", "corpus.noises="]  # none but what a package carries
settings += [f"corpus.folder={run / 'corpus'}", f"training.run={run}", *sys.argv[3:]]
if __name__ == "__main__":  # its processes import this file again
    train.main([str(Path(train.__file__).with_name("default.toml")), *(f"--set={one}" for one in settings)])
    print(f"scorefind add music.sf scans/ --weights {run / 'default.safetensors'}")
