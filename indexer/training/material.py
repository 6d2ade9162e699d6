"""What a network learns from: prints and recordings of pieces, on disk and in memory."""

import dataclasses
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.config import Bands
from engine.files import replacing
from indexer.errors import CorpusError


@dataclass(frozen=True, slots=True, kw_only=True)
class Print:
    """One engraving of a piece, printed and scanned."""

    piece: str
    quarters: NDArray[np.float64]
    """float64 (onsets,): onsets in quarters from the start of the piece, rising."""
    strip: NDArray[np.uint8]
    """uint8 ((strip_rows + STRIP_MARGIN_PX) / 2, width): the unrolled systems at half scale, white = 255."""
    columns: NDArray[np.float32]
    """float32 (onsets,): column of the strip where each onset stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendition:
    """One recorded performance of a piece on one instrument."""

    piece: str
    beat_quarter: NDArray[np.float64]
    """float64 (beats,): points of the score, in quarters from the start of the piece."""
    beat_frame: NDArray[np.float32]
    """float32 (beats,): frame in which the performance reaches each of these points."""
    published: NDArray[np.uint8]
    """uint8 (92, frames): magnitudes as `encoded` codes them; 0 frames if this spectrogram is not stored."""
    quarter_tone: NDArray[np.uint8]
    """uint8 (184, frames): magnitudes as `encoded` codes them; 0 frames if this spectrogram is not stored."""

    def codes(self, bands: Bands) -> NDArray[np.uint8]:
        """The coded spectrogram of these bands. Raises CorpusError if the corpus does not store it."""
        codes = self.published if bands == "published" else self.quarter_tone
        if codes.shape[1] == 0:
            raise CorpusError(
                f"recordings of {self.piece!r} have no {bands!r} spectrogram: corpus.bands says which ones a corpus "
                "stores, and `pack --bands` which one of them is packed"
            )
        return codes


_CODES_A_DECADE = 42
_CODE_FLOOR = 1e-4
"""Magnitude below which the code is linear. Above it, a step is 5.6 %; the largest magnitude is 117."""


def encoded(magnitude: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Magnitudes as one byte each, on a logarithmic scale: 1e-4 to 117, in steps of 5.6 %."""
    codes = np.rint(_CODES_A_DECADE * np.log10(1 + magnitude / _CODE_FLOOR))
    return np.asarray(np.clip(codes, 0, 255), np.uint8)


