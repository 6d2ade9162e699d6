"""How sure a match is: the probability that a document is the piece that was asked for.

The cost of an alignment is a log-likelihood ratio a snippet (`Encoder.bias`), so it already tells much by itself. What
it does not tell is how cheap documents get that are *not* the piece: that depends on the query (a waltz bass goes with
many pieces), and on how many documents there are and how alike they are to the query. Both show in the costs of the
others: a match is judged by how far it lies below the fifth cheapest of all other documents. Fifth, so that up to four
further editions or recordings of the piece take nothing from each other's confidence. A collection may hold too few
others, so documents of a fixed background, which come with the calibration, are aligned too and count among them.

The probability is a logistic function of the cost, that gap, and the logarithms of the query's length and of the number
of documents (which matters to short queries: among many documents some are as cheap by chance), fitted by
`indexer.training.calibrate` for one network and one way of aligning, so that it is true of best matches. Each match is
judged alone, and probabilities do not sum to one; those of the matches behind the best are a little high (of the second
ones 2 to 7 % on average, where 0.2 to 2 % were right).

Ranking is left to the costs. Among 1,400 documents, costs freed of the documents' lengths, or measured by each
document's own mean and spread over other queries, found fewer pieces, not more: the bias a snippet has done that work.
"""

import logging
from dataclasses import asdict, dataclass
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

FORMAT = "scorefind-calibration"
FORMAT_VERSION = 1

IN_COLLECTION = 0.5
"""The piece is said to be in the collection if the best match has at least this probability."""
OTHERS = 5
"""A match is compared with the so-manieth cheapest of the others. On validation 3 to 5 did alike; 1 and 12 did worse,
and 1, the margin to the second best, would call it a doubt if two editions of a piece are found."""

CALIBRATED_DOCUMENTS = 1400
"""Collections of more documents are judged as if they had so many, the most that calibrations have seen: the number's
own effect, carried on, called most pieces found by ten seconds among 20,000 a doubt. What a larger crowd does to costs
shows in the gap."""

Costs = NDArray[np.float32]
"""(documents,), lower is better; infinite where there is no alignment."""
Probabilities = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """What judges the matches among documents of one kind."""

    background: Packed
    """Documents that nobody asks for."""
    coefficients: NDArray[np.float64]
    """(7,): a constant, then one for each of `features`."""

    def probabilities(self, costs: Costs, background_costs: Costs, *, snippets: int, documents: int) -> Probabilities:
        """(k,) that each document is the piece; 0 where there is no alignment. Arguments as for `features`."""
        given = features(costs, background_costs, snippets=snippets, documents=documents)
        evidence = self.coefficients[0] + given @ self.coefficients[1:]
        return np.where(np.isfinite(costs), 1 / (1 + np.exp(-np.clip(evidence, -50, 50))), 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The scales of one network, for queries of the other kind than the documents."""

    network: NetworkIdentity
    alignment: Alignment
    scales: dict[Kind, Scale]
    """By the kind of the documents searched."""

    @classmethod
    def load(cls, path: Path | None, network: NetworkIdentity, alignment: Alignment) -> "Calibration | None":
        """That of a file, by default the shipped one; None, and why in the log, if it is not made for these.

        Raises WeightsError if the file is damaged or of another format.
        """
        path = path or DEFAULT_CALIBRATION
        if not path.is_file():
            logger.warning("no confidence: %s is missing; indexer.training.calibrate makes one", path)
            return None
        settings, arrays = tensors.read(path, FORMAT, FORMAT_VERSION)
        for name, made, given in (
            ("network", settings["network"], network.hash),
            ("alignment", settings["alignment"], _essence(alignment)),
        ):
            if made != given:
                logger.warning("no confidence: %s was made for the %s %s, in force is %s", path, name, made, given)
                return None
        scales: dict[Kind, Scale] = {}
        for kind, coefficients in settings["coefficients"].items():
            parts = {name: arrays[f"{kind}.{name}"] for name in ("embeddings", "bias", "offsets")}
            scales[kind] = Scale(background=Packed(**parts), coefficients=np.array(coefficients))
        return cls(network=network, alignment=alignment, scales=scales)

    def save(self, path: Path, record: dict[str, Any]) -> None:
        """Writes the file; it appears whole or not at all.

        record: what should be remembered of how it was made; JSON.
        """
        arrays: dict[str, NDArray[Any]] = {}
        for kind, scale in self.scales.items():
            arrays[f"{kind}.embeddings"] = scale.background.embeddings.astype(np.float16)
            arrays |= {f"{kind}.bias": scale.background.bias, f"{kind}.offsets": scale.background.offsets}
        settings = {
            "network": self.network.hash,
            "alignment": _essence(self.alignment),
            "coefficients": {kind: scale.coefficients.tolist() for kind, scale in self.scales.items()},
            "record": record,
        }
        tensors.write(path, FORMAT, FORMAT_VERSION, settings, arrays)

    def probabilities(
        self, query: Embeddings, among: Kind, costs: Costs, backend: Backend, *, documents: int
    ) -> Probabilities:
        """(k,) that each document is the piece; aligns the query with the background, which takes about a millisecond.

        query: float32 (N, 32), of the other kind than the documents.
        costs: (k,) of aligning it, by the same settings, with documents of the kind `among`; at least the cheapest.
        documents: how many of this kind there are.
        """
        scale = self.scales[among]
        others = background_costs(query, scale.background, self.alignment, backend)
        return scale.probabilities(costs, others, snippets=len(query), documents=documents)


def beside(weights: Path | None) -> Path:
    """Where the calibration of a weights file lies: NAME.calibration.safetensors beside NAME.safetensors.

    weights: None is the shipped one.
    """
    if weights is None:
        return DEFAULT_CALIBRATION
    return weights.with_name(f"{weights.stem}.calibration.safetensors")


def _essence(alignment: Alignment) -> dict[str, Any]:
    """What the costs depend on; embeddings rounded to bytes change them too little to matter."""
    settings = asdict(alignment)
    del settings["int8"]
    return settings


def background_costs(query: Embeddings, background: Packed, alignment: Alignment, backend: Backend) -> Costs:
    """(background documents,) what aligning the query with each of them costs."""
    return backend.align(query, background, alignment).costs


def features(costs: Costs, background_costs: Costs, *, snippets: int, documents: int) -> NDArray[np.float64]:
    """What tells whether each document is the piece.

    costs: (k,) of all documents, or of the cheapest ones, in any order.
    background_costs: (background documents,) of the same query.
    snippets: how many the query has. documents: how many there are in the collection, of the kind searched.
    Returns (k, 6): the cost; the gap to the fifth cheapest of the others and the background; the logarithms of the
    query's length and of the number of documents, at most CALIBRATED_DOCUMENTS; the length's products with the gap and
    with that number.
    Raises ValueError if there are not enough costs to compare with.
    """
    pool = np.concatenate([costs, background_costs])
    if np.sum(np.isfinite(pool)) <= OTHERS:
        raise ValueError(f"expected more than {OTHERS} costs, background included, got {np.sum(np.isfinite(pool))}")
    fifth, sixth = np.partition(pool, (OTHERS - 1, OTHERS))[OTHERS - 1 : OTHERS + 1]
    finite = np.where(np.isfinite(costs), costs, fifth).astype(np.float64)
    gap = finite - np.where(costs <= fifth, sixth, fifth)  # one of the five cheapest is not among its own others
    size = np.full(len(costs), np.log(np.clip(documents, 1, CALIBRATED_DOCUMENTS)))
    length = np.full(len(costs), np.log(snippets))
    return np.column_stack([finite, gap, length, size, length * gap, length * size])
