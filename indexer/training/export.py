"""Exports the graphs of a weights file: `python -m indexer.training.export WEIGHTS [--corpus DIR]`.

Writes everything that a CPU needs to compute the network, beside the weights file: one ONNX graph for each kind of
snippet in fp32 and, with a corpus, one in int8. Run it again whenever the weights file is replaced. Each graph carries
the hash of its weights file, so that a graph of older weights is refused.

int8 needs the range of each layer's values. It is measured on the pairs of the validation pieces, which the network has
not learnt from. Without a corpus, int8 graphs of older weights are removed.
"""

import argparse
import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from engine.audio import BANDS
from engine.config import FrontEnd
from engine.embedding import graphs, weights
from engine.embedding.graphs import BATCH, INPUT, OUTPUT, Precision
from engine.embedding.torch_network import EmbeddingOf, TorchRuntime, network_of
from engine.embedding.weights import DEFAULT_WEIGHTS, Weights
from engine.errors import WeightsError
from engine.files import replacing
from engine.values import Embeddings, Kind
from indexer.training.augmentation import NO_AUGMENTATION
from indexer.training.material import Corpus
from indexer.training.pairs import PairSource

logger = logging.getLogger(__name__)

OPSET = 20
"""Version of the ONNX operators; ONNX Runtime reads it since 1.18."""
TOLERANCE: dict[Precision, float] = {"fp32": 1e-5, "int8": 0.005}
"""Largest mean distance, 1 - cosine, between the embeddings of a graph and of torch. The shipped network has less than
1e-7 in fp32, and 1.5e-4 (scores) and 8.2e-4 (recordings) in int8."""
CALIBRATION_PAIRS = 240
"""Pairs that the ranges of int8 are measured on; as many further pairs check the graph."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Inputs of a network, to measure ranges on and to check graphs with."""

    score: NDArray[np.uint8]
    """Snippets, (n, strip_rows, snippet_px)."""
    recording: NDArray[np.float32]
    """Excerpts, (n, bands, excerpt_frames)."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "weights", type=Path, nargs="?", default=DEFAULT_WEIGHTS, help="weights file (default: the shipped one)"
    )
    parser.add_argument("--corpus", type=Path, metavar="DIR", help="corpus of a training, for int8")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for path in export(options.weights, options.corpus):
        logger.info("wrote %s, %d bytes", path, path.stat().st_size)


def export(path: Path, corpus: Path | None = None) -> list[Path]:
    """Writes the graphs of a weights file, and returns their paths.

    corpus: folder of a corpus whose validation pieces the ranges of int8 are measured on; None: no int8.
    A network that int8 does not suit gets no graphs in int8.
    Raises WeightsError if the weights cannot be read, or a graph in fp32 does not compute what torch computes.
    """
    read = weights.read(path)
    material = drawn(corpus, read.identity.front_end) if corpus else noise(read.identity.front_end)
    checked = TorchRuntime(network_of(read), "cpu")
    written = []
    for kind in get_args(Kind):
        inputs: NDArray[Any] = getattr(material, kind)
        expected = checked.embed(kind, inputs[-CALIBRATION_PAIRS:])
        made: dict[Precision, bytes] = {"fp32": _exported(EmbeddingOf(network_of(read), kind), inputs[:BATCH])}
        if corpus:
            made["int8"] = _quantised(made["fp32"], inputs[:CALIBRATION_PAIRS])
        for precision in get_args(Precision):
            target = graphs.path_of(path, kind, precision)
            target.unlink(missing_ok=True)  # it may belong to other weights
            if precision in made and _is_near(
                target, made[precision], inputs[-CALIBRATION_PAIRS:], expected, precision
            ):
                _write(target, made[precision], read, kind, precision)
                written.append(target)
    return written


def drawn(corpus: Path, front_end: FrontEnd) -> Inputs:
    """Twice CALIBRATION_PAIRS pairs of the validation pieces of a corpus."""
    pieces = Corpus(corpus / "val", front_end.bands).refresh()
    if not pieces:
        raise WeightsError(f"{corpus}/val: has no piece with both a print and a recording")
    pairs = PairSource(pieces, front_end, NO_AUGMENTATION).batch(2 * CALIBRATION_PAIRS, 4, seed=0)
    # A corpus keeps snippets at half resolution, as the network halves them first.
    snippets = pairs.snippets.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    return Inputs(score=snippets.numpy(), recording=pairs.excerpts.numpy())


def noise(front_end: FrontEnd) -> Inputs:
    """Random inputs, which show whether a graph computes what torch computes."""
    rng = np.random.default_rng(0)
    return Inputs(
        score=rng.integers(0, 256, (2 * BATCH, front_end.strip_rows, front_end.snippet_px), np.uint8),
        recording=rng.random((2 * BATCH, BANDS[front_end.bands], front_end.excerpt_frames), np.float32),
    )


def _exported(pathway: EmbeddingOf, example: NDArray[Any]) -> bytes:
    """The graph of one pathway for inputs like the example, in fp32."""
    with _quietly():
        program = torch.onnx.export(
            pathway.eval(),
            (torch.from_numpy(np.ascontiguousarray(example)),),
            dynamo=True,
            external_data=False,
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    graph: bytes = program.model_proto.SerializeToString()
    return graph


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Silences the notes and warnings of the exporters, which use what their own libraries have deprecated."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    """Feeds inputs in batches to the measurement of ranges."""

    def __init__(self, inputs: NDArray[Any]) -> None:
        self._batches: Iterator[NDArray[Any]] = iter(np.split(inputs, len(inputs) // BATCH))

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The next batch; None at the end."""
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}


