"""Fits the calibration of a network's confidence (`engine.search.confidence`) to costs of right and wrong matches.

    python -m indexer.training.calibrate --pieces DIR [DIR ...] --crowd DIR [--weights FILE] [--config FILE]

All arguments are collections embedded by this network. Each collection of `--pieces` holds validation pieces in both
forms: a score NAME or NAME.score, and a recording NAME.SUFFIX. The pieces must be neither in the training set nor in a
test set, and of several kinds, because ten seconds of a rag tell more than ten seconds of Ravel. `--crowd` holds other
music, at least 100 documents of each kind; 64 of each kind become the background that ships with the calibration.

The shipped calibration is fitted to rags and romantic pieces on four sounds each (`bench.retrieval`, sets joplin and
asap) and to 195 synthetic pieces (`bench.crowd --split val`, of a corpus with `val_pieces = 200`).

Queries of all lengths are cut from the pieces. Each query is searched in many random collections of any size. Half of
these have documents of the query's own collection only, half also of the crowd; half contain the right document, half
do not. The best match of each is an example of the fit.

A second function judges queries that hold more than the piece. Stretches of other pieces, applause, speech and noise
are laid before and after random parts of the pieces, and the mixtures are aligned with rests, at the price of PRICES
that tells right from wrong best.

Writes NAME.calibration.safetensors beside the weights NAME.safetensors. A new network needs a new calibration; other
settings of the alignment need one too.
"""

import argparse
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
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
from engine.search.confidence import Calibration, Costs, Scale, background_costs, beside, features, gains, rest_features
from engine.search.stillness import without_still
from engine.values import OTHER, Embeddings, Kind, Packed
from indexer.training.mixtures import Mixture, cut, made_noises, mixtures, piece_of

BACKGROUND = 64
"""Background documents of each kind: 1.3 MB. With 32, the log loss on validation was a tenth higher."""
MIN_BACKGROUND_SNIPPETS = 30
"""Length of the shortest background document."""
QUERIES = 16
"""Queries cut from each document."""
MIN_QUERY_SNIPPETS = 2
"""Length of the shortest query: 5 s."""
PRICES = (0.4, 0.45, 0.5, 0.55)
"""Prices of a rest that are tried. Right documents charge some .43 a row, wrong ones some .65. Rags are told apart best
at .45, because they resemble each other, and other music at .5 to .55; .35 and .6 are clearly worse for all."""
MIXED_SHARE = 0.2
"""Share of the collections drawn for a mixture that hold the right document. A query reaches the second function
because the first is not sure, and then the piece is mostly not there. With half, 1.6 % in place of 0.9 % of the absent
scores, and 2.2 in place of 1.9 % of the absent recordings, were said to be there (rags, 0.9 % without rests)."""
DRAWS = 4
"""Collections drawn for each query without the crowd; as many are drawn with the crowd."""
RIDGE = 1e-3
"""Weight of the ridge penalty in `fit`."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryCosts:
    """The costs of one query against all documents, and its right answer."""

    piece: str
    snippets: int
    truth: int
    """Index of the right document in `costs`."""
    costs: Costs
    """(documents,) costs of the documents of the pieces' collection, then of the crowd."""
    background: Costs
    """(BACKGROUND,) costs of the background documents."""

    def best(self, documents: NDArray[np.int64]) -> tuple[NDArray[np.float64], bool]:
        """The features of the best match among these documents, and whether it is the right document."""
        costs = self.costs[documents]
        first = int(np.argmin(costs))
        rows = self.features(costs)
        return rows[first], bool(documents[first] == self.truth)

    def features(self, costs: Costs) -> NDArray[np.float64]:
        """The inputs of the probability function for documents of these costs."""
        return features(costs, self.background, snippets=self.snippets, documents=len(costs))


class QueryGains(QueryCosts):
    """The gains of one query with rests. `costs` and `background` hold the negative gains, so that lower is better."""

    def features(self, costs: Costs) -> NDArray[np.float64]:
        """The inputs of the probability function for documents of these negative gains."""
        return rest_features(-costs, -self.background, snippets=self.snippets, documents=len(costs))


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentPool:
    """The documents of one kind that a query is aligned with, and the settings of the alignment."""

    own: Packed
    """Documents of the pieces' collection."""
    crowd: Packed
    """Documents of the crowd that are not in the background."""
    background: Packed
    """Documents that judge how cheap a wrong match is (`Scale.background`)."""
    settings: Alignment
    backend: Backend

    def costs(self, part: Embeddings, piece: str, truth: int) -> QueryCosts:
        """The costs of a part of `piece`, whose right document is number `truth` of the pieces' collection."""
        part = without_still(part)  # as a search does
        costs = [self.backend.align(part, documents, self.settings).costs for documents in (self.own, self.crowd)]
        return QueryCosts(
            piece=piece,
            snippets=len(part),
            truth=truth,
            costs=np.concatenate(costs),
            background=background_costs(part, self.background, self.settings, self.backend),
        )

    def gains(self, mixture: Mixture) -> QueryGains:
        """The gains of a mixture; minus infinity for its other pieces, so that none of them is best."""
        given = self.costs(mixture.embeddings, mixture.piece, mixture.truth)
        own = gains(given.costs, self.settings, given.snippets)
        own[list(mixture.others)] = -np.inf
        background = gains(given.background, self.settings, given.snippets)
        return QueryGains(
            piece=given.piece, snippets=given.snippets, truth=given.truth, costs=-own, background=-background
        )


