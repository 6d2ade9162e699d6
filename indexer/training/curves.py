"""Draws what a network learnt: MRR on validation and the loss against the pairs that it has seen.

    python -m indexer.training.curves RUN [RUN ...] --plot FILE.png

Each RUN is the folder of a training run, with its `log.jsonl`, or NAME=FOLDER. Each but the first went on from the
weights of the one before it, so their pairs are counted on. Logs the last evaluation of each run. Needs matplotlib.
"""

import argparse
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

DIRECTIONS = ("A2S MRR", "S2A MRR")
WIDTH_IN, HEIGHT_IN = 9.0, 4.5


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRun:
    """The evaluations of one training run."""

    name: str
    rows: tuple[dict[str, Any], ...]
    """Lines of `log.jsonl` that tell of an evaluation. The line of the last fit of a projection has no loss."""
    pairs_before: int
    """Pairs that the runs before it have seen."""

    @property
    def pairs(self) -> list[int]:
        """Pairs seen at each evaluation, those of the runs before included."""
        return [self.pairs_before + int(row["pairs_seen"]) for row in self.rows]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run, or NAME=FOLDER")
    parser.add_argument("--plot", type=Path, required=True, metavar="FILE", help="the picture")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    runs = read(options.runs)
    for run in runs:
        last = run.rows[-1]
        values = ", ".join(f"{name} {last[name]:.3f}" for name in DIRECTIONS)
        logger.info("%s: %s pairs, loss %.2f, %s", run.name, f"{run.pairs[-1]:,}", last["loss"], values)
    draw(runs, options.plot)


def read(given: Sequence[str]) -> list[LoggedRun]:
    """The runs of these folders, in order. Raises SystemExit if one has no log, or a log without an evaluation."""
    runs: list[LoggedRun] = []
    for word in given:
        name, _, folder = word.rpartition("=")
        path = Path(folder) / "log.jsonl"
        rows = tuple(row for row in _lines(path) if "pairs_seen" in row)
        if not rows:
            raise SystemExit(f"{path}: no evaluation yet")
        runs.append(
            LoggedRun(name=name or Path(folder).name, rows=rows, pairs_before=runs[-1].pairs[-1] if runs else 0)
        )
    return runs


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the lines of a log. Raises SystemExit if the file is missing or a line is not JSON."""
    try:
        lines = path.read_text().splitlines()
    except OSError as exc:
        raise SystemExit(f"{path}: {exc.strerror}") from exc
    for number, line in enumerate(lines, 1):
        try:
            yield json.loads(line)
        except json.JSONDecodeError as exc:
            raise SystemExit(f"{path}: expected JSON in line {number}: {exc}") from exc


def draw(runs: Sequence[LoggedRun], path: Path) -> None:
    """Draws the runs one after the other."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), layout="constrained")
    axes = figure.subplots()
    other = axes.twinx()
    for run in runs:
        millions = [pairs / 1e6 for pairs in run.pairs]
        first = run is runs[0]
        for direction, colour in zip(DIRECTIONS, ("tab:blue", "tab:orange"), strict=True):
            axes.plot(
                millions, [row[direction] for row in run.rows], ".-", color=colour, label=direction if first else None
            )
        other.plot(millions, [row["loss"] for row in run.rows], ":", color="gray", label="loss" if first else None)
        axes.axvline(run.pairs_before / 1e6, color="lightgray", linewidth=0.8)
        start = run.pairs_before / 1e6
        axes.text(start, 1.01, f" {run.name}", transform=axes.get_xaxis_transform(), fontsize=8)
    axes.set_xlabel("million pairs seen")
    axes.set_ylabel(label(runs))
    other.set_ylabel("training loss")
    figure.legend(loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=110)


def label(runs: Sequence[LoggedRun]) -> str:
    """The label of the MRR, with the number of candidates: the pairs that were validated on."""
    counts = sorted({row["pairs"] for run in runs for row in run.rows})
    return f"MRR of validation, {' or '.join(f'{count:,}' for count in counts)} candidates"


if __name__ == "__main__":
    main()
