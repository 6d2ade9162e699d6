"""What a network is shown: random pairs of the corpus as two pictures, to be looked at before anything is trained.

`python -m indexer.training.contact_sheet CONFIG.toml --out FOLDER` writes snippets.png and excerpts.png; the same
place of both holds the same onset, marked in red above and below, and its neighbours, marked in grey.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from engine import config, process
from engine.config import FrontEnd
from engine.errors import SettingsError
from indexer.training.corpus import Corpus, CorpusSettings, Take, joined

TILE_WIDTH = 300
TILE_HEIGHT = 264
_COLUMNS = 6
_MARGIN = 18
"""Rows above and below a tile's picture, for marks and caption."""
_RED, _GREY, _BLACK = (0, 0, 220), (150, 150, 150), (0, 0, 0)

Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One onset of a take, seen and heard."""

    caption: str
    snippet: Picture
    """(rows, columns) white = 255, the onset in its middle."""
    seen: NDArray[np.float64]
    """Where onsets stand, as parts of the snippet's width."""
    excerpt: Picture
    """(bands, frames) loud = 0, lowest band at the foot, the onset in its middle."""
    heard: NDArray[np.float64]
    """When they sound, as parts of the excerpt's length."""


def random_pair(take: Take, front_end: FrontEnd, rng: np.random.Generator) -> Pair | None:
    """A random onset of the take, or None where none has a whole window round it on the strip and in the sound."""
    wide, long = front_end.snippet_px // 2, front_end.excerpt_frames
    left = np.round(take.columns - wide / 2).astype(np.int64)
    start = np.round(take.frames - long / 2).astype(np.int64)
    whole = (left >= 0) & (left + wide <= take.strip.shape[1]) & (start >= 0)
    whole &= start + long <= take.spectrogram.shape[1]
    if not whole.any():
        return None
    chosen = int(rng.choice(np.flatnonzero(whole)))
    loudness = take.spectrogram[::-1, start[chosen] : start[chosen] + long]
    return Pair(
        caption=f"{take.piece[:34]} {take.quarters[chosen]:.2f}",
        snippet=take.strip[:, left[chosen] : left[chosen] + wide],
        seen=_inside((take.columns - left[chosen]) / wide, chosen),
        excerpt=np.round(255 * (1 - loudness / max(float(loudness.max()), 1e-6))).astype(np.uint8),
        heard=_inside((take.frames - start[chosen]) / long, chosen),
    )


def sheets(pairs: Sequence[Pair]) -> tuple[Picture, Picture]:
    """The snippets and the excerpts of the pairs, each as one colour picture (height, width, 3)."""
    snippets = [_tile(pair.snippet, pair.seen, f"{number} {pair.caption}") for number, pair in enumerate(pairs)]
    excerpts = [_tile(pair.excerpt, pair.heard, f"{number} {pair.caption}") for number, pair in enumerate(pairs)]
    return _grid(snippets), _grid(excerpts)


def _inside(shares: NDArray[np.floating], chosen: int) -> NDArray[np.float64]:
    """The chosen onset's place, then those of the others that lie in the window."""
    others = np.delete(shares, chosen)
    return np.concatenate([shares[chosen : chosen + 1], others[(others >= 0) & (others < 1)]]).astype(np.float64)


def _tile(picture: Picture, places: NDArray[np.float64], caption: str) -> Picture:
    """The picture, enlarged, with a mark at each place (the first in red) and its caption."""
    tile = np.full((TILE_HEIGHT + 3 * _MARGIN, TILE_WIDTH + 8, 3), 255, np.uint8)
    large = cv2.resize(picture, (TILE_WIDTH, TILE_HEIGHT), interpolation=cv2.INTER_LINEAR)
    tile[_MARGIN : _MARGIN + TILE_HEIGHT, :TILE_WIDTH] = large[:, :, None]
    below = _MARGIN + TILE_HEIGHT
    for place, colour in reversed(list(zip(places, [_RED] + [_GREY] * len(places), strict=False))):
        x = round(float(place) * TILE_WIDTH)
        cv2.line(tile, (x, 4), (x, _MARGIN), colour, 2)
        cv2.line(tile, (x, below), (x, below + _MARGIN - 4), colour, 2)
    ascii_only = caption.encode("ascii", "replace").decode()
    cv2.putText(tile, ascii_only, (2, below + 2 * _MARGIN - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.42, _BLACK, 1, cv2.LINE_AA)
    return tile


def _grid(tiles: Sequence[Picture]) -> Picture:
    blank = np.full_like(tiles[0], 255)
    filled = [*tiles, *[blank] * (-len(tiles) % _COLUMNS)]
    rows = [np.hstack(filled[start : start + _COLUMNS]) for start in range(0, len(filled), _COLUMNS)]
    return np.vstack(rows)


def main() -> None:
    process.prepare()
    parser = argparse.ArgumentParser(description="Draw random pairs of the training corpus for inspection.")
    parser.add_argument("config", type=Path, help="TOML file, as indexer/training/default.toml")
    parser.add_argument("--out", type=Path, required=True, help="folder of the two pictures")
    parser.add_argument("--takes", type=int, default=24, help="how many takes are shown, one onset each")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    settings = config.load(CorpusSettings(), section="corpus", path=arguments.config)
    front_end = config.load(FrontEnd(), section="front_end", path=arguments.config)
    rng = np.random.default_rng(arguments.seed)
    pieces = Corpus(settings, "train").refresh()
    drawn = [pieces[place] for place in rng.permutation(len(pieces))[: arguments.takes]]
    made = [joined(piece.prints[0], piece.recordings[0], front_end.bands) for piece in drawn]
    pairs = [pair for take in made if (pair := random_pair(take, front_end, rng)) is not None]
    if not pairs:
        raise SettingsError(f"{settings.folder / 'train'}: holds no takes to show; make the corpus first")
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, sheet in zip(("snippets", "excerpts"), sheets(pairs), strict=True):
        cv2.imwrite(str(arguments.out / f"{name}.png"), sheet)


if __name__ == "__main__":
    main()
