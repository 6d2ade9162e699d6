"""How fast do pages and recordings become embeddings, stage by stage, and how near is each stage to its bound?

    python -m bench.ingest [--scores FILE ...] [--recordings FILE ...] [--weights FILE] [--quick] [--json FILE]

Without files, the bench engraves pages of the demo, damages them like scans and stores them as JPEG, and plays minutes
of made tones, stereo at 44.1 kHz as FLAC. One thread computes. Times are of the processor, so that other programs on
the machine count little, and the least of several runs. A stage's bound is the time of the work that it cannot avoid:

- decode a page: Pillow decodes the image to grey, without levelling its greys. PDFs have none: PDFium draws them.
- find systems: one pass of OpenCV over all pixels, a comparison of each with a threshold.
- systems to snippets: one copy of the snippets.
- network: ONNX Runtime alone, on whole batches that lie ready.
- decode a recording: libsndfile alone. Resample: soxr alone, on one channel.
- spectrogram: its Fourier transforms alone.
- excerpts: one copy of the excerpts.

Peers, in the same run: for pages, the textbook's way to find staff lines (OpenCV's opening with a long level line, and
the darkest rows of what is left), which finds no systems; for recordings, librosa's constant-Q transform with as many
bands, of samples that are decoded already; for the network, torch, if it is installed. Audiveris (Java) and oemer
are not in the run: oemer loads its networks from the web when it first runs, and reads a page in minutes.
"""

import argparse
import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from PIL import Image

from bench.lib import engraved, report
from bench.lib.confined import one_thread
from engine import audio, process, score
from engine.embedding import weights
from engine.embedding.encoder import Encoder
from engine.embedding.graphs import BATCH, Graphs, Precision
from engine.score import Grey
from engine.values import Kind

REPEATS = 3
RATE = 44_100
"""Sampling rate of the recordings that are made, Hz."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The time of one stage over all files."""

    medium: Kind
    stage: str
    ms: float
    """Processor time."""
    bound_ms: float | None = None
    """Processor time of the work that the stage cannot avoid."""


def main(arguments: Sequence[str] | None = None) -> None:
    process.prepare()
    cv2.setNumThreads(1)
    options = _options(arguments)
    environment = report.environment()
    with tempfile.TemporaryDirectory() as folder:
        scores = options.scores or made_pages(Path(folder), every=70 if options.quick else 18)
        recordings = options.recordings or made_recordings(Path(folder), seconds=10 if options.quick else 60)
        encoder = Encoder.load(options.weights, device="cpu", precision=options.precision)
        pages = {file: list(score.read_pages(file)) for file in scores}
        seconds = sum(soundfile.info(file).duration for file in recordings)
        units = {"score": float(sum(map(len, pages.values()))), "recording": seconds}
        size = sum(page.size for group in pages.values() for page in group) / units["score"] / 1e6
        print(report.heading(environment))
        print(f"one thread; network {report.label(encoder.identity)} on {encoder.device}")
        print(f"{units['score']:.0f} pages of {size:.1f} megapixels on average; {seconds:.0f} s of sound")
        stages = [
            *page_stages(pages, encoder, options.weights, options.precision),
            *recording_stages(recordings, encoder, options.weights, options.precision),
        ]
        stages += [_total(stages, medium) for medium in ("score", "recording")]
        rows = [row(stage, units[stage.medium]) for stage in stages]
        peers = [row(peer, units[peer.medium]) for peer in peer_times(pages, recordings, encoder, options.weights)]
    print("", report.table(rows), "", "Peers", report.table(peers), sep="\n")
    if options.json:
        report.save(options.json, environment=environment, units=units, rows=rows, peers=peers)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scores", type=Path, nargs="+", metavar="FILE", help="scores (default: made)")
    parser.add_argument(
        "--recordings", type=Path, nargs="+", metavar="FILE", help="WAV, FLAC, OGG or MP3 (default: made)"
    )
    parser.add_argument("--weights", type=Path, help="weights of a network (default: the shipped one)")
    parser.add_argument("--precision", choices=("fp32", "int8"), help="of the network")
    parser.add_argument("--quick", action="store_true", help="few pages, and 20 s of sound")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    return parser.parse_args(arguments)


def row(measured: Measured, units: float) -> dict[str, Any]:
    """The table row of a stage. units: pages, or seconds of sound."""
    per_unit = measured.ms / units
    shown: dict[str, Any] = {"of": "page" if measured.medium == "score" else "second", "stage": measured.stage}
    shown |= {"ms": per_unit, "a second": 1000 / per_unit}
    bound = None if measured.bound_ms is None else measured.bound_ms / units
    return shown | {"bound ms": bound, "times the bound": per_unit / bound if bound else None}


