"""How good, and how dear, is a rival made of others' parts: transcription of the sound, perfect reading of the score?

    python -m bench.symbols --data DIR [--sound NAME ...] [--lengths S ...] [--count N] [--json FILE]

The pieces are the movements of `dev_scans_mozart`, whose true scores are known as kern. Fragments of their performances
are played with each sound and searched among all movements: by scorefind in the scanned pages, and by the rival in the
kern. The rival (`bench.lib.symbols`) hears the notes with transkun and matches their pitch sets with those of the
scores, at any tempo. It reads no page: its scores are without fault, which no optical recognition reaches. Both get the
same samples. Times are processor seconds a fragment on one thread, from samples to ranking.

Needs transkun (extra `peers`).
"""

import argparse
import functools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from bench.lib import exhaustive, pieces, report, sounds, symbols
from bench.lib.pieces import Piece, collect
from bench.lib.sounds import Sound
from bench.lib.symbols import PitchSets, Transcriber
from engine import alignment, process
from engine.alignment import Backend
from engine.audio import SAMPLE_RATE, Samples, read_audio, recording_of
from engine.collection import Collection
from engine.embedding import documents
from engine.embedding.encoder import Encoder
from engine.metrics import ranks_by_cost, summarise
from engine.values import Packed
from indexer.synthesis.engrave import Engraver

SEED = 0
SOUNDS = ("TimGM6mb", "steinhoff_upright")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragment:
    """A fragment of a performance, as it sounds."""

    piece: int
    """Number of the movement that it is from."""
    samples: Samples
    length_s: int
    sound: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolsResult:
    """What one system answers to a fragment."""

    system: str
    fragment: Fragment
    costs: NDArray[np.floating]
    """Cost of each movement, (movements,)."""
    cpu_s: float


def main(arguments: Sequence[str] | None = None) -> None:
    process.prepare()
    options = _options(arguments)
    found = pieces.pieces(options.data, "mozart")
    load = functools.partial(Encoder.load, options.weights, threads=1)
    encoder, work = load(), options.work / "mozart"
    chosen = [sounds.sound(name, options.data) for name in options.sound]
    path, _ = collect(found, work, encoder.identity, load, 1, fresh=False, sound=chosen[0])
    print(report.heading(report.environment()), flush=True)
    scores = [symbols.written_sets(Engraver(_kern(options.data, piece)).notes()) for piece in found]
    transcriber, backend = Transcriber(), alignment.choose("cpu", threads=1)
    answers: list[SymbolsResult] = []
    with Collection.open(path, encoder.identity) as collection:
        ids = collection.ids("score")
        packed = collection.packed("score").take(np.array([ids.index(piece.id) for piece in found]))
        asked = list(fragments(found, chosen, options.lengths, options.count, work))
        for fragment in tqdm(asked, unit="fragment", disable=None):
            answers.append(by_scorefind(fragment, packed, encoder, backend))
            answers.append(by_rival(fragment, scores, transcriber))
    rows = list(table_rows(answers, found))
    print("", report.table([report.with_intervals(row) for row in rows]), sep="\n")
    if options.json:
        report.save(options.json, environment=report.environment(), network=report.label(encoder.identity), rows=rows)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the unpacked data sets")
    parser.add_argument("--sound", nargs="+", default=SOUNDS, metavar="NAME", help="instruments (see bench.retrieval)")
    parser.add_argument("--lengths", nargs="+", type=int, default=(10, 20), metavar="S", help="seconds of fragments")
    parser.add_argument("--count", type=int, default=15, help="fragments of each length and sound")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--weights", type=Path, help="weights of a network (default: the shipped one)")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/retrieval"), help="folder that keeps recordings and collections"
    )
    return parser.parse_args(arguments)


def _kern(data: Path, piece: Piece) -> Path:
    return data / "dev_scans_mozart" / f"{piece.id}.krn"


def fragments(
    found: Sequence[Piece], chosen: Sequence[Sound], lengths: Sequence[int], count: int, work: Path
) -> Iterator[Fragment]:
    """Yields `count` fragments of each length and sound, from random places of different movements.

    The places are the same for all sounds.
    """
    for length_s in lengths:
        rng = np.random.default_rng((SEED, length_s))
        numbers = rng.choice(len(found), count, replace=count > len(found))
        shares = rng.random(count)
        for sound in chosen:
            for number, share in zip(numbers.tolist(), shares.tolist(), strict=True):
                source = pieces.recording(found[number], work, sound)
                samples = read_audio(source.path)
                first = int(share * max(0, len(samples) - length_s * SAMPLE_RATE))
                part = samples[first : first + length_s * SAMPLE_RATE]
                yield Fragment(piece=number, samples=part, length_s=length_s, sound=sound.name)


def by_scorefind(fragment: Fragment, packed: Packed, encoder: Encoder, backend: Backend) -> SymbolsResult:
    """The costs of the scanned movements: embedding and alignment, as `scorefind query` does."""
    started = time.process_time()
    recording = recording_of(fragment.samples, SAMPLE_RATE, encoder.identity.front_end)
    (sequence,) = documents.sequences([recording], encoder)
    (costs,) = exhaustive.costs([sequence.embeddings], packed, backend)
    return SymbolsResult(system="scorefind, scans", fragment=fragment, costs=costs, cpu_s=time.process_time() - started)


def by_rival(fragment: Fragment, scores: Sequence[PitchSets], transcriber: Transcriber) -> SymbolsResult:
    """The costs of the true scores: transcription and matching of pitch sets."""
    heard = transcriber(fragment.samples)
    started = time.process_time()
    costs = symbols.costs(symbols.heard_sets(heard), scores)
    cpu_s = heard.cpu_s + time.process_time() - started
    return SymbolsResult(system="transkun, true score", fragment=fragment, costs=costs, cpu_s=cpu_s)


def table_rows(answers: Sequence[SymbolsResult], found: Sequence[Piece]) -> Iterator[dict[str, Any]]:
    """Yields the table rows: one for each sound, length and system."""
    keys = dict.fromkeys((one.fragment.sound, one.fragment.length_s, one.system) for one in answers)
    for sound, length_s, system in sorted(keys):
        some = [
            one
            for one in answers
            if (one.fragment.sound, one.fragment.length_s, one.system) == (sound, length_s, system)
        ]
        truths = np.array([one.fragment.piece for one in some])
        ranks = ranks_by_cost(np.stack([one.costs for one in some]), truths)
        quality = summarise(ranks, groups=[found[number].id for number in truths.tolist()]).row()
        row = {"sound": sound, "length": f"{length_s} s", "system": system}
        row |= {name: quality[name] for name in ("n", "R@1", "MRR", "R@1 95%", "MRR 95%")}
        yield row | {"CPU s a fragment": float(np.mean([one.cpu_s for one in some]))}


if __name__ == "__main__":
    main()
