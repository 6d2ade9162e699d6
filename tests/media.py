"""Small scores and recordings made for a test."""

from pathlib import Path

import cv2
import numpy as np
import soundfile
from numpy.typing import NDArray


def draw_page(seed: int, systems: int = 3) -> NDArray[np.uint8]:
    """uint8 (h, w): an engraved-looking page of systems of two staves joined by barlines, with notes where the seed
    puts them."""
    rng = np.random.default_rng(seed)
    space, width = 12, 1200
    page = np.full((200 + systems * 320, width), 255, dtype=np.uint8)
    for system in range(systems):
        top = 120 + system * 320
        for staff in (top, top + 120):
            for line in range(5):
                cv2.line(page, (80, staff + line * space), (1120, staff + line * space), 0, 2)
            for x in 120 + np.cumsum(rng.integers(20, 120, 14)):
                y = staff + int(rng.integers(0, 9)) * space // 2
                cv2.ellipse(page, (x, y), (7, 5), -20, 0, 360, 0, -1)
                cv2.line(page, (x + 6, y), (x + 6, y - 40), 0, 2)
        for x in (80, 340, 600, 860, 1120):
            cv2.line(page, (x, top), (x, top + 120 + 4 * space), 0, 3)
    return page


def write_page(path: Path, seed: int, systems: int = 3) -> Path:
    cv2.imwrite(str(path), draw_page(seed, systems))
    return path


def write_recording(path: Path, seed: int, seconds: float = 12.0) -> Path:
    """Tones of half a second each, of pitches that the seed picks, with a little noise."""
    rng = np.random.default_rng(seed)
    rate = 22050
    time_s = np.arange(rate // 2) / rate
    pitches_hz = 220.0 * 2.0 ** (rng.integers(0, 24, int(seconds * 2)) / 12)
    tones = np.concatenate([np.exp(-4 * time_s) * np.sin(2 * np.pi * pitch * time_s) for pitch in pitches_hz])
    soundfile.write(path, 0.4 * tones + 1e-3 * rng.standard_normal(len(tones)), rate)
    return path
