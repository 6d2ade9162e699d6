"""How well do networks find the counterpart of a snippet? Sheet snippets and audio excerpts among 2,000 candidates.

    python -m bench.embedding --data DIR [--weights FILE ...] [--corpus DIR] [--quick] [--json FILE]

Each of 2,000 pairs is two queries: its excerpt among all snippets (A2S), and its snippet among all excerpts (S2A).
Near-duplicates count as errors, as published. All networks get the same pairs: pairs whose windows lie inside their
piece even for the network with the widest windows.

- synthetic: onsets of the validation takes of the training corpus, evenly spaced over all takes. Without a corpus, the
  takes are made from the scores of indexer/training/default.toml and the SoundFont in the pretty_midi package.
- joplin: real scans, and synthesised performances of their kern.
- mozart: real scans, and synthesised performances by pianists.

The place of a note on a real scan is known to about half a measure only (see `bench.lib.passages`), so the exact ranks
of joplin and mozart are worse than the network deserves. Columns `near` also accept a candidate of the same piece that
is at most a measure away (four quarters in `synthetic`).
"""

import argparse
import timeit
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bench.lib import pairs, passages, report
from bench.lib.pairs import Material, Pairs
from engine import config, process
from engine.audio import BANDS
from engine.config import FrontEnd
from engine.embedding.documents import Encoder as AnyEncoder
from engine.embedding.encoder import DEFAULT_WEIGHTS, Encoder
from engine.metrics import summarise
from indexer.training import corpus, material
from indexer.training.corpus_settings import CorpusSettings

PAIRS = 2000
QUICK_PAIRS = 300
QUICK_PIECES = 6
"""Pieces of each set of scans with --quick, roughly, and number of takes."""
AT = (1, 5, 25)
TIMED = 512
"""Number of snippets, and of excerpts, that are embedded to measure the speed."""
DEFAULT_CORPUS = Path(corpus.__file__).with_name("default.toml")


def main(arguments: Sequence[str] | None = None) -> None:
    process.prepare()
    options = _options(arguments)
    encoders = [Encoder.load(path, threads=1) for path in options.weights]
    window = pairs.widest([encoder.identity.front_end for encoder in encoders])
    environment = report.environment()
    print(report.heading(environment))
    rows: list[dict[str, Any]] = []
    sets: dict[str, Any] = {}
    for name, make in SETS.items():
        materials, left_out = make(options, window)
        picked = pairs.pick(materials, window, QUICK_PAIRS if options.quick else PAIRS)
        if not picked:
            print(f"{name}: its data is not in {options.data}: unpack it there, or name its folder with --data")
            continue
        cut = pairs.cut(materials, picked, window)
        sets[name] = {"pieces": len(materials), "pairs": len(picked), "left out": dict(left_out)}
        print(f"{name}: {sets[name]}")
        for encoder in tqdm(encoders, desc=name, unit="network", disable=None):
            rows += rows_of(encoder, name, cut)
    speeds = [speed(encoder) for encoder in encoders]
    print("", report.table([report.with_intervals(row) for row in rows]), "", report.table(speeds), sep="\n")
    if options.json:
        networks = {report.label(encoder.identity): encoder.identity.hash for encoder in encoders}
        report.save(options.json, environment=environment, networks=networks, sets=sets, rows=rows, speeds=speeds)


def rows_of(encoder: AnyEncoder, name: str, cut: Pairs) -> list[dict[str, Any]]:
    """The table rows of one network on one set, one for each direction: R@k, MRR and MR.

    Intervals come from resampling pieces.
    """
    rows = []
    ranked = pairs.rank(pairs.seen(encoder, cut), pairs.heard(encoder, cut), cut)
    for direction, ranks in ranked.items():
        groups = cut.pieces.tolist()
        near = summarise(ranks.forgiving, at=AT[:1], groups=groups).row()
        row = {"set": name, "network": report.label(encoder.identity), "direction": direction}
        row |= summarise(ranks.exact, at=AT, groups=groups).row()
        rows.append(row | {f"near {key}": value for key, value in near.items() if key.startswith(("R@", "MRR"))})
    return rows


def speed(encoder: AnyEncoder) -> dict[str, Any]:
    """Snippets and excerpts per second that one thread embeds, the best of three runs."""
    front_end = encoder.identity.front_end
    snippets = np.full((TIMED, front_end.strip_rows, front_end.snippet_px), 255, np.uint8)
    excerpts = np.ones((TIMED, BANDS[front_end.bands], front_end.excerpt_frames), np.float32)
    row: dict[str, Any] = {"network": report.label(encoder.identity)}
    for name, embed in (
        ("snippets/s", lambda: encoder.score(snippets)),
        ("excerpts/s", lambda: encoder.recording(excerpts)),
    ):
        row[name] = TIMED / min(timeit.repeat(embed, number=1, repeat=3))
    return row


def _synthetic(options: argparse.Namespace, window: FrontEnd) -> tuple[list[Material], Counter[str]]:
    settings = config.load(CorpusSettings(), section="corpus", path=DEFAULT_CORPUS)
    settings = replace(settings, folder=options.corpus)
    if not material.is_made(settings.folder / "val") and (options.data / "splits.csv").exists():
        settings = CorpusSettings(
            data=options.data, manifests=settings.manifests, folder=options.work / "corpus", train_pieces=0
        )
        corpus.make(replace(settings, bands=(window.bands,)), FrontEnd(), jobs=1)
    takes = list(material.takes(settings.folder / "val", window.bands))
    return [taken(take) for take in takes[:: _every(options, len(takes))]], Counter()


def taken(take: material.Take) -> Material:
    """The material of a take of the corpus. The strip of a take is at half the working scale."""
    return Material(
        piece=take.piece,
        strip=take.strip,
        zoom=2,
        spectrogram=take.spectrogram,
        columns=take.columns,
        frames=take.frames,
        measures=take.quarters / 4,
    )


def _scans(name: str) -> Callable[[argparse.Namespace, FrontEnd], tuple[list[Material], Counter[str]]]:
    def make(options: argparse.Namespace, window: FrontEnd) -> tuple[list[Material], Counter[str]]:
        if not passages.present(options.data, name):
            return [], Counter()
        return passages.materials(options.data, name, window, options.work, every=_every(options, 30))

    return make


SETS = {"synthetic": _synthetic, "joplin": _scans("joplin"), "mozart": _scans("mozart")}


def _every(options: argparse.Namespace, count: int) -> int:
    return max(1, count // QUICK_PIECES) if options.quick else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the unpacked data sets")
    parser.add_argument("--weights", type=Path, nargs="+", default=[DEFAULT_WEIGHTS], help="weights of networks")
    parser.add_argument("--corpus", type=Path, default=Path("corpus"), help="training corpus whose val takes are used")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_PAIRS} pairs from a few pieces of each set")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/embedding"), help="folder that keeps strips and spectrograms"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
