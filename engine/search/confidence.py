"""Confidence of a match: the probability that a document is the piece searched for.

The cost of an alignment is a log-likelihood ratio per snippet (`Encoder.bias`), so the cost alone says much. The cost
does not say how cheap documents get that are *not* the piece. That depends on the query (a waltz bass fits many
pieces), on the number of documents, and on how much they resemble the query. The costs of the other documents show all
this. Therefore the confidence uses the gap: the cost of the match minus that of the fifth-cheapest other document. The
fifth, so that up to four further editions or recordings of the piece do not lower each other's confidence. A small
collection may hold too few other documents. So the query is also aligned with a fixed background of documents, which
comes with the calibration, and these count among the other documents.

The probability is a logistic function of the cost, the gap, the mean cost of the background, and the logarithms of the
query's length and of the number of documents. The background's mean tells queries that fit everything from queries that
fit nothing. The gap counts the more the more documents it is won against and the longer the query is, the cost the more
the longer the query is. Fitted to rags and judged on other music, and the other way round, the log loss among scores is
.231 and .224, among recordings .160 and .156. Without the gap times the root of the length it is .233, .227, .164 and
.167, without the background's mean 4 to 28 % more; fourteen other sets of features gained nothing in all four. The
square of the gap would gain a little more, but it would not always fall as the gap grows.
`indexer.training.calibrate` fits the function for one network and one alignment, so that the probabilities of best
matches are right. Each match is judged alone; the probabilities do not sum to one. Behind the best match they are a
little high: second matches get 2 to 7 % on average, and 0.2 to 2 % of them are right.

A query may hold more than the piece: silence, speech, applause, other pieces. Then a second function judges its
alignment with rests (`Alignment.rest_price`). In place of the cost it has the *gain*: what the alignment saves against
leaving out the whole query. A row adds to the gain where the document charges less than the price, which lies between
what right and what wrong documents charge. So the gain of a wrong document stays near 0 however long the query is, and
that of the right one grows with each row that fits. Pieces in one query do not disturb each other: each has its own
gain, and the fifth-largest other gain is what a wrong document gets, whichever stretch it matches. Compare Smith &
Waterman, Identification of Common Molecular Subsequences (1981), whose local alignments have the same form. Gains enter
as logarithms: with the gains themselves, the log loss on validation was a quarter higher or more.

Costs alone rank the documents. Two other rankings found fewer pieces among 1,400 documents: costs corrected for the
length of a document, and costs normalised by a document's mean and spread over other queries. The bias of each snippet
already corrects for these effects.
"""

import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import tensors
from engine.alignment import Backend
from engine.config import Alignment
from engine.values import Embeddings, Kind, NetworkIdentity, Packed

logger = logging.getLogger(__name__)

DEFAULT_CALIBRATION = Path(__file__).parents[1] / "weights" / "default.calibration.safetensors"
"""The calibration of the shipped network."""

FORMAT = "scorefind-calibration"
FORMAT_VERSION = 3

LIKELY = 0.5
"""Probability from which a match counts as right. If the best match has less, the answer says that the piece is not in
the collection."""
SURE = 0.8
"""Probability of the best match from which an answer says that the piece is in the collection. Of wrong best matches of
queries from ten seconds on, 0 to 3 % reach it on validation music of a kind that was not in the fit, and 1 to 14 %
reach LIKELY."""
OTHERS = 5
"""Each match is compared with the fifth-cheapest other document. On validation 3 to 5 were equally good, 1 and 12 were
worse. 1, the margin to the second best, would also give a low confidence if the collection has two editions of the
piece."""

CALIBRATED_DOCUMENTS = 1400
"""Largest number of documents that the function uses, because calibrations are fitted with at most this many. With the
true number, most pieces found by ten seconds among 20,000 documents got a confidence below 0.5. The gap already shows
what a larger collection does to the costs."""