def main(arguments: Sequence[str] | None = None) -> None:
    process.prepare()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pieces", type=Path, nargs="+", required=True, help="collections of validation pieces")
    parser.add_argument("--crowd", type=Path, required=True, help="collection of other music")
    parser.add_argument(
        "--weights", type=Path, default=DEFAULT_WEIGHTS, help="weights of the network that embedded the collections"
    )
    parser.add_argument("--config", type=Path, help="TOML file whose table [search] changes the default settings")
    parser.add_argument("--jobs", type=int, default=1, help="threads that align")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    encoder = Encoder.load(options.weights, threads=1)
    network = encoder.identity
    settings = config.load(SearchSettings(), section="search", path=options.config).alignment
    crowd = Collection.open(options.crowd, network)
    collections = [Collection.open(path, network) for path in options.pieces]
    backend = alignment.choose(threads=options.jobs)
    scales = {kind: calibrated(collections, crowd, kind, settings, backend) for kind in OTHER}
    noises: dict[Kind, list[Embeddings]] = {"score": [], "recording": made_noises(encoder)}
    price, scales = with_rests(collections, crowd, scales, noises, settings, backend)
    target = beside(options.weights)
    record = {
        "pieces": [len(collection.of_kind("score")) for collection in collections],
        "crowd": len(crowd.of_kind("score")),
    }
    Calibration(network=network, alignment=settings, scales=scales, rest_price=price).save(target, record)
    logger.info("%s: %.2f MB", target, target.stat().st_size / 1e6)


def calibrated(
    collections: Sequence[Collection], crowd: Collection, among: Kind, settings: Alignment, backend: Backend
) -> Scale:
    """The scale of one kind, fitted to all collections.

    Logs the log loss on each collection, and that of coefficients fitted to the collections without any of its pieces.
    """
    rng = np.random.default_rng(0)
    documents = crowd.packed(among)
    chosen = choose_background(documents, rng)
    background = documents.take(chosen)
    others = documents.take(np.setdiff1d(np.arange(len(documents)), chosen))
    parts, names = [], []
    for collection in collections:
        own = collection.packed(among)
        pool = DocumentPool(own=own, crowd=others, background=background, settings=settings.ranking, backend=backend)
        queries = list(query_costs(collection, pool, among, rng))
        parts.append(examples(queries, len(own), rng))
        names.append({query.piece for query in queries})
    together = [np.concatenate([part[i] for part in parts]) for i in range(2)]
    coefficients = fit(together[0], together[1])
    logger.info("%s: constant and coefficients of the features: %s", among, np.round(coefficients, 2))
    for collection, part, own_names in zip(collections, parts, names, strict=True):
        # The same pieces on other sounds would flatter the loss, as the collection itself would.
        rest = [other for other, of_other in zip(parts, names, strict=True) if not own_names & of_other]
        transferred = "no other music to fit to"
        if rest:
            fitted = fit(*(np.concatenate([other[i] for other in rest]) for i in range(2)))
            transferred = f"fitted to other music alone {log_loss(fitted, *part):.3f}"
        logger.info("%s: log loss %.3f; %s", collection.path, log_loss(coefficients, *part), transferred)
    return Scale(background=background, coefficients=coefficients)


def with_rests(
    collections: Sequence[Collection],
    crowd: Collection,
    scales: dict[Kind, Scale],
    noises: dict[Kind, list[Embeddings]],
    settings: Alignment,
    backend: Backend,
) -> tuple[float, dict[Kind, Scale]]:
    """The price of a rest, and the scales with the coefficients that are fitted to alignments at this price.

    The price is the one of PRICES with the lowest log loss on the collection that fares worst, summed over both kinds:
    else several recordings of the same pieces would outvote other music.

    noises: embeddings of sounds that are no music, by the kind of the query.
    """
    fitted: dict[float, dict[Kind, NDArray[np.float64]]] = {price: {} for price in PRICES}
    losses = dict.fromkeys(PRICES, 0.0)
    for among, scale in scales.items():
        others = without(crowd.packed(among), scale.background)
        mixed = [list(mixtures(one, noises[OTHER[among]], among, np.random.default_rng(1))) for one in collections]
        for price in PRICES:
            parts = []
            for collection, made in zip(collections, mixed, strict=True):
                pool = DocumentPool(
                    own=collection.packed(among),
                    crowd=others,
                    background=scale.background,
                    settings=replace(settings, rest_price=price),
                    backend=backend,
                )
                queries = [pool.gains(mixture) for mixture in made]
                parts.append(examples(queries, len(pool.own), np.random.default_rng(2), MIXED_SHARE))
            coefficients = fit(*(np.concatenate([part[i] for part in parts]) for i in range(2)))
            each = [log_loss(coefficients, *part) for part in parts]
            logger.info("%s: log loss with rests at %.2f, by collection: %s", among, price, np.round(each, 3))
            fitted[price][among] = coefficients
            losses[price] += max(each)
    best = min(PRICES, key=losses.__getitem__)
    return best, {kind: replace(scale, rest_coefficients=fitted[best][kind]) for kind, scale in scales.items()}