def _quantised(graph: bytes, inputs: NDArray[Any]) -> bytes:
    """The graph in int8: unsigned activations, and signed weights with a scale for each channel.

    Ranges are the extremes over the inputs. Percentiles of 99.99 lost more: mean cosines of .99981 and .99925 to fp32
    instead of .99988 and .99930, for scores and recordings. Convolutions alone in int8: .99979 and .9978, and slower.
    """
    with tempfile.TemporaryDirectory() as folder, _quietly():
        target = Path(folder) / "int8.onnx"
        quantize_static(
            onnx.load_from_string(graph),
            target,
            _Batches(inputs),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
        )
        return target.read_bytes()


def _is_near(path: Path, graph: bytes, inputs: NDArray[Any], expected: Embeddings, precision: Precision) -> bool:
    """Whether a graph embeds the inputs as torch does, up to the tolerance.

    inputs: their number is a multiple of BATCH. expected: the embeddings by torch.
    Raises WeightsError if a graph in fp32 does not.
    """
    session = graphs.open_session(graph)
    parts = [session.run([OUTPUT], {INPUT: batch})[0] for batch in np.split(inputs, len(inputs) // BATCH)]
    distance = 1 - float((np.concatenate(parts) * expected).sum(axis=1).mean())
    logger.info("%s: mean distance to torch %.2g", path, distance)
    if distance <= TOLERANCE[precision]:
        return True
    cause = f"{path}: expected embeddings within {TOLERANCE[precision]:g} of those of torch, got {distance:.2g}"
    if precision == "fp32":
        raise WeightsError(cause)
    logger.warning("%s; the graph is left out", cause)
    return False


def _write(path: Path, graph: bytes, read: Weights, kind: Kind, precision: Precision) -> None:
    """Writes a graph with its description, and without the exporter's notes, which name folders of the machine."""
    model = onnx.load_from_string(graph)
    del model.metadata_props[:], model.graph.metadata_props[:]
    model.doc_string = model.graph.doc_string = ""
    values = (model.graph.input, model.graph.output, model.graph.value_info, model.graph.initializer)
    for part in (*model.graph.node, *(value for group in values for value in group)):
        part.doc_string = ""
        del part.metadata_props[:]
    onnx.helper.set_model_props(model, graphs.description(read.identity.hash, kind, precision))
    with replacing(path, durable=True) as unfinished:
        unfinished.write_bytes(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
