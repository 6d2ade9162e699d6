"""Draws random pairs of the corpus into two pictures, to be inspected before a network is trained on them.

`python -m indexer.training.contact_sheet CONFIG.toml --out FOLDER` writes snippets.png and excerpts.png. The same
tile of both shows the same onset. Marks above and below a tile show onsets: the pair's own in red, others in grey.
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
from indexer.training.corpus_settings import CorpusSettings
from indexer.training.material import Corpus, Take, joined

TILE_WIDTH = 300
TILE_HEIGHT = 264
_COLUMNS = 6
_MARGIN = 18
"""Height in pixels of each strip for marks or caption above and below a tile's picture."""
_RED, _GREY, _BLACK = (0, 0, 220), (150, 150, 150), (0, 0, 0)

Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One onset of a take: a snippet of the strip and an excerpt of the spectrogram around it."""

    caption: str
    snippet: Picture
    """uint8 (rows, columns), white = 255, with the onset in the middle."""
    seen: NDArray[np.float64]
    """Places of the onsets in the snippet as shares of its width, the pair's own onset first."""
    excerpt: Picture
    """uint8 (bands, frames), loud = 0, lowest band in the last row, with the onset in the middle."""
    heard: NDArray[np.float64]
    """Times of the onsets in the excerpt as shares of its length, the pair's own onset first."""


def random_pair(take: Take, front_end: FrontEnd, rng: np.random.Generator) -> Pair | None:
    """The pair of a random onset of the take; None if no onset has a whole window on both strip and spectrogram."""
    width, length = front_end.snippet_px // 2, front_end.excerpt_frames
    left = np.round(take.columns - width / 2).astype(np.int64)
    start = np.round(take.frames - length / 2).astype(np.int64)
    whole = (left >= 0) & (left + width <= take.strip.shape[1]) & (start >= 0)
    whole &= start + length <= take.spectrogram.shape[1]
    if not whole.any():
        return None
    chosen = int(rng.choice(np.flatnonzero(whole)))
    loudness = take.spectrogram[::-1, start[chosen] : start[chosen] + length]
    return Pair(
        caption=f"{take.piece[:34]} {take.quarters[chosen]:.2f}",
        snippet=take.strip[:, left[chosen] : left[chosen] + width],
        seen=_inside((take.columns - left[chosen]) / width, chosen),
        excerpt=np.round(255 * (1 - loudness / max(float(loudness.max()), 1e-6))).astype(np.uint8),
        heard=_inside((take.frames - start[chosen]) / length, chosen),
    )


def sheets(pairs: Sequence[Pair]) -> tuple[Picture, Picture]:
    """Two colour pictures (height, width, 3): the snippets and the excerpts of the pairs."""
    snippets = [_tile(pair.snippet, pair.seen, f"{number} {pair.caption}") for number, pair in enumerate(pairs)]
    excerpts = [_tile(pair.excerpt, pair.heard, f"{number} {pair.caption}") for number, pair in enumerate(pairs)]
    return _grid(snippets), _grid(excerpts)


def _inside(shares: NDArray[np.floating], chosen: int) -> NDArray[np.float64]:
    """The share of the chosen onset, then the shares of the other onsets inside the window."""
    others = np.delete(shares, chosen)
    return np.concatenate([shares[chosen : chosen + 1], others[(others >= 0) & (others < 1)]]).astype(np.float64)


def _tile(picture: Picture, places: NDArray[np.float64], caption: str) -> Picture:
    """The picture, enlarged to a tile, with its caption and a mark at each place; the first mark is red."""
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
    """The tiles in rows of six, filled up with white tiles."""
    blank = np.full_like(tiles[0], 255)
    filled = [*tiles, *[blank] * (-len(tiles) % _COLUMNS)]
    rows = [np.hstack(filled[start : start + _COLUMNS]) for start in range(0, len(filled), _COLUMNS)]
    return np.vstack(rows)


def main() -> None:
    process.prepare()
    parser = argparse.ArgumentParser(description="Draw random pairs of the training corpus for inspection.")
    parser.add_argument("config", type=Path, help="TOML file like indexer/training/default.toml")
    parser.add_argument("--out", type=Path, required=True, help="folder of the two pictures")
    parser.add_argument("--takes", type=int, default=24, help="number of takes shown, one onset each")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    settings = config.load(CorpusSettings(), section="corpus", path=arguments.config)
    front_end = config.load(FrontEnd(), section="front_end", path=arguments.config)
    rng = np.random.default_rng(arguments.seed)
    pieces = Corpus(settings.folder / "train", front_end.bands).refresh()
    drawn = [pieces[place] for place in rng.permutation(len(pieces))[: arguments.takes]]
    made = [joined(piece.prints[0], piece.recordings[0], front_end.bands) for piece in drawn]
    pairs = [pair for take in made if (pair := random_pair(take, front_end, rng)) is not None]
    if not pairs:
        raise SettingsError(f"{settings.folder / 'train'}: has no takes to show; make the corpus first")
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, sheet in zip(("snippets", "excerpts"), sheets(pairs), strict=True):
        cv2.imwrite(str(arguments.out / f"{name}.png"), sheet)


if __name__ == "__main__":
    main()
