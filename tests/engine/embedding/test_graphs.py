from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest

from engine.audio import BANDS
from engine.embedding import graphs, weights
from engine.embedding.graphs import Graphs, Precision
from engine.embedding.torch_network import TorchRuntime, network_of
from engine.embedding.weights import DEFAULT_WEIGHTS
from engine.errors import WeightsError
from engine.values import Kind


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the shipped weights with their graphs in fp32."""
    target = tmp_path / DEFAULT_WEIGHTS.name
    target.write_bytes(DEFAULT_WEIGHTS.read_bytes())
    for kind in get_args(Kind):
        graphs.path_of(target, kind, "fp32").write_bytes(graphs.path_of(DEFAULT_WEIGHTS, kind, "fp32").read_bytes())
    return target


@pytest.mark.parametrize("precision", get_args(Precision))
def test_the_shipped_graphs_belong_to_the_shipped_weights_and_compute_what_torch_computes(
    precision: Precision,
) -> None:
    """If this fails, run `python -m indexer.training.export --corpus DIR`, and commit what it wrote."""
    read = weights.read()
    made, oracle = Graphs(read, precision), TorchRuntime(network_of(read), "cpu")
    front_end, rng = read.identity.front_end, np.random.default_rng(0)
    # Staves with notes: a network in int8 is only as good as what it expects to see.
    snippets = np.full((10, front_end.strip_rows, front_end.snippet_px), 255, np.uint8)
    snippets[:, 50:106:7] = 60
    for snippet in snippets:
        for x in rng.integers(0, front_end.snippet_px - 9, 12):
            snippet[(y := int(rng.integers(40, 100))) : y + 7, x : x + 9] = 0
    excerpts = rng.exponential(0.3, (10, BANDS[front_end.bands], front_end.excerpt_frames)).astype(np.float32)
    for kind, inputs in (("score", snippets), ("recording", np.log10(1 + excerpts))):
        computed, expected = made.embed(kind, inputs), oracle.embed(kind, inputs)
        if precision == "fp32":
            np.testing.assert_allclose(computed, expected, atol=2e-6)
        assert (computed * expected).sum(axis=1).min() > 0.95


def test_the_library_computes_on_the_thread_that_asks() -> None:
    """Its own threads would spin while they wait for each other."""
    options = graphs.open_session(graphs.path_of(DEFAULT_WEIGHTS, "score", "fp32")).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_a_graph_of_other_weights_is_refused(copied: Path) -> None:
    copied.write_bytes(copied.read_bytes().replace(b'"name\\": \\"default', b'"name\\": \\"another'))
    with pytest.raises(
        WeightsError, match=r"does not belong to default.safetensors: expected weights .*training.export"
    ):
        Graphs(weights.read(copied))


def test_a_graph_of_the_other_kind_is_refused(copied: Path) -> None:
    graphs.path_of(copied, "recording", "fp32").replace(graphs.path_of(copied, "score", "fp32"))
    with pytest.raises(WeightsError, match="expected kind score, got recording"):
        Graphs(weights.read(copied))


def test_a_graph_of_a_newer_format_is_refused(copied: Path) -> None:
    path = graphs.path_of(copied, "score", "fp32")
    model = onnx.load(path)
    next(entry for entry in model.metadata_props if entry.key == "version").value = "9"
    onnx.save(model, path)
    with pytest.raises(WeightsError, match=r"score.fp32.onnx: .*expected version 1, got 9"):
        Graphs(weights.read(copied))


@pytest.mark.parametrize("content", [b"", b"no graph" * 100, None], ids=["empty", "nonsense", "cut"])
def test_a_damaged_graph_is_refused(copied: Path, content: bytes | None) -> None:
    path = graphs.path_of(copied, "score", "fp32")
    path.write_bytes(path.read_bytes()[:100_000] if content is None else content)
    with pytest.raises(WeightsError, match=r"score.fp32.onnx: damaged or not an ONNX graph"):
        Graphs(weights.read(copied))


def test_weights_without_a_graph_name_the_command_that_makes_it(copied: Path) -> None:
    graphs.path_of(copied, "recording", "fp32").unlink()
    expected = (
        r"default.recording.fp32.onnx is missing; `python -m indexer.training.export .*`.* with the extra `train`"
    )
    with pytest.raises(WeightsError, match=expected):
        Graphs(weights.read(copied))


@pytest.mark.parametrize(
    ("multiplies", "has_int8", "expected"),
    [
        (True, True, "int8 (the CPU multiplies bytes)"),
        (False, True, "fp32 (the CPU does not multiply bytes)"),
        (True, False, "fp32 (the weights have no int8 graphs)"),
    ],
)
def test_int8_is_taken_where_the_cpu_multiplies_bytes_and_there_are_graphs_for_it(
    copied: Path, monkeypatch: pytest.MonkeyPatch, multiplies: bool, has_int8: bool, expected: str
) -> None:
    monkeypatch.setattr(graphs, "multiplies_bytes", lambda: multiplies)
    for kind in get_args(Kind) if has_int8 else ():
        graphs.path_of(copied, kind, "int8").write_bytes(graphs.path_of(DEFAULT_WEIGHTS, kind, "int8").read_bytes())
    assert Graphs(weights.read(copied)).description.endswith(expected)
    assert Graphs(weights.read(copied), "fp32").description.endswith("fp32 (as asked for)")
