"""A recording that is sent while it is played: where in it the snippets lie that are kept."""

import numpy as np
import pytest

from engine.audio import SAMPLE_RATE
from engine.config import FrontEnd
from fake_encoder import FakeEncoder
from server.config import Limits
from server.messages import OpenStream, Wanted
from server.streams import LiveRecording

WANTED = Wanted(among="score", method="refine", top=1, path=False)


def heard(seconds: int, max_s: float, *, silent_s: int = 0, encoder: FakeEncoder | None = None) -> LiveRecording:
    """A stream of so many seconds of noise after silence, sent second by second."""
    stream = LiveRecording(OpenStream(rate=SAMPLE_RATE, wanted=WANTED), FrontEnd(), max_s)
    for second in range(silent_s + seconds):
        noise = np.random.default_rng(second).uniform(-0.5, 0.5, SAMPLE_RATE).astype(np.float32)
        stream.hear(noise * (second >= silent_s))
        if encoder and second % 4 == 3:
            stream.embed(encoder)
    stream.embed(encoder or FakeEncoder())
    return stream


@pytest.mark.parametrize("silent_s", [0, 3])
@pytest.mark.parametrize("encoder", [None, FakeEncoder()], ids=["at once", "bit by bit"])
def test_places_count_what_was_dropped_and_what_was_silent(silent_s: int, encoder: FakeEncoder | None) -> None:
    every, latest = (heard(30, max_s, silent_s=silent_s, encoder=encoder).sequence() for max_s in (1000.0, 8.0))
    assert len(latest) == 16
    np.testing.assert_array_equal(latest.embeddings, every.embeddings[-16:])
    np.testing.assert_allclose(latest.places["start_s"], every.places["start_s"][-16:], atol=1e-6)
    assert every.places["start_s"][0] == pytest.approx(silent_s)
    assert every.places["end_s"][-1] == pytest.approx(silent_s + 30, abs=0.6)


def test_by_default_the_latest_120_seconds_are_kept() -> None:
    sequence = heard(124, Limits().stream_s).sequence()
    assert len(sequence) == 240
    assert sequence.places["end_s"][-1] - sequence.places["start_s"][0] == pytest.approx(119.5 + 4.2)
    assert sequence.places["end_s"][-1] == pytest.approx(124, abs=0.6)
