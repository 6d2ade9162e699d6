import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from engine.config import FrontEnd
from engine.embedding import weights
from engine.embedding.network import Architecture, Network, TwoPathways
from engine.embedding.torch_network import TorchRuntime, network_of, save_weights
from engine.embedding.weights import Background
from engine.errors import DeviceError, WeightsError
from engine.values import Embeddings


@pytest.fixture
def network() -> Network:
    """A small untrained network."""
    torch.manual_seed(0)
    return TwoPathways(Architecture(channels=(4, 8), head_channels=4), FrontEnd()).eval()


@pytest.fixture
def path(network: Network, tmp_path: Path) -> Path:
    """The weights file of the network."""
    rows = np.eye(32, dtype=np.float32)
    save_weights(tmp_path / "small.safetensors", network, Background(score=rows, recording=rows), "small", {})
    return tmp_path / "small.safetensors"


def test_a_full_gpu_gets_smaller_batches_and_a_lost_one_is_told_of(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, snippets = TorchRuntime(network, "cpu"), np.full((100, 160, 200), 255, np.uint8)
    runtime.batch = 32
    expected, embed, sizes = runtime.embed("score", snippets), runtime._embed_batch, []

    def with_room_for_thirty(inputs: torch.Tensor, forward: Callable[[torch.Tensor], torch.Tensor]) -> Embeddings:
        sizes.append(len(inputs))
        if len(inputs) > 30:
            raise torch.cuda.OutOfMemoryError("full")
        return embed(inputs, forward)

    monkeypatch.setattr(runtime, "_embed_batch", with_room_for_thirty)
    np.testing.assert_allclose(runtime.embed("score", snippets), expected, atol=1e-5)
    assert sizes == [32, 16, 16, 16, 16, 16, 16, 4]
    runtime._device = torch.device("cuda")
    monkeypatch.setattr(runtime, "_embed_batch", lambda *_: (_ for _ in ()).throw(RuntimeError("gone")))
    with pytest.raises(DeviceError, match="the GPU failed while it embedded: gone"):
        runtime.embed("score", snippets)


def test_a_file_from_before_there_were_families_holds_a_default_network(path: Path, tmp_path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        settings = json.loads(file.metadata()["settings"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
    settings["architecture"] = {name: settings["architecture"][name] for name in ("channels", "head_channels")}
    metadata = {"format": "scorefind-network", "version": "1", "settings": json.dumps(settings)}
    save_file(tensors, tmp_path / "old.safetensors", metadata)
    excerpts = np.random.default_rng(0).random((3, 92, 84), np.float32)
    old, new = (
        TorchRuntime(network_of(weights.read(file)), "cpu").embed("recording", excerpts)
        for file in (tmp_path / "old.safetensors", path)
    )
    assert np.array_equal(old, new)


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        (b"head_channels", b"head_channel_", "do not fit together"),
        (b'\\"default\\"', b'\\"defunct\\"', "do not fit together: 'defunct'"),
    ],
    ids=["unknown setting", "unknown family"],
)
def test_weights_of_an_unknown_architecture_are_refused(path: Path, old: bytes, new: bytes, match: str) -> None:
    path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(WeightsError, match=match):
        network_of(weights.read(path))
