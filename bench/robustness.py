"""How well do networks find counterparts when one condition gets worse: tempo, tuning, scale, skew, blur, MP3 ...?

    python -m bench.robustness --data DIR [--weights FILE ...] [--plot FILE.png] [--quick] [--json FILE]

DIR holds the validation scores of the training corpus (indexer/training/default.toml). They are engraved without damage
and performed freely, without noise. 1,000 onsets are queries in both directions (A2S, S2A; see bench/lib/pairs.py).
Then one condition is changed, on one side only; the pairs stay the same. The engine levels the greys of the pages, as
it does with all pages. Systems are cut at their known places, so that detection has no influence.
"""

import argparse
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import soxr
from numpy.typing import NDArray
from tqdm import tqdm

from bench.embedding import DEFAULT_CORPUS
from bench.lib import pairs, report
from bench.lib.pairs import Material, Pairs
from engine import config, process
from engine.audio import FRAME_RATE, SAMPLE_RATE, spectrogram
from engine.config import Bands, FrontEnd
from engine.embedding.documents import Encoder as AnyEncoder
from engine.embedding.encoder import DEFAULT_WEIGHTS, Encoder
from engine.metrics import summarise
from engine.score import cut_strip, normalise_grey, straight_course
from engine.symbols.layout import Layout
from engine.symbols.playing import to_midi
from engine.symbols.soundfont import default_soundfont, synthesise
from engine.values import Embeddings, System
from engine.workers import Failure, each
from indexer.synthesis import degrade
from indexer.synthesis.engrave import EngravedPage, Engraver, EngravingError, ScoreNotes
from indexer.synthesis.perform import perform, random_style
from indexer.training import corpus
from indexer.training.corpus_settings import CorpusSettings

PAIRS, QUICK_PAIRS = 1000, 200
SCORES, QUICK_SCORES = 16, 4
PAGES = 3
SECONDS = 100.0
"""Length of each score that is engraved and played, in seconds at its own tempo."""

PCM = 0.0
"""The bit rate that stands for no MP3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """How scores are printed and played. The defaults are the best conditions."""

    tempo: float = 1.0
    """Tempo as a multiple of the tempo of the performance's style."""
    tuning_cents: float = 0.0
    """Cents by which all sounds higher, and faster in proportion, as from a disc that turns too fast."""
    mp3_kbit_s: float = PCM
    page_scale: float = 1.0
    """Staff space with which the strip is cut, as a multiple of the true staff space."""
    skew_degrees: float = 0.0
    """Angle by which each system is turned about its middle before it is cut out straight."""
    blur_spaces: float = 0.0
    """Standard deviation of the blur, in staff spaces."""
    noise: float = 0.0
    """Standard deviation of the noise of each pixel, as a share of the range from black to white."""
    contrast: float = 1.0
    """Darkness of the ink, 1 = black."""


CURVES: dict[str, tuple[float, ...]] = {
    "tempo": (0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0),
    "tuning_cents": (-50.0, -25.0, 0.0, 25.0, 50.0),
    "mp3_kbit_s": (PCM, 128.0, 96.0, 64.0, 48.0, 32.0),
    "page_scale": (0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4),
    "skew_degrees": (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0),
    "blur_spaces": (0.0, 0.1, 0.2, 0.3, 0.45, 0.6),
    "noise": (0.0, 0.1, 0.2, 0.35, 0.5),
    "contrast": (1.0, 0.5, 0.25, 0.12, 0.06),
}
SOUND = ("tempo", "tuning_cents", "mp3_kbit_s")
NEUTRAL = Conditions()


@dataclass(frozen=True, slots=True, kw_only=True)
class EngravedScore:
    """A score engraved, and its notes to be played."""

    piece: str
    pages: tuple[EngravedPage, ...]
    notes: ScoreNotes


def main(arguments: Sequence[str] | None = None) -> None:
    process.prepare()
    options = _options(arguments)
    encoders = [Encoder.load(path, threads=1) for path in options.weights]
    window = pairs.widest([encoder.identity.front_end for encoder in encoders])
    environment = report.environment()
    print(report.heading(environment))
    scores = engraved(options.data, QUICK_SCORES if options.quick else SCORES)
    curves = {name: values[:: len(values) - 1] if options.quick else values for name, values in CURVES.items()}
    rows = measure(scores, encoders, window, curves, QUICK_PAIRS if options.quick else PAIRS)
    print("", report.table([report.with_intervals(row) for row in rows]), sep="\n")
    if options.plot:
        draw(rows, options.plot)
    if options.json:
        networks = {report.label(encoder.identity): encoder.identity.hash for encoder in encoders}
        report.save(options.json, environment=environment, networks=networks, pieces=len(scores), rows=rows)


