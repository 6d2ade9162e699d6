"""Settings of a training corpus, and its list of instruments. A machine that only trains needs nothing more."""

import csv
from dataclasses import dataclass
from pathlib import Path

from engine.config import Bands, require_positive


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusSettings:
    """Settings of the corpus; table [corpus] of the configuration."""

    data: Path = Path("data")
    """Folder of the scores; `manifests` and the paths in them start here."""
    manifests: tuple[str, ...] = ()
    """CSV files with the columns id and path. A score's suffix says its format: MusicXML, kern, MEI or LilyPond."""
    splits: str = "splits.csv"
    """CSV file with the columns id and split (train or val)."""
    instruments: str = ""
    """CSV file with the columns instrument (a name for `instruments.load`, relative to `data`), split, and share (how
    often the instrument plays). The file is in `data` or beside this module. Empty: the SoundFont of pretty_midi."""
    responses: str = ""
    """Folder of impulse responses with irs.csv, relative to `data`; a fifth of them are for validation alone."""
    noises: str = ""
    """Folder of noise beds with noise.csv, relative to `data`."""
    bands: tuple[Bands, ...] = ("published",)
    """Spectrograms that are stored of each recording."""
    folder: Path = Path("corpus")
    """Folder of the prints and recordings."""
    train_pieces: int = 1200
    """Largest number of training pieces; 0: a corpus for validation alone."""
    val_pieces: int = 60
    """Largest number of validation pieces; 0: none, where another corpus has them."""
    prints: int = 1
    """Prints of each training piece. A validation piece has one print and one recording."""
    recordings: int = 1
    """Recordings of each training piece."""
    keys: int = 1
    """Keys that each training piece is made in, at most 12: its own, then random others, up to half an octave away. In
    each key it is a piece of its own, with its prints and recordings. LilyPond scores keep to their own key."""
    pages: int = 4
    """Largest number of pages that are engraved of a piece."""
    seconds: float = 200.0
    """Largest length that is kept of a performance, in seconds."""
    page_damage: float = 1.0
    """Strength of the damage to pages. 0: none; 1: as in real prints and scans."""
    sound_damage: float = 1.0
    """Strength of the damage to sound. 0: none; 1: as detuned, reverberant, noisy and compressed as real recordings."""
    freedom: float = 1.0
    """Freedom of the performances. 0: as exact as a machine; 1: as free as pianists."""
    seed: int = 1

    def __post_init__(self) -> None:
        """Raises ValueError if a number is negative, or is 0 where nothing would be made."""
        require_positive(self, or_zero=("train_pieces", "val_pieces", "page_damage", "sound_damage", "freedom", "seed"))


def listed_instruments(settings: CorpusSettings) -> list[dict[str, str]]:
    """Rows of the list of instruments. Raises OSError if the file is missing."""
    listed = settings.data / settings.instruments
    with (listed if listed.exists() else Path(__file__).with_name(settings.instruments)).open(newline="") as file:
        return list(csv.DictReader(file))


def training_instruments(settings: CorpusSettings) -> list[dict[str, str]]:
    """Instruments that training pieces are played on: rows of the list, with licence and source where it has them."""
    if not settings.instruments:
        from engine.symbols.soundfont import default_soundfont

        return [{"instrument": default_soundfont().name}]
    return [row for row in listed_instruments(settings) if row["split"] == "train"]
