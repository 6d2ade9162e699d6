"""Settings and their defaults. Values of a TOML file override the defaults, and flags override both."""

import dataclasses
import math
import sys
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from engine.errors import SettingsError

T = TypeVar("T")

Gain = Literal["none", "excerpt"]
Bands = Literal["published", "quarter_tone"]
StepSet = Literal["classic", "slope", "wide"]
Normalisation = Literal["query", "path"]


def require_positive(settings: Any, *, or_zero: Collection[str] = ()) -> None:
    """Raises ValueError if a number among the settings is not above 0. The settings named in `or_zero` may be 0.

    settings: a settings dataclass, whose `__post_init__` calls this function. Numbers in its tuples are checked too.
    """
    for name in (field.name for field in dataclasses.fields(settings)):
        value = getattr(settings, name)
        for number in value if isinstance(value, tuple) else (value,):
            # NaN is neither above 0 nor equal to 0
            if type(number) in (int, float) and not (number > 0 or (number == 0 and name in or_zero)):
                raise ValueError(f"{name}: expected {'0 or more' if name in or_zero else 'more than 0'}, got {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontEnd:
    """Settings that shape the snippets a network sees. The weights file and every collection store them."""

    staff_space_px: float = 7.0
    """Staff space at the working scale, in px. Pages of 835 px width in the published systems have 7 px."""
    strip_rows: int = 160
    """Height of the strip and of each snippet, in px."""
    snippet_px: int = 200
    """Width of a snippet, in px."""
    snippet_hop_px: int = 50
    """Distance between the starts of neighbouring snippets, in px."""
    excerpt_frames: int = 84
    """Length of an excerpt in spectrogram frames: 4.2 s at 20 frames a second."""
    excerpt_hop_frames: int = 10
    """Distance between the starts of neighbouring excerpts, in frames: 0.5 s."""
    gain: Gain = "excerpt"
    """Scaling of a spectrogram. `none`: as published, without scaling. `excerpt`: each excerpt is scaled to the same
    mean magnitude, so that the loudness of a recording does not matter."""
    bands: Bands = "published"
    """Frequency bands of a spectrogram. `published`: 92 bands over one Fourier transform. `quarter_tone`: 184 bands,
    two a semitone; the length of the transform depends on the octave (`engine.audio.spectrograms`)."""
    compression: float = 1.0
    """Factor c in log10(1 + c m), where m is the magnitude after the gain. At c = 1 the function is nearly linear for
    most magnitudes of music."""

    def __post_init__(self) -> None:
        """Raises ValueError if a number is not above 0."""
        require_positive(self)


SLOWEST, FASTEST = 0.25, 4.0
"""Accepted speeds of a recording: multiples of the speed at which it was played."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaLimits:
    """Largest media file that is accepted. A larger file is refused before more of it is decoded."""

    seconds: float = math.inf
    """Longest recording in seconds; where a query takes a fragment of a recording, the longest fragment."""
    pages: int = sys.maxsize
    """Largest number of pages of a score."""
    pixels: int = 300_000_000
    """Largest number of pixels of a page image. An A3 sheet at 1200 dpi has 278 million."""

    def __post_init__(self) -> None:
        """Raises ValueError if a limit is not above 0."""
        require_positive(self)


GENEROUS = MediaLimits()
"""Limits for the user's own files: only the size of a page image is limited."""


RANKING_JUMPS = 0.375
"""Share of `Alignment.jump_penalty` that a jump costs where documents are ranked. There a jump also bridges what steps
cannot follow: music of very many or very few notes, whose speed on the page leaves the range of the steps. Where a
match lies, such jumps lead to similar passages, so the full penalty is better there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """Settings of the alignment of a query with a document."""

    steps: StepSet = "wide"
    """Steps of a path, as (query snippets, document snippets). `classic`: (1,1), (1,0), (0,1). `slope`: (1,1), (2,1),
    (1,2); a skipped query snippet has a cost. `wide`: the steps of `slope`, (3,1) and (1,3). These two follow slow
    music, where one sheet snippet lasts for several excerpts."""
    whole: bool = False
    """True: the query is aligned with the whole document. False: the query is aligned with any part of the document."""
    normalise: Normalisation = "query"
    """Divisor of the cost of a path: the number of snippets of the `query`, or of cells of the `path`."""
    jump_penalty: float = 2.0
    """Cost of a jump to any other place in the document, in the alignment that shows where a match is. The alignment
    that ranks documents pays RANKING_JUMPS of it. Infinity forbids jumps."""
    rest_price: float = float("inf")
    """Cost of a query snippet that is left out. Infinity leaves none out. A finite price needs paths that start and end
    anywhere in the document (`whole` is False), and costs divided by the length of the query."""
    bias_weight: float = 0.25
    """Factor of the snippets' biases in the cost; 0 ignores the biases. A weight of 1 would make the cost a likelihood
    ratio (`Encoder.bias`). On validation 0.25 finds a little more than 0, and 1 finds less, mostly for short
    queries."""
    int8: bool = False
    """Whether embeddings are rounded to multiples of 1/128. Rounding is up to twice as fast on CPUs with AVX-512 VNNI,
    and slower on other CPUs. GPUs also round costs, to multiples of 1/4096 (`engine/alignment/gpu.py`)."""

    def __post_init__(self) -> None:
        """Raises ValueError if a number is negative, or the price of a rest finite where nothing can be left out."""
        require_positive(self, or_zero=("jump_penalty", "rest_price", "bias_weight"))
        if self.rests and (self.whole or self.normalise == "path"):
            raise ValueError(
                "rest_price: expected infinity for whole documents or costs per cell of the path, "
                f"got {self.rest_price}, whole={self.whole}, normalise={self.normalise}"
            )

    @property
    def ranking(self) -> "Alignment":
        """Returns the settings whose costs rank documents: these, with cheaper jumps."""
        return dataclasses.replace(self, jump_penalty=RANKING_JUMPS * self.jump_penalty)

    @property
    def rests(self) -> bool:
        """Returns whether query snippets may be left out."""
        return self.rest_price < float("inf")


PUBLISHED_SDTW = Alignment(steps="classic", jump_penalty=float("inf"), bias_weight=0.0)
"""Alignment of fragments as published by Carvalho & Widmer (EUSIPCO 2021)."""
PUBLISHED_DTW = dataclasses.replace(PUBLISHED_SDTW, whole=True, normalise="path")
"""Alignment of whole pieces as published by Carvalho & Widmer (EUSIPCO 2021)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """Settings of a search."""

    neighbours: int = 25
    """Nearest document snippets that vote, for each query snippet."""
    shortlist: int = 0
    """Number of documents that are aligned. 0: all documents of a small collection, where this is faster than building
    a shortlist; in a larger one, as many documents as a fixed budget of time allows (`engine.search.plan`)."""
    alignment: Alignment = Alignment()
    threads: int = 2
    """Number of threads of a search."""

    def __post_init__(self) -> None:
        """Raises ValueError if a number is out of its range."""
        require_positive(self, or_zero=("shortlist",))


SECTIONS = ("search", "server", "corpus", "front_end", "augmentation", "architecture", "training")
"""Tables of a settings file. One file may have those of several programs."""


def load(default: T, *, section: str, path: Path | None = None, flags: Mapping[str, Any] | None = None) -> T:
    """Returns the settings: `default`, overridden by table `section` of the TOML file, then by the flags.

    default: a settings dataclass. Its fields may be settings dataclasses too.
    flags: maps the name of a setting to its value; None means that the user did not give the flag. Dots in a name lead
        to nested settings: `alignment.jump_penalty`.
    Raises SettingsError if the file cannot be read, a name is unknown, or a value has the wrong type
    or is out of its range.
    """
    if path is not None:
        default = _overridden(default, _table(path, section), where=f"{path}: {section}")
    for name, value in (flags or {}).items():
        if value is not None:
            table: Any = value
            for part in reversed(name.split(".")):
                table = {part: table}
            default = _overridden(default, table, where="flags")
    return default


def _table(path: Path, section: str) -> Mapping[str, Any]:
    """Returns the table `section` of a TOML file, empty if the file has no such table.

    Raises SettingsError if the file cannot be read or has another table than those of SECTIONS.
    """
    try:
        with path.open("rb") as file:
            tables = tomllib.load(file)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise SettingsError(f"{path}: cannot be read as TOML settings: {exc}") from exc
    for name in tables:
        if name not in SECTIONS:
            raise SettingsError(f"{path}: {name}: no such table; expected some of {', '.join(SECTIONS)}")
    table = tables.get(section, {})
    if not isinstance(table, dict):
        raise SettingsError(f"{path}: expected a table [{section}], got {table!r}")
    return table


def _overridden(default: T, table: Mapping[str, Any], *, where: str) -> T:
    """Returns the settings `default` with the values of `table` in place of its own.

    where: names the source of the values in errors.
    Raises SettingsError, also for the ValueError of a settings dataclass, whose message begins with the setting's name.
    """
    hints = get_type_hints(type(default))
    changes: dict[str, Any] = {}
    for name, value in table.items():
        if name not in hints:
            raise SettingsError(f"{where}.{name}: no such setting; expected one of {', '.join(hints)}")
        changes[name] = _checked(value, hints[name], getattr(default, name), where=f"{where}.{name}")
    try:
        return dataclasses.replace(default, **changes)  # type: ignore[type-var]
    except ValueError as exc:
        raise SettingsError(f"{where}.{exc}") from exc


def _checked(value: Any, hint: Any, default: Any, *, where: str) -> Any:
    """Returns `value` as the type `hint`. If `value` is a nested table, it overrides the settings `default`.

    Raises SettingsError if `value` has another type.
    """
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return _overridden(default, value, where=where)
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
