"""Costs of right and wrong answers -> the calibration of a network's confidence (`engine.search.confidence`).

    python -m indexer.training.calibrate --pieces DIR [DIR ...] --crowd DIR [--weights FILE] [--config FILE]

All are collections of this network. Each of `--pieces` holds validation pieces in both forms, a score NAME or
NAME.score and a recording NAME.SUFFIX: nothing the network learnt from, and nothing that is measured on. `--crowd`
holds other music, at least 100 documents of a kind. 64 of each kind become the background that ships with the
calibration. Parts of all lengths, cut from the pieces, are asked for in many collections drawn from the others: of any
size, of documents of the same collection alone or with the crowd, and as often without as with the right one. Writes
NAME.calibration.safetensors beside the weights NAME.safetensors. A new network, or another alignment, needs it again.
"""

import argparse
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from engine import alignment, config, process
from engine.alignment import Backend
from engine.collection import Collection
from engine.config import Alignment, SearchSettings
from engine.embedding.encoder import DEFAULT_WEIGHTS, Encoder
from engine.search.confidence import Calibration, Costs, Scale, background_costs, beside, features
from engine.values import Document, Embeddings, Kind, Packed

BACKGROUND = 64
"""Documents of each kind: 1.3 MB. With 32 the log loss on validation was a tenth higher."""
BACKGROUND_SNIPPETS = 30
"""At least."""
QUERIES = 16
"""Cut from each document."""
SHORTEST = 2
"""Snippets: 5 s."""
DRAWS = 4
"""Collections that each query is asked for in, with the crowd and without."""
RIDGE = 1e-3

logger = logging.getLogger(__name__)