def without(documents: Packed, background: Packed) -> Packed:
    """The documents that are not in the background."""
    known = {background.embeddings[start:end].tobytes() for start, end in _spans(background)}
    kept = [
        i for i, (start, end) in enumerate(_spans(documents)) if documents.embeddings[start:end].tobytes() not in known
    ]
    return documents.take(np.array(kept, dtype=np.int64))


def _spans(documents: Packed) -> list[tuple[int, int]]:
    return list(zip(documents.offsets[:-1].tolist(), documents.offsets[1:].tolist(), strict=True))


def choose_background(documents: Packed, rng: Generator) -> NDArray[np.int64]:
    """Indices of the crowd's documents that become the background: int64 (BACKGROUND,), rising.

    Raises ValueError if too few documents of the crowd are long enough.
    """
    long_enough = np.flatnonzero(np.diff(documents.offsets) >= MIN_BACKGROUND_SNIPPETS)
    if len(long_enough) <= BACKGROUND:
        raise ValueError(
            f"expected a crowd of more than {BACKGROUND} documents of {MIN_BACKGROUND_SNIPPETS} snippets or more, "
            f"got {len(long_enough)}"
        )
    return np.sort(rng.choice(long_enough, BACKGROUND, replace=False))


def query_costs(collection: Collection, pool: DocumentPool, among: Kind, rng: Generator) -> Iterator[QueryCosts]:
    """Yields the costs of queries cut from the other kind's documents, aligned with the documents of kind `among`."""
    truths = {piece_of(document): number for number, document in enumerate(collection.of_kind(among))}
    for document in collection.of_kind(OTHER[among]):
        piece = piece_of(document)
        if piece in truths:
            for part in cuts(collection.sequence(document.id).embeddings, rng):
                yield pool.costs(part, piece, truths[piece])


def cuts(embeddings: Embeddings, rng: Generator) -> Iterator[Embeddings]:
    """Yields QUERIES parts from random places; the logarithm of the length is uniform up to the whole document."""
    longest = max(MIN_QUERY_SNIPPETS, len(embeddings))
    for length in np.exp(rng.uniform(np.log(MIN_QUERY_SNIPPETS), np.log(longest + 1), QUERIES)).astype(np.int64):
        yield cut(embeddings, int(length), rng)


def examples(
    queries: Sequence[QueryCosts], own: int, rng: Generator, share: float = 0.5
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Features of best matches in random collections, (n, columns), and whether each match is right, (n,).

    own: number of documents of the pieces' collection, which come first in `costs`. Half of the random collections have
        these documents only.
    share: of the random collections, how many hold the right document.
    """
    best = []
    for query in queries:
        for count in (own, len(query.costs)):
            best += [query.best(draw(query.truth, count, rng, share=share)) for _ in range(DRAWS)]
    return np.array([match for match, _ in best]), np.array([right for _, right in best])


def draw(truth: int, count: int, rng: Generator, size: int | None = None, share: float = 0.5) -> NDArray[np.int64]:
    """Indices of a random collection of the first `count` documents.

    size: number of documents; by default its logarithm is uniform from one document to all but one.
    share: probability that the right document is in it.
    """
    others = np.delete(np.arange(count), truth)
    size = min(len(others), size or int(np.exp(rng.uniform(0, np.log(len(others) + 1)))))
    drawn = rng.choice(others, size, replace=False)
    if rng.random() < share:
        drawn[0] = truth
    return drawn


def fit(matches: NDArray[np.float64], right: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Constant and coefficients, (1 + columns,), of a logistic regression with a small ridge penalty.

    matches: (n, columns).
    """
    mean, scale = matches.mean(axis=0), matches.std(axis=0) + 1e-9
    inputs = (matches - mean) / scale

    def loss(coefficients: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """The penalised log loss, and its gradient."""
        slopes = coefficients[1:]
        wrong = expit(coefficients[0] + inputs @ slopes) - right
        gradient = np.concatenate([[np.mean(wrong)], wrong @ inputs / len(inputs) + RIDGE * slopes])
        return log_loss(coefficients, inputs, right) + RIDGE / 2 * float(slopes @ slopes), gradient

    coefficients = minimize(loss, np.zeros(1 + inputs.shape[1]), jac=True).x
    slopes = coefficients[1:] / scale
    return np.concatenate([[coefficients[0] - slopes @ mean], slopes])


def log_loss(coefficients: NDArray[np.float64], matches: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """The mean negative logarithm of the probability that was given to the true outcome."""
    evidence = coefficients[0] + matches @ coefficients[1:]
    return float(np.mean(np.logaddexp(0, np.where(right, -evidence, evidence))))


if __name__ == "__main__":
    main()
