import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from engine.audio import BANDS
from engine.config import FrontEnd
from engine.embedding import weights
from engine.embedding.encoder import Encoder
from engine.embedding.network import Architecture
from engine.embedding.torch_network import EmbeddingOf, TorchRuntime, build, network_of, save_weights
from engine.embedding.weights import Background
from engine.errors import WeightsError
from indexer.training import export as exporting
from indexer.training.export import export
from indexer.training.material import Print, Rendition, save

FRONT_END = FrontEnd(strip_rows=64, snippet_px=64, excerpt_frames=32, gain="none")
ARCHITECTURES = (
    Architecture(channels=(4, 8), head_channels=4),
    Architecture(family="residual", channels=(4, 8), blocks=(1,), head_channels=4),
    Architecture(family="published", channels=(2, 3, 4, 4), head_channels=2),
)


def weights_file(folder: Path, architecture: Architecture = ARCHITECTURES[0], seed: int = 0) -> Path:
    torch.manual_seed(seed)
    network, rows = build(architecture, FRONT_END), np.eye(32, dtype=np.float32)
    save_weights(folder / "small.safetensors", network, Background(score=rows, recording=rows), "small", {})
    return folder / "small.safetensors"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A corpus of one validation piece."""
    rng = np.random.default_rng(0)
    beats = np.linspace(60, 640, 30, dtype=np.float32)
    bands = rng.integers(0, 256, (BANDS["published"], 700), np.uint8)
    printed = Print(
        piece="one", quarters=np.arange(30.0), strip=rng.integers(0, 256, (88, 700), np.uint8), columns=beats
    )
    played = Rendition(
        piece="one",
        beat_quarter=np.arange(30.0),
        beat_frame=beats,
        published=bands,
        quarter_tone=np.empty((184, 0), np.uint8),
    )
    save(printed, tmp_path / "corpus/val/prints/one.0.npz")
    save(played, tmp_path / "corpus/val/recordings/one.0.npz")
    return tmp_path / "corpus"


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda architecture: architecture.family)
def test_the_graphs_of_each_family_compute_what_torch_computes(architecture: Architecture, tmp_path: Path) -> None:
    path = weights_file(tmp_path, architecture)
    assert sorted(written.name for written in export(path)) == ["small.recording.fp32.onnx", "small.score.fp32.onnx"]
    encoder, oracle, rng = Encoder.load(path, device="cpu"), network_of(weights.read(path)), np.random.default_rng(1)
    snippets, excerpts = rng.integers(0, 256, (7, 64, 64), np.uint8), rng.random((7, 92, 32), np.float32)
    runtime = TorchRuntime(oracle, "cpu")
    np.testing.assert_allclose(encoder.score(snippets), runtime.embed("score", snippets), atol=1e-5)
    np.testing.assert_allclose(encoder.recording(excerpts), runtime.embed("recording", excerpts), atol=1e-5)


def test_a_corpus_gives_int8_and_weights_replaced_without_one_lose_it(corpus: Path, tmp_path: Path) -> None:
    path = weights_file(tmp_path)
    written = export(path, corpus)
    assert [one.name.split(".")[1:3] for one in written] == [
        ["score", "fp32"],
        ["score", "int8"],
        ["recording", "fp32"],
        ["recording", "int8"],
    ]
    excerpts = exporting.drawn(corpus, FRONT_END).recording[:9]
    coarse, fine = (Encoder.load(path, device="cpu", precision=one).recording(excerpts) for one in ("int8", "fp32"))  # type: ignore[arg-type]
    assert 0 < np.abs(coarse - fine).max() < 0.2
    weights_file(tmp_path, seed=1)
    with pytest.raises(WeightsError, match=r"does not belong to small\.safetensors"):
        Encoder.load(path, device="cpu")
    export(path)
    Encoder.load(path, device="cpu")
    with pytest.raises(WeightsError, match=r"small\.score\.int8\.onnx is missing"):
        Encoder.load(path, device="cpu", precision="int8")


def test_a_network_that_int8_does_not_suit_has_none(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(exporting.TOLERANCE, "int8", -1.0)
    with caplog.at_level(logging.WARNING):
        written = export(weights_file(tmp_path), corpus)
    assert [one.name for one in written] == ["small.score.fp32.onnx", "small.recording.fp32.onnx"]
    assert "small.score.int8.onnx: expected embeddings within -1 of those of torch" in caplog.text


def test_a_graph_that_computes_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = weights_file(tmp_path)
    other = network_of(weights.read(weights_file(tmp_path, seed=1)))
    weights_file(tmp_path)
    monkeypatch.setattr(exporting, "EmbeddingOf", lambda _, kind: EmbeddingOf(other, kind))
    with pytest.raises(WeightsError, match=r"score.fp32.onnx: expected embeddings within 1e-05 of those of torch"):
        export(path)
    assert not list(tmp_path.glob("*.onnx"))


def test_graphs_name_no_folder_of_the_machine_and_come_out_the_same_again(tmp_path: Path) -> None:
    path = weights_file(tmp_path)
    first = [written.read_bytes() for written in export(path)]
    assert [written.read_bytes() for written in export(path)] == first
    for graph in first:
        assert str(Path(exporting.__file__).parents[2]).encode() not in graph
        assert not any(node.metadata_props for node in onnx.load_from_string(graph).graph.node)


def test_a_corpus_without_validation_pieces_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="val: has no piece with both a print and a recording"):
        export(weights_file(tmp_path), tmp_path / "nothing")