Costs = NDArray[np.float32]
"""Costs of documents, (documents,), lower is better; infinite where there is no alignment."""
Probabilities = NDArray[np.float64]
"""Probabilities of documents, (documents,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The probability function for documents of one kind."""

    background: Packed
    """Documents of other music, which count among the other documents of each match."""
    coefficients: NDArray[np.float64]
    """Coefficients of the logistic function, (8,): a constant, then one coefficient for each of `features`."""
    rest_coefficients: NDArray[np.float64] | None = None
    """Coefficients of the function for alignments with rests, (6,): a constant, then one for each of `rest_features`;
    None if there is no such function."""

    def probabilities(self, costs: Costs, background_costs: Costs, *, snippets: int, documents: int) -> Probabilities:
        """Returns the probability that each document is the piece, (k,); 0 where there is no alignment.

        The arguments are those of `features`.
        """
        values = features(costs, background_costs, snippets=snippets, documents=documents)
        return np.where(np.isfinite(costs), _logistic(self.coefficients, values), 0.0)

    def rested_probabilities(
        self, gains: Costs, background_gains: Costs, *, snippets: int, documents: int
    ) -> Probabilities:
        """Returns the probability that each document is a piece in the query, (k,); 0 where there is no alignment.

        The arguments are those of `rest_features`. Raises ValueError without `rest_coefficients`.
        """
        if self.rest_coefficients is None:
            raise ValueError("expected coefficients for alignments with rests, got none")
        values = rest_features(gains, background_gains, snippets=snippets, documents=documents)
        return np.where(np.isfinite(gains), _logistic(self.rest_coefficients, values), 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The probability functions of one network and one alignment, for queries of the other kind than the documents."""

    network: NetworkIdentity
    alignment: Alignment
    scales: dict[Kind, Scale]
    """The function for each kind of documents searched."""
    rest_price: float = float("inf")
    """Price of a rest (`Alignment.rest_price`) that `Scale.rest_coefficients` are fitted to; infinity: there are
    none."""

    @property
    def rests(self) -> Alignment | None:
        """Returns the alignment that may leave out parts of a query; None if there is no function to judge it."""
        return replace(self.alignment, rest_price=self.rest_price) if np.isfinite(self.rest_price) else None

    @classmethod
    def load(cls, path: Path | None, network: NetworkIdentity, alignment: Alignment) -> "Calibration | None":
        """Returns the calibration of a file; None if the file is missing or made for another network or alignment.

        The log says why the result is None.

        path: by default the shipped calibration.
        Raises WeightsError if the file is damaged, or of another format or version.
        """
        path = path or DEFAULT_CALIBRATION
        if not path.is_file():
            logger.warning("no confidence: %s is missing; indexer.training.calibrate makes one", path)
            return None
        settings, arrays = tensors.read(path, FORMAT, FORMAT_VERSION)
        for name, calibrated, current in (
            ("network", settings["network"], network.hash),
            ("alignment", settings["alignment"], _relevant_settings(alignment.ranking)),
        ):
            if calibrated != current:
                message = "no confidence: %s was made for the %s %s, but %s is in use"
                logger.warning(message, path, name, calibrated, current)
                return None
        scales: dict[Kind, Scale] = {}
        rests = settings.get("rests", {})  # a calibration without rests has none
        for kind, coefficients in settings["coefficients"].items():
            parts = {name: arrays[f"{kind}.{name}"] for name in ("embeddings", "bias", "offsets")}
            rested = np.array(rests["coefficients"][kind]) if rests else None
            scales[kind] = Scale(
                background=Packed(**parts), coefficients=np.array(coefficients), rest_coefficients=rested
            )
        price = float(rests.get("price", np.inf))
        return cls(network=network, alignment=alignment, scales=scales, rest_price=price)

    def save(self, path: Path, record: dict[str, Any]) -> None:
        """Writes the calibration to a file, atomically.

        record: facts about how the calibration was made, as JSON; nothing reads them.
        """
        arrays: dict[str, NDArray[Any]] = {}
        for kind, scale in self.scales.items():
            arrays[f"{kind}.embeddings"] = scale.background.embeddings.astype(np.float16)
            arrays |= {f"{kind}.bias": scale.background.bias, f"{kind}.offsets": scale.background.offsets}
        settings = {
            "network": self.network.hash,
            "alignment": _relevant_settings(self.alignment.ranking),
            "coefficients": {kind: scale.coefficients.tolist() for kind, scale in self.scales.items()},
            "record": record,
        }
        rested = {kind: scale.rest_coefficients for kind, scale in self.scales.items()}
        if self.rests is not None:
            coefficients = {kind: given.tolist() for kind, given in rested.items() if given is not None}
            settings["rests"] = {"price": self.rest_price, "coefficients": coefficients}
        tensors.write(path, FORMAT, FORMAT_VERSION, settings, arrays)

    def probabilities(
        self, query: Embeddings, among: Kind, costs: Costs, backend: Backend, *, documents: int
    ) -> Probabilities:
        """Returns the probability that each document is the piece, (k,).

        This aligns the query with the background, which takes about a millisecond.

        query: float32 (N, 32), of the other kind than the documents.
        costs: (k,), from aligning the query by the same settings with documents of the kind `among`: all documents, or
            the cheapest.
        documents: number of documents of this kind in the collection.
        """
        scale = self.scales[among]
        others = background_costs(query, scale.background, self.alignment.ranking, backend)
        return scale.probabilities(costs, others, snippets=len(query), documents=documents)

    def rested_probabilities(
        self, query: Embeddings, among: Kind, costs: Costs, backend: Backend, *, documents: int
    ) -> Probabilities:
        """Returns the probability that each document is a piece in the query, (k,).

        costs: (k,), from aligning the query by `rests`. The other arguments are those of `probabilities`.
        Raises ValueError if `rests` is None.
        """
        scale, settings = self.scales[among], self.rests
        if settings is None:
            raise ValueError("expected a calibration with a price of rests, got one without")
        others = gains(background_costs(query, scale.background, settings, backend), settings, len(query))
        found = gains(costs, settings, len(query))
        return scale.rested_probabilities(found, others, snippets=len(query), documents=documents)


def verdict(confidence: float) -> bool | None:
    """Returns whether a piece is in the collection whose best match has this confidence; None if that is in doubt."""
    return True if confidence >= SURE else None if confidence >= LIKELY else False


def beside(weights: Path | None) -> Path:
    """Returns the path of a weights file's calibration: NAME.calibration.safetensors beside NAME.safetensors.

    weights: None means the shipped network.
    """
    if weights is None:
        return DEFAULT_CALIBRATION
    return weights.with_name(f"{weights.stem}.calibration.safetensors")


def _relevant_settings(alignment: Alignment) -> dict[str, Any]:
    """Returns the settings that change costs. `int8` is left out: its rounding changes costs too little to matter."""
    settings = asdict(alignment)
    del settings["int8"]
    if not alignment.rests:
        del settings["rest_price"]
    return settings


def background_costs(query: Embeddings, background: Packed, alignment: Alignment, backend: Backend) -> Costs:
    """Returns the cost of aligning the query with each background document, (background documents,)."""
    return backend.align(query, background, alignment).costs


def gains(costs: Costs, settings: Alignment, snippets: int) -> Costs:
    """Returns what each alignment saves against leaving out the whole query, (k,); -infinity without an alignment.

    costs: (k,), of alignments with rests. snippets: length of the query.
    """
    return (np.float32(settings.rest_price) - costs) * np.float32(snippets)


def rest_features(gains: Costs, background_gains: Costs, *, snippets: int, documents: int) -> NDArray[np.float64]:
    """Returns the inputs of the probability function for alignments with rests, (k, 5).

    The columns are: the logarithms of 1 + the gain, of 1 + the fifth-largest other gain, background included, and of 1
    + their difference; the logarithms of the query's length and of the number of documents, as in `features`.

    gains: (k,), of all documents or of the best, in any order. The other arguments are those of `features`.
    """
    losses, gap = gaps(-gains, -background_gains)
    given = np.log1p(np.maximum(np.column_stack([-losses, gap - losses, -gap]), 0))
    return np.column_stack([given, *_sizes(len(gains), snippets, documents)])


def _logistic(coefficients: NDArray[np.float64], values: NDArray[np.float64]) -> Probabilities:
    """Returns the logistic function of the features of each document, (k,)."""
    evidence = coefficients[0] + values @ coefficients[1:]
    return np.asarray(1 / (1 + np.exp(-np.clip(evidence, -50, 50))), dtype=np.float64)


def features(costs: Costs, background_costs: Costs, *, snippets: int, documents: int) -> NDArray[np.float64]:
    """Returns the inputs of the probability function for each document, (k, 7).

    The columns are: the cost; the logarithm of the query's length; the logarithm of the number of documents, at most
    CALIBRATED_DOCUMENTS; the mean cost of the background; the gap to the fifth-cheapest other document, background
    included, times the logarithm of the number of documents; the gap, and the cost, times the root of the query's
    length.

    costs: (k,), of all documents or of the cheapest, in any order.
    background_costs: (background documents,), of the same query.
    snippets: length of the query. documents: number of documents of the kind searched in the collection.
    Raises ValueError if there are not enough costs to compare with.
    """
    finite, gap = gaps(costs, background_costs)
    length, size = _sizes(len(costs), snippets, documents)
    usual = np.full(len(costs), np.mean(background_costs[np.isfinite(background_costs)], dtype=np.float64))
    root = np.sqrt(snippets)
    return np.column_stack([finite, length, size, usual, size * gap, root * gap, root * finite])


def gaps(costs: Costs, background_costs: Costs) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the costs, finite, and the gap of each to the fifth-cheapest other document, background included, (k,).

    Raises ValueError if there are not enough costs to compare with.
    """
    pool = np.concatenate([costs, background_costs])
    if np.sum(np.isfinite(pool)) <= OTHERS:
        raise ValueError(f"expected more than {OTHERS} costs, background included, got {np.sum(np.isfinite(pool))}")
    fifth, sixth = np.partition(pool, (OTHERS - 1, OTHERS))[OTHERS - 1 : OTHERS + 1]
    finite = np.where(np.isfinite(costs), costs, fifth).astype(np.float64)
    # Without itself, a document among the five cheapest has the sixth cost as its fifth other one.
    return finite, finite - np.where(costs <= fifth, sixth, fifth)


def _sizes(count: int, snippets: int, documents: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the logarithms of the query's length and of the number of documents, `count` times each."""
    size = np.log(np.clip(documents, 1, CALIBRATED_DOCUMENTS))
    return np.full(count, np.log(snippets)), np.full(count, size)