def page_stages(
    pages: dict[Path, list[Grey]], encoder: Encoder, path: Path | None, precision: Precision | None
) -> Iterator[Measured]:
    """Yields the stages from files of pages to embeddings."""
    front_end = encoder.identity.front_end
    images = [file for file in pages if not file.read_bytes().startswith(b"%PDF-")]
    _, decode_ms = timed(lambda: [list(score.read_pages(file)) for file in pages])
    _, alone_ms = timed(lambda: [np.asarray(Image.open(file).convert("L")) for file in images])
    yield Measured(
        medium="score", stage="decode", ms=decode_ms, bound_ms=alone_ms if len(images) == len(pages) else None
    )
    everything = [page for group in pages.values() for page in group]
    found, find_ms = timed(lambda: [score.placed_systems(page) for page in everything])
    _, pass_ms = timed(lambda: [cv2.threshold(page, 128, 255, cv2.THRESH_BINARY) for page in everything])
    yield Measured(medium="score", stage="find systems", ms=find_ms, bound_ms=pass_ms)
    placed = [system for systems in found for system in systems]
    _, strips_ms = timed(lambda: [score.cut_strip(one.image, one.found.course, front_end) for one in placed])
    read = [score.read_score(file, front_end) for file in pages]
    blocks, windows_ms = timed(lambda: [np.concatenate(list(score.windows(one, front_end))) for one in read])
    snippets = np.concatenate(blocks)
    _, copy_ms = timed(snippets.copy)
    yield Measured(medium="score", stage="systems to snippets", ms=strips_ms + windows_ms, bound_ms=copy_ms)
    yield _network("score", snippets, encoder, path, precision)


def recording_stages(
    files: Sequence[Path], encoder: Encoder, path: Path | None, precision: Precision | None
) -> Iterator[Measured]:
    """Yields the stages from files of sound to embeddings."""
    front_end = encoder.identity.front_end
    raw, alone_ms = timed(lambda: [soundfile.read(file, dtype="float32", always_2d=True) for file in files])
    samples, read_ms = timed(lambda: [audio.read_audio(file) for file in files])
    channel = [np.ascontiguousarray(block[:, 0]) for block, _ in raw]
    rates = [rate for _, rate in raw]
    _, soxr_ms = timed(
        lambda: [soxr.resample(one, rate, audio.SAMPLE_RATE) for one, rate in zip(channel, rates, strict=True)]
    )
    yield Measured(medium="recording", stage="decode, mix, resample", ms=read_ms, bound_ms=alone_ms + soxr_ms)
    spectra, spectrogram_ms = timed(lambda: [audio.spectrogram(one, front_end.bands) for one in samples])
    _, transforms_ms = timed(lambda: [_transforms(one) for one in samples])
    yield Measured(medium="recording", stage="spectrogram", ms=spectrogram_ms, bound_ms=transforms_ms)
    cut, cut_ms = timed(lambda: [audio.excerpts(one, front_end) for one in spectra])
    excerpts = np.concatenate(cut)
    _, copy_ms = timed(excerpts.copy)
    yield Measured(medium="recording", stage="excerpts", ms=cut_ms, bound_ms=copy_ms)
    yield _network("recording", excerpts, encoder, path, precision)


def peer_times(
    pages: dict[Path, list[Grey]], recordings: Sequence[Path], encoder: Encoder, path: Path | None
) -> Iterator[Measured]:
    """Yields the times of other programs for the same work, or for less of it."""
    everything = [page for group in pages.values() for page in group]
    _, opening_ms = timed(lambda: [staff_rows(page) for page in everything])
    yield Measured(medium="score", stage="OpenCV: opening and row profile", ms=opening_ms)
    if importlib.util.find_spec("librosa") is not None:
        import librosa

        bands = audio.BANDS[encoder.identity.front_end.bands]
        samples = [audio.read_audio(file) for file in recordings]
        # 12 bands an octave up to 84, as its documentation has it, for the 92 of the published spectrogram.
        octave = 12 if bands < 100 else 24
        with one_thread():
            _, cqt_ms = timed(
                lambda: [
                    librosa.cqt(one, sr=audio.SAMPLE_RATE, n_bins=7 * octave, bins_per_octave=octave) for one in samples
                ]
            )
        yield Measured(medium="recording", stage="librosa: constant-Q transform", ms=cqt_ms)
    if importlib.util.find_spec("torch") is not None:
        import torch

        from engine.embedding.torch_network import TorchRuntime, network_of

        torch.set_num_threads(1)
        runtime, front_end = TorchRuntime(network_of(weights.read(path)), "cpu"), encoder.identity.front_end
        read = [score.read_score(file, front_end) for file in pages]
        snippets = np.concatenate([block for one in read for block in score.windows(one, front_end)])
        excerpts = np.concatenate(
            [audio.excerpts(audio.read_recording(file, front_end).spectrogram, front_end) for file in recordings]
        )
        for medium, inputs in (("score", snippets), ("recording", excerpts)):
            _, torch_ms = timed(lambda medium=medium, inputs=inputs: runtime.embed(medium, inputs))  # type: ignore[misc]
            yield Measured(medium=medium, stage="torch: network", ms=torch_ms)  # type: ignore[arg-type]


