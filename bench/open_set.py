"""Does the search know when a query's document is absent? Queries in collections that lack half of the right documents.

    python -m bench.open_set --data DIR [--set dev|joplin] [--sound NAME] [--corpus DIR [--made N]] [--plot FILE.png]
        [--quick] [--json FILE]

Recordings, whole and in fragments of 5, 10, 20 and 40 s, are searched among the scores (A2S). Scores, whole and one,
two and four consecutive systems, are searched among the recordings (S2A). All documents are aligned. A random half of
the right documents is removed, eight times, so half of the queries have no right answer. They are *unknown*, the
others *known*.

- alone: the collection holds the remaining documents of the set.
- crowd: it also holds the takes of a training corpus (`bench.crowd`); needs --corpus.
- made: it also holds N documents of each kind made of these takes (`bench.lib.made_documents`); needs --made.

- AUROC: probability that a known query gets a more confident best match than an unknown one.
- false alarms at 95 %: share of the unknown queries that reach the confidence which 95 % of the known ones reach.
- ECE: distance between confidence and share of right best matches, mean over ten bins of equally many queries.
- found, false at .8: share of the known, and of the unknown queries, whose answer says "in the collection".
- found, false at .5: share of them whose answer does not say "not in the collection".

The confidence was calibrated on other pieces (`indexer.training.calibrate`). Intervals: bootstrap over pieces.
"""

import argparse
import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from tqdm import tqdm

from bench.lib import intervals, made_documents, pieces, queries, report, sounds
from bench.lib.detection import Numbers, Truths, auroc, bins, calibration_error, false_alarms
from bench.lib.made_documents import DistractorSource
from bench.lib.pieces import collect, collection_sizes
from bench.lib.queries import AMONG, Direction, LabelledQuery
from bench.lib.takes import collect as collect_takes
from engine import alignment, config, process
from engine.arguments import positive
from engine.collection import Collection
from engine.config import SearchSettings
from engine.embedding.encoder import DEFAULT_WEIGHTS, Encoder
from engine.search.confidence import LIKELY, SURE, Calibration, Scale, beside, gaps
from engine.values import DIMENSION, Kind, Packed
from indexer.training.calibrate import DocumentPool, QueryCosts, draw, without