def engraved(data: Path, count: int) -> list[EngravedScore]:
    """The first `count` validation scores that Verovio can read, in the shuffled order of the corpus."""
    settings = replace(config.load(CorpusSettings(), section="corpus", path=DEFAULT_CORPUS), data=data)
    found = [(piece, path) for piece, path in corpus.pieces(settings, "val") if path.suffix != ".ly"]
    made = each(_engraved, found[:count], jobs=1, expected=(EngravingError,))
    return sorted((score for _, score in made if not isinstance(score, Failure)), key=lambda score: score.piece)


def _engraved(task: tuple[str, Path]) -> EngravedScore:
    """A score engraved. Runs in a worker process, because Verovio may crash."""
    engraver = Engraver(task[1])
    return EngravedScore(piece=task[0], pages=tuple(engraver.pages(Layout(), limit=PAGES)), notes=engraver.notes())


def measure(
    scores: Sequence[EngravedScore],
    encoders: Sequence[AnyEncoder],
    window: FrontEnd,
    curves: Mapping[str, Sequence[float]],
    count: int,
) -> list[dict[str, Any]]:
    """The table rows: MRR of each network at each value of each condition, in each direction.

    Intervals come from resampling pieces. Points are picked so far from the ends that their windows lie inside the
    piece at twice the tempo and at the largest scale.
    """
    clean = [material(score, NEUTRAL, window) for score in scores]
    roomy = replace(window, snippet_px=2 * window.snippet_px, excerpt_frames=2 * window.excerpt_frames)
    picked = pairs.pick(clean, roomy, count)
    cut = pairs.cut(clean, picked, window)
    known = [(pairs.seen(encoder, cut), pairs.heard(encoder, cut)) for encoder in encoders]
    rows: list[dict[str, Any]] = []
    for name, values in curves.items():
        for value in tqdm(values, desc=name, disable=None):
            conditions = replace(NEUTRAL, **{name: value})
            if conditions != NEUTRAL:
                changed = [
                    _changed(material_, score, name, conditions, window)
                    for material_, score in zip(clean, scores, strict=True)
                ]
                cut = pairs.cut(changed, picked, window)
            for encoder, (seen, heard) in zip(encoders, known, strict=True):
                if conditions != NEUTRAL and name in SOUND:
                    heard = pairs.heard(encoder, cut)
                elif conditions != NEUTRAL:
                    seen = pairs.seen(encoder, cut)
                rows += _rows(report.label(encoder.identity), name, value, (seen, heard), cut)
    return rows


def _rows(
    network: str, name: str, value: float, embeddings: tuple[Embeddings, Embeddings], cut: Pairs
) -> list[dict[str, Any]]:
    rows = []
    for direction, ranks in pairs.rank(*embeddings, cut).items():
        quality = summarise(ranks.exact, at=(1,), groups=cut.pieces.tolist()).row()
        figures = {key: quality[key] for key in ("n", "MRR", "MRR 95%")}
        rows.append({"network": network, "condition": name, "value": value, "direction": direction} | figures)
    return rows


def material(score: EngravedScore, conditions: Conditions, window: FrontEnd) -> Material:
    """The material of a score printed and played under these conditions. Its points are the onsets."""
    quarters = corpus.distinct_onsets(np.unique(np.concatenate([page.note_quarter for page in score.pages])))
    strip, columns = printed(score, quarters, conditions, window)
    sound, frames = played(score, quarters, conditions, window.bands)
    return Material(
        piece=score.piece, strip=strip, spectrogram=sound, columns=columns, frames=frames, measures=quarters / 4
    )


def _changed(clean: Material, score: EngravedScore, name: str, conditions: Conditions, window: FrontEnd) -> Material:
    """The material with the side that the condition affects made again."""
    quarters = clean.measures * 4
    if name in SOUND:
        sound, frames = played(score, quarters, conditions, window.bands)
        return replace(clean, spectrogram=sound, frames=frames)
    strip, columns = printed(score, quarters, conditions, window)
    return replace(clean, strip=strip, columns=columns)