def staff_rows(page: Grey) -> NDArray[np.int64]:
    """Rows that may be staff lines: those with much ink after an opening with a level line, int64 (n,)."""
    _, ink = cv2.threshold(page, 0, 1, cv2.THRESH_BINARY_INV | cv2.THRESH_OTSU)
    lines = cv2.morphologyEx(ink, cv2.MORPH_OPEN, np.ones((1, page.shape[1] // 30), np.uint8))
    profile = lines.sum(axis=1, dtype=np.int64)
    return np.flatnonzero(profile > page.shape[1] // 3)


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """The result of some work, and the least processor time, in ms, of REPEATS runs after a first one."""
    result, least_ns = work(), np.inf
    for _ in range(REPEATS):
        started = time.process_time_ns()
        work()
        least_ns = min(least_ns, time.process_time_ns() - started)
    return result, float(least_ns) / 1e6


def _network(
    medium: Kind, inputs: NDArray[Any], encoder: Encoder, path: Path | None, precision: Precision | None
) -> Measured:
    """The stage of the network."""
    embed: Callable[[NDArray[Any]], object] = encoder.score if medium == "score" else encoder.recording
    _, embed_ms = timed(lambda: embed(inputs))
    ready = inputs[: len(inputs) // BATCH * BATCH]
    graphs = Graphs(weights.read(path), precision)
    _, alone_ms = timed(lambda: graphs.embed(medium, ready))
    return Measured(medium=medium, stage="network", ms=embed_ms, bound_ms=alone_ms * len(inputs) / len(ready))


def _total(stages: Sequence[Measured], medium: Kind) -> Measured:
    """All stages of one medium together."""
    return Measured(medium=medium, stage="all", ms=sum(stage.ms for stage in stages if stage.medium == medium))


def _transforms(samples: NDArray[np.float32]) -> int:
    """Computes the Fourier transforms of the published spectrogram, without the window; returns how many."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, audio.FRAME_SAMPLES)[:: int(audio.HOP_SAMPLES)]
    for first in range(0, len(frames), 512):
        cv2.dft(np.ascontiguousarray(frames[first : first + 512]), flags=cv2.DFT_ROWS)
    return len(frames)


def made_pages(folder: Path, every: int) -> list[Path]:
    """JPEG files of engraved pages, damaged like scans, of every `every`-th piece of the demo."""
    files = []
    for known in engraved.pages(degraded=True, every=every, jobs=1):
        files.append(folder / f"{known.name}.jpg")
        Image.fromarray(known.page).save(files[-1], quality=90)
    return files


def made_recordings(folder: Path, seconds: float) -> list[Path]:
    """Two FLAC files of random struck tones with six partials each, stereo."""
    files = []
    for seed in range(2):
        rng, frames = np.random.default_rng(seed), round(seconds * RATE)
        sound = rng.normal(0, 1e-3, (frames, 2))
        for start in range(0, frames - RATE, RATE // 6):
            t = np.arange(RATE) / RATE
            hertz = 440 * 2 ** (rng.integers(-30, 30) / 12)
            tone = sum(np.sin(2 * np.pi * hertz * k * t) / k for k in range(1, 7)) * np.exp(-4 * t)
            sound[start : start + RATE] += 0.1 * tone[:, None] * rng.uniform(0.5, 1, 2)
        files.append(folder / f"{seed}.flac")
        soundfile.write(files[-1], (sound / np.abs(sound).max()).astype(np.float32), RATE)
    return files


if __name__ == "__main__":
    main()
