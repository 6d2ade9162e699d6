"""Settings: dataclass defaults, then a TOML file over them, then flags over both."""

import dataclasses
import math
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from engine.errors import SettingsError

T = TypeVar("T")

Gain = Literal["none", "excerpt"]
Bands = Literal["published", "quarter_tone"]
StepSet = Literal["classic", "slope", "wide"]
Normalisation = Literal["query", "path"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontEnd:
    """What shapes the snippets a network sees; stored in its weights and in every collection."""

    staff_space_px: float = 7.0
    """Staff space of the working scale. 7 px is what pages of 835 px width have in the published systems."""
    strip_rows: int = 160
    snippet_px: int = 200
    snippet_hop_px: int = 50
    excerpt_frames: int = 84
    """4.2 s at 20 frames a second."""
    excerpt_hop_frames: int = 10
    """0.5 s."""
    gain: Gain = "excerpt"
    """`none`: the spectrogram as published. `excerpt`: each excerpt scaled to the same mean magnitude, so that
    the loudness of a recording does not matter."""
    bands: Bands = "published"
    """`published`: 92 bands over one Fourier transform. `quarter_tone`: 184 bands, two a semitone, over transforms as
    long as each octave needs (`engine.audio.spectrogram`)."""
    compression: float = 1.0
    """c in log10(1 + c m), m the magnitude after the gain; 1 is nearly linear where music mostly is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaLimits:
    """What a file may hold at most. A larger one is refused before more of it is decoded."""

    seconds: float = math.inf
    """Of the recording, or of the fragment of it that is asked for."""
    pages: int = sys.maxsize
    """Of the score."""
    pixels: int = 300_000_000
    """Of a page image; a sheet of A3 at 1200 dpi has 278 million."""


GENEROUS = MediaLimits()
"""For files of one's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """How two sequences are aligned."""

    steps: StepSet = "wide"
    """`classic`: (1,1), (1,0), (0,1). `slope`: (1,1), (2,1), (1,2), where a skipped query row is charged. `wide`: these
    and (3,1), (1,3), which follow music so slow that a snippet lasts for several excerpts."""
    whole: bool = False
    """The document is aligned from its first snippet to its last one; else any part of it is."""
    normalise: Normalisation = "query"
    """What the cost of a path is divided by: the length of the `query`, or that of the `path`, in cells."""
    jump_penalty: float = 2.0
    """Cost of going on anywhere else in the document; infinity forbids it."""
    bias_weight: float = 0.25
    """How much of a snippet's bias counts; 0: nothing. All of it would make the cost a likelihood ratio
    (`Encoder.bias`); on validation a quarter finds a little more, and all of it less, of short queries above all."""
    int8: bool = False
    """Embeddings are rounded to multiples of 1/128: up to twice as fast on CPUs with AVX-512 VNNI, slower on others; on
    GPUs costs are rounded too, to multiples of 1/4096 (`engine/alignment/gpu.py`)."""


PUBLISHED_SDTW = Alignment(steps="classic", jump_penalty=float("inf"), bias_weight=0.0)
"""As Carvalho & Widmer (EUSIPCO 2021) align fragments."""
PUBLISHED_DTW = dataclasses.replace(PUBLISHED_SDTW, whole=True, normalise="path")
"""As they align whole pieces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """How a query is answered."""

    neighbours: int = 25
    """Nearest document snippets that vote for each query snippet."""
    shortlist: int = 0
    """Documents that are aligned. 0: all, as long as they are so few that this takes less time than to find the nearest
    snippets exactly, else as many as take about as long whatever the query's length (`engine.search.searcher`)."""
    alignment: Alignment = Alignment()
    threads: int = 2


def load(default: T, *, section: str, path: Path | None = None, flags: Mapping[str, Any] | None = None) -> T:
    """`default`, with table `section` of the TOML file laid over it, and over both the flags that were given.

    default: a settings dataclass, whose fields may be settings dataclasses in turn.
    flags: from a setting's name to its value or, where the flag was not given, None. A name reaches into nested
        settings by dots: `alignment.jump_penalty`.
    Raises SettingsError for a file that cannot be read, an unknown name, or a value of the wrong type.
    """
    if path is not None:
        default = _laid_over(default, _table(path, section), where=f"{path}: {section}")
    for name, value in (flags or {}).items():
        if value is not None:
            table: Any = value
            for part in reversed(name.split(".")):
                table = {part: table}
            default = _laid_over(default, table, where="flags")
    return default


def _table(path: Path, section: str) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            table = tomllib.load(file).get(section, {})
    except (OSError, tomllib.TOMLDecodeError) as exc:
        raise SettingsError(f"{path}: cannot be read as TOML settings: {exc}") from exc
    if not isinstance(table, dict):
        raise SettingsError(f"{path}: expected a table [{section}], got {table!r}")
    return table


def _laid_over(default: T, table: Mapping[str, Any], *, where: str) -> T:
    hints = get_type_hints(type(default))
    changes: dict[str, Any] = {}
    for name, value in table.items():
        if name not in hints:
            raise SettingsError(f"{where}.{name}: no such setting; expected one of {', '.join(hints)}")
        changes[name] = _checked(value, hints[name], getattr(default, name), where=f"{where}.{name}")
    return dataclasses.replace(default, **changes)  # type: ignore[type-var]


def _checked(value: Any, hint: Any, default: Any, *, where: str) -> Any:
    """`value` as the type that `hint` names; `default` is what a nested table is laid over."""
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return _laid_over(default, value, where=where)
    if get_origin(hint) is Literal and value in get_args(hint):
        return value
    if hint is float and type(value) in (int, float):
        return float(value)
    if hint is Path and isinstance(value, str | Path):
        return Path(value)
    if hint in (bool, int, str) and type(value) is hint:
        return value
    if get_origin(hint) is tuple and isinstance(value, list | tuple):
        return tuple(_checked(item, get_args(hint)[0], None, where=where) for item in value)
    expected = (
        " or ".join(map(repr, get_args(hint))) if get_origin(hint) is Literal else getattr(hint, "__name__", hint)
    )
    raise SettingsError(f"{where}: expected {expected}, got {value!r}")