def printed(
    score: EngravedScore, quarters: NDArray[np.float64], conditions: Conditions, window: FrontEnd
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The strip, and the column of each onset."""
    strips: list[NDArray[np.uint8]] = []
    column_of: dict[float, float] = {}
    left = 0
    for page in score.pages:
        image = _page(page.image, conditions)
        for system in page.systems:
            course = straight_course(system, image.shape[1])
            course = replace(course, staff_space=course.staff_space * conditions.page_scale)
            strip = cut_strip(_turned(image, system, conditions.skew_degrees), course, window)
            mine = page.note_system == system.number
            shares = (page.note_x[mine] - system.box.x0) / (system.box.x1 - system.box.x0)
            for quarter, share in zip(page.note_quarter[mine].tolist(), shares.tolist(), strict=True):
                column_of.setdefault(quarter, left + share * strip.shape[1])
            strips.append(strip)
            left += strip.shape[1]
    return np.hstack(strips), np.array([column_of[quarter] for quarter in quarters.tolist()])


def _page(page: NDArray[np.uint8], conditions: Conditions) -> NDArray[np.uint8]:
    """The page as scanned under these conditions, with its greys levelled by the engine."""
    grey = 255 - np.float32(conditions.contrast) * (255 - page.astype(np.float32))
    if conditions.blur_spaces:
        sigma = conditions.blur_spaces * Layout().staff_space_px
        grey = np.asarray(cv2.GaussianBlur(grey, (0, 0), sigma), np.float32)
    if conditions.noise:
        grey = grey + np.float32(255 * conditions.noise) * _grain(page.shape)
    return normalise_grey(np.clip(np.rint(grey), 0, 255).astype(np.uint8))


def _grain(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Noise of unit variance with a fixed seed, so that the curve over noise levels is smooth."""
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def _turned(page: NDArray[np.uint8], system: System, degrees: float) -> NDArray[np.uint8]:
    """The page turned about the middle of the system, with white corners."""
    if not degrees:
        return page
    height, width = page.shape
    box = system.box
    middle = ((box.x0 + box.x1) / 2 * width, (box.y0 + box.y1) / 2 * width)
    turn = cv2.getRotationMatrix2D(middle, degrees, 1.0)
    return np.asarray(cv2.warpAffine(page, turn, (width, height), flags=cv2.INTER_LINEAR, borderValue=255), np.uint8)


def played(
    score: EngravedScore, quarters: NDArray[np.float64], conditions: Conditions, bands: Bands
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The spectrogram of a performance with a fixed seed, and the frame of each onset."""
    rng = np.random.default_rng(zlib.crc32(score.piece.encode()))
    style = random_style(score.notes, rng)
    style = replace(style, quarters_per_minute=style.quarters_per_minute * conditions.tempo)
    performance = perform(score.notes, style, rng)
    samples = synthesise(to_midi(performance.until(SECONDS / conditions.tempo)), default_soundfont())
    # The silence before the first note does not shrink with the tempo. Without silence after the last note, windows at
    # a fast tempo would end outside the recording.
    samples = np.append(samples, np.zeros(2 * SAMPLE_RATE, np.float32))
    slower = 2 ** (-conditions.tuning_cents / 1200)
    if slower != 1:
        samples = soxr.resample(samples, SAMPLE_RATE, SAMPLE_RATE * slower)
    if conditions.mp3_kbit_s != PCM:
        samples = degrade.mp3(samples, (160 - conditions.mp3_kbit_s) / 152)  # 160 to 8 kbit/s at this sampling rate
    return spectrogram(samples, bands), performance.seconds_at(quarters) * slower * FRAME_RATE


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draws the curves, one panel for each condition."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(row["condition"] for row in rows))
    networks = list(dict.fromkeys(row["network"] for row in rows))
    figure, axes = pyplot.subplots(2, (len(names) + 1) // 2, figsize=(14, 6.4), sharey=True, squeeze=False)
    for axis, name in zip(axes.flat, names, strict=False):
        labels = list(dict.fromkeys(row["value"] for row in rows if row["condition"] == name))
        for number, network in enumerate(networks):
            for direction, line in (("A2S", "-o"), ("S2A", "--s")):
                mine = [r for r in rows if (r["condition"], r["network"], r["direction"]) == (name, network, direction)]
                figures = [row["MRR"] for row in mine]
                axis.plot(figures, line, color=f"C{number}", label=f"{network} {direction}", markersize=4)
        axis.set_title(TITLES[name], fontsize=11)
        axis.set_xticks(range(len(labels)), [_label(name, value) for value in labels])
        axis.set_ylim(0, 1)
        axis.grid(alpha=0.3)
    for row in axes:
        row[0].set_ylabel("MRR")
    handles, texts = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="lower center", ncols=min(len(texts), 6), frameon=False)
    figure.tight_layout(rect=(0, 0.04 + 0.04 * (len(texts) > 6), 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


TITLES = {
    "tempo": "tempo (factor)",
    "tuning_cents": "tuning (cents)",
    "mp3_kbit_s": "MP3 (kbit/s)",
    "page_scale": "page scale (factor)",
    "skew_degrees": "skew (degrees)",
    "blur_spaces": "blur (sigma, staff spaces)",
    "noise": "pixel noise (sigma, black to white = 1)",
    "contrast": "contrast (black = 1)",
}


def _label(name: str, value: float) -> str:
    return "none" if name == "mp3_kbit_s" and value == PCM else f"{value:g}"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the unpacked data sets")
    parser.add_argument("--weights", type=Path, nargs="+", default=[DEFAULT_WEIGHTS], help="weights of networks")
    parser.add_argument("--quick", action="store_true", help="few scores and pairs, the ends of each curve")
    parser.add_argument("--plot", type=Path, help="draw the curves to this file; needs matplotlib")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
