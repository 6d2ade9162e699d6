from pathlib import Path

import numpy as np
import pytest
import torch

from engine.config import FrontEnd
from engine.embedding.encoder import Encoder
from engine.embedding.network import Architecture, Network
from engine.embedding.torch_network import build, save_weights
from engine.embedding.weights import Background
from indexer.training.export import export

CHANNELS = (24, 48, 96, 96)
SMALL = (2, 3, 4, 4)


def network(frames: int, attention: bool, channels: tuple[int, ...] = CHANNELS) -> Network:
    torch.manual_seed(0)
    architecture = Architecture(family="published", channels=channels, attention=attention)
    return build(architecture, FrontEnd(excerpt_frames=frames, gain="none"))


def inputs(count: int, frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 1, 80, 100, generator=generator), torch.rand(count, 1, 92, frames, generator=generator)


@pytest.mark.parametrize(
    ("frames", "attention", "learned", "stored"),
    [(42, False, 702_992, 707_297), (42, True, 1_034_930, 1_040_299), (84, True, 1_054_364, 1_059_733)],
)
def test_it_is_as_large_as_the_published_networks(frames: int, attention: bool, learned: int, stored: int) -> None:
    """The original network with attention over 42 frames has 1.04 million parameters, including its statistics."""
    made = network(frames, attention)
    assert sum(parameter.numel() for parameter in made.parameters()) == learned
    assert sum(tensor.numel() for tensor in made.state_dict().values()) == stored


@pytest.mark.parametrize(("frames", "attention"), [(42, False), (84, True)])
def test_both_halves_become_unit_vectors_in_training_and_after(frames: int, attention: bool) -> None:
    made, pairs = network(frames, attention, SMALL), inputs(40, frames)
    for training in (True, False):
        for embeddings in made.train(training).pair(*pairs):
            assert embeddings.shape == (40, 32)
            assert embeddings.dtype == torch.float32
            torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(40))


def test_frames_without_a_preference_weigh_one_each() -> None:
    made, (_, excerpts) = network(84, True, SMALL), inputs(3, 84)
    attention = made.get_submodule("attention")
    weights = attention(excerpts)
    assert weights.shape == (3, 1, 1, 84)
    torch.testing.assert_close(weights.mean(dim=3), torch.ones(3, 1, 1))
    torch.nn.init.zeros_(attention.get_parameter("squeeze.weight"))
    torch.testing.assert_close(attention(excerpts), torch.ones(3, 1, 1, 84))


def test_refitting_fits_the_projection_to_all_batches_as_if_they_were_one() -> None:
    made, (snippets, excerpts) = network(42, False, SMALL), inputs(60, 42)
    assert made.refit([(snippets[:20], excerpts[:20]), (snippets[20:], excerpts[20:])])
    in_parts = made.get_buffer("projection.score_mean").clone(), made.score(snippets)
    made.refit([(snippets, excerpts)])
    torch.testing.assert_close(in_parts[0], made.get_buffer("projection.score_mean"), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(in_parts[1], made.score(snippets), rtol=0, atol=1e-3)


@pytest.mark.parametrize(("frames", "attention"), [(42, False), (84, True)])
def test_it_comes_back_from_its_weights_file(frames: int, attention: bool, tmp_path: Path) -> None:
    made, (snippets, excerpts) = network(frames, attention, SMALL), inputs(40, frames)
    made.refit([(snippets, excerpts)])
    rows = np.eye(32, dtype=np.float32)
    save_weights(tmp_path / "published.safetensors", made, Background(score=rows, recording=rows), "published", {})
    export(tmp_path / "published.safetensors")
    encoder = Encoder.load(tmp_path / "published.safetensors", device="cpu")
    assert encoder.recording(excerpts[:, 0].numpy()) == pytest.approx(
        made.recording(excerpts).numpy(force=True), abs=0.01
    )
    whole = np.full((2, 160, 200), 255, np.uint8)
    assert encoder.score(whole) == pytest.approx(made.score(torch.ones(2, 1, 80, 100)).numpy(force=True), abs=0.01)
    assert not encoder.bias(rows, "score").any()