LENGTHS_S = (5, 10, 20, 40)
SYSTEMS = (1, 2, 4)
HALVES, QUICK_HALVES = 8, 2
SIZES = (1, 5, 20, 70, 200, 500, 1300, 4000, 12_000, 40_000)
SURROUNDINGS = {"alone": "the set alone", "crowd": "in the crowd", "made": "and made documents"}
RESAMPLES = 200
SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The best matches of n queries, each in one collection. All arrays are (n,)."""

    confidence: Numbers
    """Confidence of the best match."""
    right: Truths
    """Whether the best match is the right one."""
    known: Truths
    """Whether the collection holds the right one."""
    ingredients: dict[str, Numbers]
    """Other scores of the best match, by name; higher means surer."""
    form: NDArray[np.str_]
    piece: NDArray[np.str_]

    def part(self, chosen: Truths | NDArray[np.int64]) -> "Judged":
        return Judged(
            confidence=self.confidence[chosen],
            right=self.right[chosen],
            known=self.known[chosen],
            ingredients={name: values[chosen] for name, values in self.ingredients.items()},
            form=self.form[chosen],
            piece=self.piece[chosen],
        )


def main(arguments: Sequence[str] | None = None) -> None:
    process.prepare()
    options = _options(arguments)
    load = functools.partial(Encoder.load, options.weights, threads=1)
    encoder = load()
    network = encoder.identity
    settings = config.load(SearchSettings(), section="search", path=options.config)
    calibration = Calibration.load(beside(options.weights), network, settings.alignment)
    if calibration is None:
        raise SystemExit(
            "expected a calibration of this network and alignment, got none: make one with indexer.training.calibrate"
        )
    found = pieces.pieces(options.data, options.set)[: 12 if options.quick else None]
    sound = sounds.sound(options.sound, options.data)
    path, _ = collect(found, options.work / options.set, network, load, options.jobs, fresh=False, sound=sound)
    environment = report.environment()
    print(report.heading(environment))
    print(f"sound: {sound.name}, heard in training: {'yes' if sound.heard else 'no'}")
    sizes = {}
    judged: dict[tuple[Direction, str], Judged] = {}
    by_size: list[dict[str, Any]] = []
    with contextlib.ExitStack() as opened:
        collection = opened.enter_context(Collection.open(path, network))
        crowd = None
        if options.corpus:
            takes = collect_takes(options.corpus, "train", options.work.parent / "crowd", encoder)
            crowd = opened.enter_context(Collection.open(takes, network))
        for name, one in (("set", collection), ("crowd", crowd)):
            sizes[name] = collection_sizes(one) if one else {}
        print(f"{report.label(network)}, {sizes}", flush=True)
        asked = list(ask(collection, found, 1 if options.quick else options.fragments))
        for direction, kind in AMONG.items():
            scale = calibration.scales[kind]
            parts = {"alone": collection.packed(kind)}
            if crowd:
                parts["crowd"] = without(crowd.packed(kind), scale.background)
            if crowd and options.made:
                parts["made"] = made_of(crowd.packed(kind), kind, parts["alone"], encoder, options.made)
            costs = aligned(asked, direction, collection, join(list(parts.values())[1:]), calibration, options.jobs)
            lengths = np.concatenate([np.diff(part.offsets) for part in parts.values()])
            pools = np.cumsum([len(part) for part in parts.values()]).tolist()
            for name, pool in zip(parts, pools, strict=True):
                halves = QUICK_HALVES if options.quick else HALVES
                judged[direction, name] = halved(costs, scale, lengths, pools[0], pool, halves)
            by_size += size_rows(direction, costs, scale, lengths)
    rows = [row for (direction, name), one in judged.items() for row in form_rows(direction, name, one)]
    ingredients = [row for (direction, name), one in judged.items() for row in ingredient_rows(direction, name, one)]
    print("", report.table([report.with_intervals(row) for row in rows]), sep="\n")
    print("", "Each ingredient of the confidence alone, all queries:", report.table(ingredients), sep="\n")
    print("", "By number of documents, drawn from all:", report.table(by_size), sep="\n")
    if options.plot:
        draw_reliability(judged, options.plot)
    if options.json:
        report.save(
            options.json,
            environment=environment,
            sound=sound.name,
            network={"name": network.name, "hash": network.hash},
            sizes=sizes,
            rows=rows,
            ingredients=ingredients,
            by_size=by_size,
        )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the unpacked data sets")
    parser.add_argument("--set", choices=sorted(pieces.SETS), default="dev")
    parser.add_argument(
        "--sound", default=sounds.TIMGM6MB.name, help="what plays the performances (see bench.retrieval)"
    )
    parser.add_argument("--corpus", type=Path, help="training corpus whose takes are the crowd (default: no crowd)")
    parser.add_argument("--made", type=int, default=0, metavar="N", help="documents of each kind made of the crowd")
    parser.add_argument("--plot", type=Path, help="draw the reliability to this file; needs matplotlib")
    parser.add_argument("--quick", action="store_true", help=f"12 pieces, one fragment each, {QUICK_HALVES} halves")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--weights", type=Path, default=DEFAULT_WEIGHTS)
    parser.add_argument("--config", type=Path, help="TOML file whose table [search] changes the default settings")
    parser.add_argument(
        "--fragments", type=int, default=3, help="number of fragments of each length from each document"
    )
    parser.add_argument("--jobs", type=positive, default=2, help="threads that align")
    parser.add_argument("--work", type=Path, default=Path("runs/retrieval"), help="folder that keeps collections")
    options = parser.parse_args(arguments)
    if options.made and not options.corpus:
        parser.error("--made needs --corpus: documents are made of its takes")
    return options


def ask(collection: Collection, found: Sequence[pieces.Piece], per_piece: int) -> Iterator[LabelledQuery]:
    """The queries whose right document is in the collection."""
    rng = np.random.default_rng(SEED)
    held = {document.id for document in collection.documents}
    front_end = collection.network.front_end
    for query in queries.whole(collection, found):
        if query.truth not in held:
            continue
        yield query
        for _ in range(per_piece):
            for size in LENGTHS_S if query.direction == "A2S" else SYSTEMS:
                yield queries.fragment(query, size, front_end, rng)


def aligned(
    asked: Sequence[LabelledQuery],
    direction: Direction,
    collection: Collection,
    others: Packed,
    calibration: Calibration,
    threads: int,
) -> list[tuple[str, QueryCosts]]:
    """The form of each query of a direction, and its costs against the documents of the collection, then the others."""
    kind = AMONG[direction]
    ids = collection.ids(kind)
    documents = DocumentPool(
        own=collection.packed(kind),
        crowd=others,
        background=calibration.scales[kind].background,
        settings=calibration.alignment.ranking,
        backend=alignment.choose(threads=threads),
    )
    some = [query for query in asked if query.direction == direction]
    return [
        (query.form, documents.costs(query.sequence.embeddings, query.piece, ids.index(query.truth)))
        for query in tqdm(some, unit="query", disable=None, leave=False)
    ]


def made_of(real: Packed, kind: Kind, like: Packed, encoder: Encoder, count: int) -> Packed:
    """`count` documents made of real ones, with lengths drawn from those of `like`."""
    source = DistractorSource.of(real, kind, np.diff(like.offsets))
    numbers = tqdm(range(count), desc=kind, unit="document", disable=None, leave=False)
    return made_documents.pack([made_documents.made(source, number, encoder)[1] for number in numbers])


def join(parts: Sequence[Packed]) -> Packed:
    """The documents of all parts in one object."""
    lengths = [np.diff(part.offsets) for part in parts]
    return Packed(
        embeddings=np.concatenate([np.empty((0, DIMENSION), np.float16), *(part.embeddings for part in parts)]),
        bias=np.concatenate([np.empty(0, np.float32), *(part.bias for part in parts)]),
        offsets=np.cumsum(np.concatenate([[0], *lengths]), dtype=np.int64),
    )


def halved(
    costs: Sequence[tuple[str, QueryCosts]], scale: Scale, lengths: NDArray[np.int64], own: int, pool: int, halves: int
) -> Judged:
    """The best matches of all queries in `halves` collections.

    Each collection has a random half of the first `own` documents, and the documents from there up to `pool`.
    """
    rng = np.random.default_rng(SEED)
    rows = []
    for _ in range(halves):
        kept = np.sort(np.concatenate([rng.choice(own, own // 2, replace=False), np.arange(own, pool)]))
        rows += [judge(form, one, scale, lengths, kept) for form, one in costs]
    return _gathered(rows)


def judge(
    form: str, asked: QueryCosts, scale: Scale, lengths: NDArray[np.int64], kept: NDArray[np.int64]
) -> dict[str, Any]:
    """The best match of one query in the collection of the documents `kept`."""
    costs = asked.costs[kept]
    best = int(np.argmin(costs))
    numbers = {"snippets": asked.snippets, "documents": len(kept)}
    others = np.delete(np.append(costs, asked.background), best)
    null = np.minimum(asked.background, 2.0)  # a document too short to be aligned has no cost
    sizes = np.log(np.diff(scale.background.offsets))
    slope, level = np.polyfit(sizes, null, 1)
    return {
        "form": form,
        "piece": asked.piece,
        "right": kept[best] == asked.truth,
        "known": asked.truth in kept,
        "confidence": scale.probabilities(costs, asked.background, **numbers)[best],
        "cost": -costs[best],
        "z": (np.mean(null) - costs[best]) / np.std(null),
        "z, length taken out": (level + slope * np.log(lengths[kept[best]]) - costs[best])
        / np.std(null - level - slope * sizes),
        "margin to the second": np.min(others) - costs[best],
        "gap to the fifth": -gaps(costs, asked.background)[1][best],
    }


def _gathered(rows: Sequence[dict[str, Any]]) -> Judged:
    fields = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    plain = {name: fields.pop(name) for name in ("form", "piece", "right", "known", "confidence")}
    return Judged(**plain, ingredients=fields)


def form_rows(direction: Direction, name: str, judged: Judged) -> Iterator[dict[str, Any]]:
    """The table rows of one collection: one for each form of query, and one for all forms together."""
    for form in [*dict.fromkeys(judged.form.tolist()), "all"]:
        part = judged.part((judged.form == form) | (form == "all"))
        row: dict[str, Any] = {"direction": direction, "collection": name, "query": form, "n": len(part.known)}
        row["R@1 of known"] = float(np.mean(part.right[part.known]))
        figures: dict[str, Callable[[Judged], float]] = {
            "AUROC": lambda one: auroc(one.confidence, one.known),
            "false alarms at 95%": lambda one: false_alarms(one.confidence, one.known),
            "ECE": lambda one: calibration_error(one.confidence, one.right),
            "found at .5": lambda one: float(np.mean(one.confidence[one.known] >= LIKELY)),
            "false at .5": lambda one: float(np.mean(one.confidence[~one.known] >= LIKELY)),
            "found at .8": lambda one: float(np.mean(one.confidence[one.known] >= SURE)),
            "false at .8": lambda one: float(np.mean(one.confidence[~one.known] >= SURE)),
        }
        for figure, measure in figures.items():
            row |= intervals.of_queries(figure, _of_drawn(measure, part), part.piece, RESAMPLES)
        yield row


def _of_drawn(measure: Callable[[Judged], float], judged: Judged) -> Callable[[NDArray[np.int64]], float]:
    """A function that measures some of the queries, given their numbers."""
    return lambda drawn: measure(judged.part(drawn))


def ingredient_rows(direction: Direction, name: str, judged: Judged) -> Iterator[dict[str, Any]]:
    """The table rows with the AUROC of the confidence, and of each ingredient of the confidence alone."""
    for ingredient, values in {**judged.ingredients, "confidence": judged.confidence}.items():
        yield {
            "direction": direction,
            "collection": name,
            "by": ingredient,
            "AUROC": auroc(values, judged.known),
            "false alarms at 95%": false_alarms(values, judged.known),
            "AUROC of right": auroc(values, judged.right),
        }


def size_rows(
    direction: Direction, costs: Sequence[tuple[str, QueryCosts]], scale: Scale, lengths: NDArray[np.int64]
) -> Iterator[dict[str, Any]]:
    """The table rows by size of collection: each query in a random collection, every other time with its document."""
    for size in SIZES:
        if size < len(lengths):
            rng: Generator = np.random.default_rng(SEED)
            rows = [judge(form, one, scale, lengths, draw(one.truth, len(lengths), rng, size)) for form, one in costs]
            judged = _gathered(rows)
            yield {
                "direction": direction,
                "documents": size,
                "AUROC": auroc(judged.confidence, judged.known),
                "false alarms at 95%": false_alarms(judged.confidence, judged.known),
                "ECE": calibration_error(judged.confidence, judged.right),
                "mean confidence": float(np.mean(judged.confidence)),
                "right": float(np.mean(judged.right)),
            }


def draw_reliability(judged: dict[tuple[Direction, str], Judged], path: Path) -> None:
    """Draws confidence against the share of best matches that are right, one panel for each direction."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(AMONG), figsize=(9, 4.5), sharey=True, layout="constrained")
    for axis, direction in zip(axes, AMONG, strict=True):
        axis.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        for name in [name for where, name in judged if where == direction]:
            one = judged[direction, name]
            points = bins(one.confidence, one.right)
            error = calibration_error(one.confidence, one.right)
            label = f"{SURROUNDINGS[name]}, ECE {error:.3f}, n = {len(one.right)}"
            axis.plot([p for p, _, _ in points], [share for _, share, _ in points], marker="o", label=label)
        axis.set(title=direction, xlabel="confidence of the best match", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axis.legend(loc="upper left", fontsize="small")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("share that is right")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