OTHER: dict[Kind, Kind] = {"score": "recording", "recording": "score"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a query costs against everything."""

    piece: str
    snippets: int
    truth: int
    """Which of `costs` is the right document's."""
    costs: Costs
    """(documents,) of the pieces' collection, then of the crowd."""
    background: Costs

    def best(self, documents: NDArray[np.int64]) -> tuple[NDArray[np.float64], bool]:
        """The features of the best match in a collection of these documents, and whether it is the right one."""
        costs = self.costs[documents]
        first = int(np.argmin(costs))
        given = features(costs, self.background, snippets=self.snippets, documents=len(costs))
        return given[first], bool(documents[first] == self.truth)


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """All that a query is aligned with, of one kind, and how."""

    own: Packed
    """Of the pieces' collection."""
    crowd: Packed
    background: Packed
    settings: Alignment
    backend: Backend

    def ask(self, part: Embeddings, piece: str, truth: int) -> Asked:
        """What a part of `piece` costs, whose right document is the collection's number `truth`."""
        found = [self.backend.align(part, documents, self.settings).costs for documents in (self.own, self.crowd)]
        return Asked(
            piece=piece,
            snippets=len(part),
            truth=truth,
            costs=np.concatenate(found),
            background=background_costs(part, self.background, self.settings, self.backend),
        )


def main(arguments: Sequence[str] | None = None) -> None:
    process.prepare(embeds=True)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pieces", type=Path, nargs="+", required=True, help="collections of validation pieces")
    parser.add_argument("--crowd", type=Path, required=True, help="collection of other music")
    parser.add_argument("--weights", type=Path, default=DEFAULT_WEIGHTS, help="of the network that made them")
    parser.add_argument("--config", type=Path, help="TOML whose table [search] lies over the default settings")
    parser.add_argument("--jobs", type=int, default=1, help="threads that align")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    network = Encoder.load(options.weights, threads=1).identity
    settings = config.load(SearchSettings(), section="search", path=options.config).alignment
    crowd = Collection.open(options.crowd, network)
    collections = [Collection.open(path, network) for path in options.pieces]
    backend = alignment.choose(threads=options.jobs)
    scales = {kind: calibrated(collections, crowd, kind, settings, backend) for kind in OTHER}
    target = beside(options.weights)
    record = {
        "pieces": [len(collection.of_kind("score")) for collection in collections],
        "crowd": len(crowd.of_kind("score")),
    }
    Calibration(network=network, alignment=settings, scales=scales).save(target, record)
    logger.info("%s: %.2f MB", target, target.stat().st_size / 1e6)


def calibrated(
    collections: Sequence[Collection], crowd: Collection, among: Kind, settings: Alignment, backend: Backend
) -> Scale:
    """The scale of one kind, with a report of how well it fits each collection, and one fitted to the others."""
    rng = np.random.default_rng(0)
    documents = crowd.packed(among)
    chosen = choose_background(documents, rng)
    background = documents.take(chosen)
    others = documents.take(np.setdiff1d(np.arange(len(documents)), chosen))
    parts = []
    for collection in collections:
        own = collection.packed(among)
        searched = Searched(own=own, crowd=others, background=background, settings=settings, backend=backend)
        parts.append(examples(list(ask(collection, searched, among, rng)), len(own), rng))
    together = [np.concatenate([part[i] for part in parts]) for i in range(2)]
    coefficients = fit(together[0], together[1])
    logger.info("%s: constant, and coefficients of the features: %s", among, np.round(coefficients, 2))
    for number, (collection, part) in enumerate(zip(collections, parts, strict=True)):
        rest = [np.concatenate([p[i] for n, p in enumerate(parts) if n != number] or [part[i]]) for i in range(2)]
        loss, transferred = log_loss(coefficients, *part), log_loss(fit(rest[0], rest[1]), *part)
        logger.info("%s: log loss %.3f; fitted to the others alone %.3f", collection.path, loss, transferred)
    return Scale(background=background, coefficients=coefficients)


def piece_of(document: Document) -> str:
    """The name that the two forms of a piece share."""
    return document.id.removesuffix(".score") if document.kind == "score" else document.id.rpartition(".")[0]


def choose_background(documents: Packed, rng: Generator) -> NDArray[np.int64]:
    """Which documents of the crowd are the background: int64 (BACKGROUND,).

    Raises ValueError if there are too few.
    """
    long_enough = np.flatnonzero(np.diff(documents.offsets) >= BACKGROUND_SNIPPETS)
    if len(long_enough) <= BACKGROUND:
        raise ValueError(
            f"expected a crowd of more than {BACKGROUND} documents of {BACKGROUND_SNIPPETS} snippets or more, "
            f"got {len(long_enough)}"
        )
    return np.sort(rng.choice(long_enough, BACKGROUND, replace=False))


def ask(collection: Collection, searched: Searched, among: Kind, rng: Generator) -> Iterator[Asked]:
    """Parts of the documents of the other kind, asked for among those of the kind `among`."""
    truths = {piece_of(document): number for number, document in enumerate(collection.of_kind(among))}
    for document in collection.of_kind(OTHER[among]):
        piece = piece_of(document)
        if piece in truths:
            for part in cuts(collection.sequence(document.id).embeddings, rng):
                yield searched.ask(part, piece, truths[piece])


def cuts(embeddings: Embeddings, rng: Generator) -> Iterator[Embeddings]:
    """QUERIES parts from random places; the logarithms of their lengths are even from SHORTEST to the whole."""
    longest = max(SHORTEST, len(embeddings))
    for length in np.exp(rng.uniform(np.log(SHORTEST), np.log(longest + 1), QUERIES)).astype(np.int64):
        first = int(rng.integers(max(1, len(embeddings) - length + 1)))
        yield np.ascontiguousarray(embeddings[first : first + length])


def examples(asked: Sequence[Asked], own: int, rng: Generator) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(n, 6) features of best matches, and (n,) whether they are right.

    own: so many of the documents, the first ones, are the collection's; half of the draws are from them alone.
    """
    found = []
    for one in asked:
        for pool in (own, len(one.costs)):
            found += [one.best(draw(one.truth, pool, rng)) for _ in range(DRAWS)]
    return np.array([match for match, _ in found]), np.array([right for _, right in found])


def draw(truth: int, pool: int, rng: Generator, size: int | None = None) -> NDArray[np.int64]:
    """A collection of some of the first `pool` documents, every other time with the right one.

    size: of the collection; by default its logarithm is even from 1 to all that there are.
    """
    others = np.delete(np.arange(pool), truth)
    size = min(len(others), size or int(np.exp(rng.uniform(0, np.log(len(others) + 1)))))
    drawn = rng.choice(others, size, replace=False)
    if rng.random() < 0.5:
        drawn[0] = truth
    return drawn


def fit(matches: NDArray[np.float64], right: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Logistic regression with a slight ridge: (1 + columns,) the constant and the coefficients.

    matches: (n, columns).
    """
    mean, scale = matches.mean(axis=0), matches.std(axis=0) + 1e-9
    inputs = (matches - mean) / scale

    def loss(coefficients: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """With its gradient."""
        slopes = coefficients[1:]
        wrong = expit(coefficients[0] + inputs @ slopes) - right
        gradient = np.concatenate([[np.mean(wrong)], wrong @ inputs / len(inputs) + RIDGE * slopes])
        return log_loss(coefficients, inputs, right) + RIDGE / 2 * float(slopes @ slopes), gradient

    coefficients = minimize(loss, np.zeros(1 + inputs.shape[1]), jac=True).x
    slopes = coefficients[1:] / scale
    return np.concatenate([[coefficients[0] - slopes @ mean], slopes])


def log_loss(coefficients: NDArray[np.float64], matches: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Mean of minus the logarithm of the probability given to what is so."""
    evidence = coefficients[0] + matches @ coefficients[1:]
    return float(np.mean(np.logaddexp(0, np.where(right, -evidence, evidence))))


if __name__ == "__main__":
    main()
