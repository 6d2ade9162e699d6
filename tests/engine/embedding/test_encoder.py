import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.audio import BANDS
from engine.config import FrontEnd
from engine.embedding import encoder as encoders
from engine.embedding import torch_network
from engine.embedding.encoder import DEFAULT_WEIGHTS, Encoder
from engine.embedding.graphs import Precision
from engine.embedding.network import Architecture, TwoPathways
from engine.embedding.torch_network import save_weights
from engine.embedding.weights import Background
from engine.errors import DeviceError, WeightsError
from engine.values import Embeddings
from indexer.training.export import export


def unit(count: int, seed: int) -> Embeddings:
    rows = np.random.default_rng(seed).standard_normal((count, 32)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained network with its graphs."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    network = TwoPathways(Architecture(channels=(4, 8), head_channels=4), FrontEnd())
    save_weights(path, network, Background(score=unit(50, 0), recording=unit(60, 1)), "small", {})
    export(path)
    return path


@pytest.fixture(scope="module")
def encoder(weights: Path) -> Encoder:
    return Encoder.load(weights, threads=1)


def test_embeddings_are_unit_vectors_whatever_the_batch(encoder: Encoder) -> None:
    rng = np.random.default_rng(0)
    snippets = rng.integers(0, 256, (130, 160, 200), np.uint8)
    excerpts = rng.random((130, 92, 84), np.float32)
    for embed, inputs in ((encoder.score, snippets), (encoder.recording, excerpts)):
        embeddings = embed(inputs)  # type: ignore[operator]
        assert embeddings.dtype == np.float32
        assert np.linalg.norm(embeddings, axis=1) == pytest.approx(1, abs=1e-5)


@pytest.mark.skipif(not DEFAULT_WEIGHTS.exists(), reason="the network is not trained yet")
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("kind", ["score", "recording"])
def test_an_embedding_has_the_same_bits_alone_and_in_company(kind: str, precision: Precision) -> None:
    """In any order, and with any number of threads: the shipped network, 30 queries of 1 to 20 inputs."""
    loaded = [Encoder.load(threads=threads, device="cpu", precision=precision) for threads in (1, 2)]
    front_end, rng = loaded[0].identity.front_end, np.random.default_rng(0)
    counts = rng.integers(1, 21, 30)
    if kind == "score":
        shape = (int(counts.sum()), front_end.strip_rows, front_end.snippet_px)
        inputs = rng.integers(0, 256, shape, np.uint8)
    else:
        shape = (int(counts.sum()), BANDS[front_end.bands], front_end.excerpt_frames)
        inputs = rng.random(shape, np.float32)
    starts = np.cumsum([0, *counts])
    together = getattr(loaded[0], kind)(inputs)
    order = rng.permutation(len(inputs))
    for encoder in loaded:
        embed = getattr(encoder, kind)
        for start, stop in itertools.pairwise(starts.tolist()):
            assert np.array_equal(embed(inputs[start:stop]), together[start:stop])
        assert np.array_equal(embed(inputs[order]), together[order])


def test_threads_share_the_work_and_keep_its_order(weights: Path) -> None:
    snippets = np.random.default_rng(0).integers(0, 256, (70, 160, 200), np.uint8)
    alone, shared = (Encoder.load(weights, threads=threads).score(snippets) for threads in (1, 3))
    assert np.array_equal(shared, alone)


def test_a_machine_without_a_cuda_driver_computes_on_its_cpu(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(encoders.ctypes, "CDLL", missing)
    assert Encoder.load(weights).device.endswith("; no CUDA driver")


@pytest.mark.parametrize(("found", "device"), [(True, "cuda: "), (False, "cpu: ONNX Runtime")])
def test_a_machine_with_a_cuda_driver_asks_torch_whether_there_is_a_device(
    weights: Path, monkeypatch: pytest.MonkeyPatch, found: bool, device: str
) -> None:
    class OnGpu:
        description, batch = "cuda: a stand-in", 8

        def __init__(self, network: object, device: str) -> None:
            assert device == "cuda"

    monkeypatch.setattr(encoders.ctypes, "CDLL", lambda name: None)
    monkeypatch.setattr(torch_network, "finds_cuda", lambda: found)
    monkeypatch.setattr(torch_network, "TorchRuntime", OnGpu)
    assert Encoder.load(weights).device.startswith(device)


def test_the_gpu_embeds_what_the_cpu_does() -> None:
    if not torch_network.finds_cuda():
        pytest.skip("torch finds no CUDA device")
    on_gpu, on_cpu = Encoder.load(device="cuda"), Encoder.load(device="cpu", threads=4)
    front_end, rng = on_cpu.identity.front_end, np.random.default_rng(0)
    pages = rng.random((130, front_end.strip_rows, front_end.snippet_px), np.float32)
    snippets = np.where(pages < 0.1, 0, 255).astype(np.uint8)
    excerpts = rng.random((130, BANDS[front_end.bands], front_end.excerpt_frames), np.float32)
    for kind, inputs in (("score", snippets), ("recording", excerpts)):
        found, expected = (getattr(one, kind)(inputs) for one in (on_gpu, on_cpu))
        assert (found * expected).sum(axis=1).min() > 0.99
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
        assert getattr(on_gpu, kind)(inputs[:0]).shape == (0, 32)


def test_a_gpu_without_torch_names_the_extra(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "engine.embedding.torch_network", None)
    monkeypatch.delattr("engine.embedding.torch_network")
    with pytest.raises(DeviceError, match=r"device cuda needs torch .*install scorefind\[gpu\]"):
        Encoder.load(weights, device="cuda")
    monkeypatch.setattr(encoders.ctypes, "CDLL", lambda name: None)
    assert "no torch to use it; scorefind[gpu]" in Encoder.load(weights).device


def test_nothing_embeds_to_nothing(encoder: Encoder) -> None:
    assert encoder.score(np.empty((0, 160, 200), np.uint8)).shape == (0, 32)


def test_inputs_of_another_shape_are_refused_by_both_shapes(encoder: Encoder) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \(n, 160, 200\), got uint8 \(3, 80, 100\)"):
        encoder.score(np.zeros((3, 80, 100), np.uint8))


def test_the_identity_names_the_weights_file(weights: Path, encoder: Encoder) -> None:
    assert encoder.identity == Encoder.load(weights).identity
    assert encoder.identity.name == "small"
    assert len(encoder.identity.hash) == 64


def test_a_snippet_that_resembles_the_background_has_a_higher_bias(encoder: Encoder) -> None:
    hub, loner = unit(60, 1).mean(axis=0), -unit(60, 1).mean(axis=0)
    rows = np.stack([hub, loner]) / np.linalg.norm(hub)
    bias = encoder.bias(rows.astype(np.float32), "score")
    assert bias.dtype == np.float32
    assert bias[0] > bias[1]


def test_the_bias_is_the_soft_maximum_of_the_similarities(weights: Path) -> None:
    encoder, row = Encoder.load(weights), unit(1, 5)
    background = unit(50, 0).astype(np.float16).astype(np.float32)
    temperature = np.exp(-np.float16(2.7).astype(np.float64))
    expected = temperature * np.log(np.mean(np.exp(row @ background.T / temperature)))
    assert encoder.bias(row, "recording")[0] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda data: data[: len(data) // 2], "damaged"),
        (lambda data: b"nonsense" * 10, "damaged"),
        (lambda data: data.replace(b"scorefind-network", b"another-networks!"), "expected format"),
        (lambda data: data.replace(b'"version":"1"', b'"version":"9"'), "expected format version 1, got 9"),
        (lambda data: data.replace(b"snippet_px", b"snippet_py"), "do not fit together"),
    ],
    ids=["truncated", "no safetensors", "another format", "newer", "unknown setting"],
)
def test_a_spoilt_weights_file_is_refused(weights: Path, tmp_path: Path, spoil, match: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "spoilt.safetensors"
    path.write_bytes(spoil(weights.read_bytes()))
    with pytest.raises(WeightsError, match=match):
        Encoder.load(path)


def test_a_missing_weights_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"absent\.safetensors: no such weights file"):
        Encoder.load(tmp_path / "absent.safetensors")


@pytest.mark.skipif(not DEFAULT_WEIGHTS.exists(), reason="the network is not trained yet")
def test_the_shipped_network_loads_and_knows_its_background() -> None:
    encoder = Encoder.load(threads=1)
    assert encoder.identity.name == "default"
    assert np.isfinite(encoder.bias(unit(5, 0), "score")).all()
    assert DEFAULT_WEIGHTS.with_suffix(".md").exists()
