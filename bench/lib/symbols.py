"""What one could assemble from others' parts: a public transcription of the sound, matched with a perfectly read score.

`Transcriber` is transkun (Yan & Duan, "Scoring Intervals using Non-Hierarchical Transformer for Automatic Piano
Transcription", ISMIR 2024; MIT licence, weights in its package). It was trained on the recordings of MAESTRO.

Notes that are struck together are one pitch set. The cost of two pitch sets A and B is 1 - 2 |A and B| / (|A| + |B|).
Subsequence DTW by librosa finds the cheapest path of a fragment's sets through those of a score, whatever the tempo.
Its steps are `STEPS`: one set of either side may be passed over, for notes that were missed or made up. Every set of
the fragment is charged.
"""

import importlib.util
import sys
import time
import types
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import librosa
import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from engine.audio import SAMPLE_RATE, Samples
from indexer.synthesis.engrave import ScoreNotes

PITCHES = 128
TOGETHER_S = 0.05
"""Largest time between successive notes of one pitch set in a performance."""
TOGETHER_QUARTERS = 0.02
"""Largest time between successive notes of one pitch set in a score; grace notes are sets of their own."""
STEPS = np.array([[1, 1], [1, 2], [2, 1], [1, 0]])
"""Steps as (sets of the fragment, sets of the score)."""
CHARGES = np.array([1.0, 1.0, 2.0, 1.0])
"""Factor of the cost of the cell that each step reaches: the number of fragment sets that the step takes."""

PitchSets = NDArray[np.float32]
"""One row a pitch set, (n, 128): 1 where a note is struck."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcription:
    """The notes that were heard in a fragment."""

    onset_s: NDArray[np.float64]
    """Onset of each note, (n,)."""
    pitch: NDArray[np.int64]
    """MIDI pitch of each note, (n,)."""
    cpu_s: float
    """Processor time that the transcription took, in seconds."""


class Transcriber:
    """The public transcription model, on one thread."""

    def __init__(self) -> None:
        """Loads the model. Raises ModuleNotFoundError if the package transkun is not installed (extra `peers`)."""
        if importlib.util.find_spec("transkun") is None:
            raise ModuleNotFoundError("the package transkun is not installed (extra `peers`)")
        _without_torchaudio()
        import moduleconf

        folder = files("transkun") / "pretrained"
        described = moduleconf.parseFromFile(str(folder / "2.0.conf"))["Model"]
        self._model = described.module.TransKun(conf=described.config)
        kept = torch.load(str(folder / "2.0.pt"), map_location="cpu", weights_only=False)
        self._model.load_state_dict(kept.get("best_state_dict", kept.get("state_dict")), strict=False)
        self._model.eval()

    def __call__(self, samples: Samples) -> Transcription:
        """The notes in samples: float32 (n,), mono, 22,050 Hz."""
        started = time.process_time()
        wide = soxr.resample(samples, SAMPLE_RATE, self._model.fs)
        with torch.no_grad():
            notes = self._model.transcribe(torch.from_numpy(np.stack([wide, wide], axis=1)), discardSecondHalf=False)
        found = sorted((note["start"], note["pitch"]) for note in map(_fields, notes) if note["pitch"] > 0)
        return Transcription(
            onset_s=np.array([start for start, _ in found], np.float64),
            pitch=np.array([pitch for _, pitch in found], np.int64),
            cpu_s=time.process_time() - started,
        )


def _fields(note: Any) -> dict[str, Any]:
    """The fields of a note, which the model gives as a dictionary or as an object; pedals have negative pitches."""
    return note if isinstance(note, dict) else vars(note)


def _without_torchaudio() -> None:
    """Puts a stand-in in the place of torchaudio, whose builds fit one version of torch only.

    transkun takes nothing from it but the shape of a filterbank, whose values its weights file holds.
    """

    def melscale_fbanks(*, n_freqs: int, n_mels: int, **_: float) -> torch.Tensor:
        return torch.zeros(n_freqs, n_mels)

    module: Any = types.ModuleType("torchaudio")
    module.functional = types.SimpleNamespace(melscale_fbanks=melscale_fbanks)
    sys.modules["torchaudio"] = module


def heard_sets(transcription: Transcription) -> PitchSets:
    """The pitch sets of a transcription, in order."""
    return _sets(transcription.onset_s, transcription.pitch, TOGETHER_S)


def written_sets(notes: ScoreNotes) -> PitchSets:
    """The pitch sets of a score, in order, with its repeats played."""
    return _sets(notes.onset_quarter, notes.pitch, TOGETHER_QUARTERS)


def _sets(onsets: NDArray[np.float64], pitches: NDArray[np.int64], together: float) -> PitchSets:
    if len(onsets) == 0:
        return np.zeros((0, PITCHES), np.float32)
    numbers = np.cumsum(np.diff(onsets, prepend=onsets[0]) > together)
    sets = np.zeros((int(numbers[-1]) + 1, PITCHES), np.float32)
    sets[numbers, pitches] = 1
    return sets


def cost(fragment: PitchSets, score: PitchSets) -> float:
    """The cost of the cheapest path of a fragment through a score, for each set of the fragment; 0 to 1.

    A fragment or a score without sets costs 1.
    """
    if len(fragment) == 0 or len(score) == 0:
        return 1.0
    sizes = fragment.sum(axis=1)[:, None] + score.sum(axis=1)
    local = 1 - 2 * (fragment @ score.T) / sizes
    with np.errstate(invalid="ignore"):  # librosa multiplies its infinite border by 0
        totals = librosa.sequence.dtw(
            C=local.astype(np.float64), subseq=True, backtrack=False, step_sizes_sigma=STEPS, weights_mul=CHARGES
        )
    return float(totals[-1].min() / len(fragment))


def costs(fragment: PitchSets, scores: Sequence[PitchSets]) -> NDArray[np.float64]:
    """The cost of each score, (scores,)."""
    return np.array([cost(fragment, score) for score in scores])
