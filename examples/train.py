"""Trains on a folder of scores (MusicXML, kern, MEI): python examples/train.py SCORES RUN [TABLE.NAME=VALUE ...]"""

import csv
import sys
from pathlib import Path

from indexer.training import train

scores, run = (Path(path).resolve() for path in sys.argv[1:3])
files = [path for path in sorted(scores.iterdir()) if path.suffix in (".musicxml", ".mxl", ".xml", ".krn", ".mei")]
run.mkdir(parents=True, exist_ok=True)
splits = ["val" if number % 10 == 0 else "train" for number in range(len(files))]
for name, column, values in (("scores.csv", "path", files), ("splits.csv", "split", splits)):
    with (run / name).open("w", newline="") as file:
        rows = zip((path.name for path in files), values, strict=True)
        csv.writer(file).writerows([("id", column), *rows])
settings = [f"corpus.data={run}", 'corpus.manifests=["scores.csv"]']
settings += ["corpus.instruments=", "corpus.responses=", "corpus.noises="]  # none but what a package carries
settings += [f"corpus.folder={run / 'corpus'}", f"training.run={run}", *sys.argv[3:]]
if __name__ == "__main__":  # its processes import this file again
    train.main([str(Path(train.__file__).with_name("default.toml")), *(f"--set={one}" for one in settings)])
    print(f"scorefind add music.sf scans/ --weights {run / 'default.safetensors'}")