def decoded() -> NDArray[np.float32]:
    """float32 (256,): the magnitude of each code."""
    return np.asarray(_CODE_FLOOR * (10 ** (np.arange(256) / _CODES_A_DECADE) - 1), np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """A print and a recording of a piece, joined by the onsets that both contain."""

    piece: str
    quarters: NDArray[np.float64]
    """float64 (onsets,): onsets in quarters from the start of the piece."""
    strip: NDArray[np.uint8]
    """The strip of the print (`Print.strip`)."""
    columns: NDArray[np.float32]
    """float32 (onsets,): column of the strip where each onset stands."""
    spectrogram: NDArray[np.float32]
    """float32 (bands, frames): log10(1 + magnitude)."""
    frames: NDArray[np.float32]
    """float32 (onsets,): frame in which each onset sounds."""


def joined(printed: Print, played: Rendition, bands: Bands) -> Take:
    """The take made of a print and a recording of one piece; onsets after the end of the recording are left out."""
    codes = played.codes(bands)
    frames = np.interp(printed.quarters, played.beat_quarter, played.beat_frame).astype(np.float32)
    kept = frames < codes.shape[1]
    return Take(
        piece=printed.piece,
        quarters=printed.quarters[kept],
        strip=printed.strip,
        columns=printed.columns[kept],
        spectrogram=np.log10(1 + decoded())[codes],
        frames=frames[kept],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPiece:
    """All prints and recordings of a piece, at least one of each."""

    name: str
    prints: tuple[Print, ...]
    recordings: tuple[Rendition, ...]


def save(made: Print | Rendition, path: Path) -> None:
    """Writes a print or a recording; the file appears complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        np.savez(file, **{field.name: getattr(made, field.name) for field in dataclasses.fields(made)})


def load_print(path: Path) -> Print:
    """The print in a file that `save` wrote. Raises CorpusError if the file is damaged."""
    return _loaded(path, Print)


def load_recording(path: Path) -> Rendition:
    """The recording in a file that `save` wrote. Raises CorpusError if the file is damaged."""
    return _loaded(path, Rendition)


Made = TypeVar("Made", bound=Print | Rendition)


def _loaded(path: Path, made: type[Made]) -> Made:
    """The print or the recording in a file. Raises CorpusError if the file is damaged or holds something else."""
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            values = {name: arrays[name] for name in arrays.files}
        return made(**values | {"piece": str(values["piece"])})
    except (zipfile.BadZipFile, EOFError, KeyError, TypeError, ValueError) as exc:
        kind = made.__name__.lower()
        raise CorpusError(f"{path}: damaged, or no {kind} ({exc}); delete it to have it made again") from exc


class Corpus:
    """The prints and recordings of a split, in memory. `refresh` loads the files that were made since."""

    def __init__(self, folder: Path, bands: Bands) -> None:
        """folder: that of the split; prints and recordings lie in folders of these names below it.

        bands: the spectrogram that is held of each recording. The other one has no frames.
        """
        self._folder = folder
        self._bands = bands
        self._prints: dict[Path, Print] = {}
        self._recordings: dict[Path, Rendition] = {}
        self._pieces: list[TrainingPiece] = []

    def refresh(self) -> list[TrainingPiece]:
        """The pieces that have both prints and recordings, sorted by name; the same list if no file was made since."""
        printed = [path for path in self._folder.glob("prints/*.npz") if path not in self._prints]
        played = [path for path in self._folder.glob("recordings/*.npz") if path not in self._recordings]
        if printed or played:
            self._prints |= {path: load_print(path) for path in printed}
            self._recordings |= {path: _with_one_spectrogram(load_recording(path), self._bands) for path in played}
            prints, recordings = _by_piece(self._prints), _by_piece(self._recordings)
            self._pieces = [
                TrainingPiece(name=name, prints=prints[name], recordings=recordings[name])
                for name in sorted(prints.keys() & recordings.keys())
            ]
        return self._pieces


def _with_one_spectrogram(played: Rendition, bands: Bands) -> Rendition:
    """The recording without its other spectrogram, which takes up to two thirds of the memory."""
    other = "quarter_tone" if bands == "published" else "published"
    return dataclasses.replace(played, **{other: getattr(played, other)[:, :0].copy()})


def _by_piece(made: Mapping[Path, Made]) -> dict[str, tuple[Made, ...]]:
    """The prints or recordings of each piece, in the order of their paths."""
    by_piece: dict[str, list[Made]] = {}
    for path in sorted(made):
        by_piece.setdefault(made[path].piece, []).append(made[path])
    return {piece: tuple(files) for piece, files in by_piece.items()}


def takes(folder: Path, bands: Bands) -> Iterator[Take]:
    """Yields the first print of each piece joined with its first recording, loaded one after the other.

    folder: that of the split, as for `Corpus`.
    """
    for path in sorted(folder.glob("prints/*.0.npz")):
        played = folder / "recordings" / path.name
        if played.exists():
            yield joined(load_print(path), load_recording(played), bands)


def is_made(folder: Path) -> bool:
    """Whether a split has any piece with both a print and a recording; folder: that of the split."""
    printed = {path.name.rsplit(".", 2)[0] for path in folder.glob("prints/*.npz")}
    return any(path.name.rsplit(".", 2)[0] in printed for path in folder.glob("recordings/*.npz"))
