"""Packs a corpus for a machine to which little can be carried, and unpacks it there.

    python -m indexer.training.packing pack CORPUS FOLDER [--part-mb 48]
    python -m indexer.training.packing unpack CORPUS PART...

Strips and spectrograms become WebP images of low quality: 275 MB hold 2,433 pieces that take 5.7 GB with both
spectrograms. What is lost is less than what augmentation changes; validation pieces keep a higher quality. The parts
hold first the validation pieces, then the first print and recording of every piece, then the second ones, and so on:
some of the parts make a corpus too. `pack` leaves out the files that the folder's parts hold already. An unpacked
corpus has one kind of spectrogram.
"""

import argparse
import itertools
import logging
import re
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import msgpack
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from engine import process
from engine.audio import BANDS
from engine.config import Bands
from engine.files import replacing
from indexer.errors import CorpusError
from indexer.training.material import Print, Rendition, decoded, encoded, load_print, load_recording, save

logger = logging.getLogger(__name__)

_TILE_PX = 8192
"""Width of an image; WebP allows 16,383 px."""
_QUALITY = {"train": {"prints": 12, "recordings": 30}, "val": {"prints": 60, "recordings": 75}}
"""WebP quality by split and kind. Of 40 strips, 12 keeps 0.8 bits a pixel and 60 keeps 1.4."""
_STEPS_A_QUARTER, _STEPS_A_PIXEL, _STEPS_A_FRAME = 960, 8, 64
"""Resolution of onsets, columns and frames."""
_FILE = re.compile(r"(train|val)/(prints|recordings)/[^/]+\.npz")
"""The files of a corpus, relative to its folder."""
_PART = re.compile(r"part\.(\d+)")


def pack(corpus: Path, folder: Path, bands: Bands, part_bytes: int) -> list[Path]:
    """The parts written: those files of a corpus that no part in the folder holds yet.

    Raises CorpusError if the corpus is empty or damaged, or if a part of the folder is damaged or has other bands.
    """
    files = _in_order(corpus)
    folder.mkdir(parents=True, exist_ok=True)
    numbers = {int(found[1]): path for path in folder.iterdir() if (found := _PART.fullmatch(path.name))}
    held = _held(numbers.values(), bands)
    missing = [file for file in files if file not in held]
    free = itertools.count(max(numbers, default=-1) + 1)
    written: list[Path] = []
    records: list[bytes] = []
    size = 0
    with ProcessPoolExecutor(process.cores()) as pool:
        jobs = ((corpus, file, bands) for file in missing)
        for record in tqdm(pool.map(_packed, jobs, chunksize=8), total=len(missing), unit="file"):
            if records and size + len(record) > part_bytes:
                written.append(_write(folder, next(free), records))
                records, size = [], 0
            records.append(record)
            size += len(record)
    if records:
        written.append(_write(folder, next(free), records))
    return written


def unpack(parts: list[Path], corpus: Path) -> int:
    """The number of prints and recordings written to a corpus; those that it holds already are left as they are.

    Raises CorpusError if a part is damaged. What was written before that stays.
    """
    with ProcessPoolExecutor(process.cores()) as pool:
        jobs = ((corpus, part, record) for part in parts for record in _records(part))
        return sum(pool.map(_unpacked, jobs, chunksize=8))


def _in_order(corpus: Path) -> list[str]:
    """The files of a corpus in the order of the parts, relative to its folder. Raises CorpusError if there are none."""
    files = [path.relative_to(corpus).as_posix() for path in corpus.glob("*/*/*.npz")]
    number = re.compile(r"\.(\d+)\.npz$")

    def place(file: str) -> tuple[bool, int, str, str]:
        found = number.search(file)
        return file.startswith("train"), int(found[1]) if found else 0, Path(file).name, file

    ordered = sorted(filter(_FILE.fullmatch, files), key=place)
    if not ordered:
        raise CorpusError(f"{corpus}: expected prints and recordings in the folders train and val, got none")
    return ordered


def _held(parts: Iterable[Path], bands: Bands) -> set[str]:
    """The files that the parts hold. Raises CorpusError if a part is damaged, or has recordings in other bands."""
    held: set[str] = set()
    for part in parts:
        for record in _records(part):
            if record.get("bands", bands) != bands:
                raise CorpusError(
                    f"{part}: expected {bands!r} spectrograms, got {record['bands']!r}; use another folder"
                )
            held.add(record["file"])
    return held


def _write(folder: Path, number: int, records: list[bytes]) -> Path:
    path = folder / f"part.{number:03d}"
    with replacing(path) as unfinished:
        unfinished.write_bytes(b"".join(records))
    return path


def _records(part: Path) -> Iterator[dict[str, Any]]:
    """Yields the records of a part. Raises CorpusError if the part is damaged or cut off."""
    with part.open("rb") as file:
        unpacker = msgpack.Unpacker(file, max_buffer_size=0)
        try:
            for record in unpacker:
                if not isinstance(record, dict) or not _FILE.fullmatch(str(record.get("file"))):
                    raise ValueError("it holds something else than prints and recordings")
                yield record
        except (ValueError, msgpack.UnpackException) as exc:
            raise CorpusError(f"{part}: damaged, or no part of a corpus: {exc}") from exc
        # At the end of a file that is cut off, the unpacker ends as if the file were whole.
        if unpacker.tell() != (size := part.stat().st_size):
            raise CorpusError(f"{part}: cut off: {size - unpacker.tell()} bytes at the end are no whole record")


def _packed(job: tuple[Path, str, Bands]) -> bytes:
    """One print or recording as a msgpack map."""
    corpus, file, bands = job
    split, kind, _ = Path(file).parts
    quality = _QUALITY[split][kind]
    record: dict[str, Any] = {"file": file}
    if kind == "prints":
        printed = load_print(corpus / file)
        record |= {
            "piece": printed.piece,
            "quarters": _differences(printed.quarters, _STEPS_A_QUARTER),
            "columns": _differences(printed.columns, _STEPS_A_PIXEL),
            "images": _images(printed.strip, quality),
        }
    else:
        played = load_recording(corpus / file)
        magnitudes = decoded()[played.codes(bands)]
        top = float(np.quantile(magnitudes, 0.9999)) or 1.0
        # The square root spends the bits on what is loud; the network sees magnitudes nearly as they are.
        loudness = np.rint(255 * np.sqrt(np.minimum(magnitudes / top, 1))).astype(np.uint8)
        record |= {
            "piece": played.piece,
            "quarters": _differences(played.beat_quarter, _STEPS_A_QUARTER),
            "frames": _differences(played.beat_frame, _STEPS_A_FRAME),
            "bands": bands,
            "top": top,
            "images": _images(loudness, quality),
        }
    packed: bytes = msgpack.packb(record)
    return packed


def _unpacked(job: tuple[Path, Path, dict[str, Any]]) -> bool:
    """Whether a record's file was written: it was missing. Raises CorpusError if the record is damaged."""
    corpus, part, record = job
    target = corpus / record["file"]
    if target.exists():
        return False
    try:
        made = _made(record)
    except (cv2.error, zlib.error, KeyError, TypeError, ValueError) as exc:
        raise CorpusError(f"{part}: {record['file']} is damaged: {exc}") from exc
    save(made, target)
    return True


def _made(record: dict[str, Any]) -> Print | Rendition:
    """The print or the recording that a record holds."""
    image, quarters = _joined(record["images"]), _sums(record["quarters"], _STEPS_A_QUARTER)
    if "columns" in record:
        columns = _sums(record["columns"], _STEPS_A_PIXEL).astype(np.float32)
        return Print(piece=record["piece"], quarters=quarters, strip=image, columns=columns)
    codes = encoded((record["top"] * (image / 255.0) ** 2).astype(np.float32))
    absent = {bands: np.empty((count, 0), np.uint8) for bands, count in BANDS.items()}
    return Rendition(
        piece=record["piece"],
        beat_quarter=quarters,
        beat_frame=_sums(record["frames"], _STEPS_A_FRAME).astype(np.float32),
        **absent | {record["bands"]: codes},
    )


def _images(image: NDArray[np.uint8], quality: int) -> list[bytes]:
    """The image as WebP files of tiles, from left to right."""
    tiles = [image[:, left : left + _TILE_PX] for left in range(0, image.shape[1], _TILE_PX)]
    settings = [cv2.IMWRITE_WEBP_QUALITY, quality]
    return [cv2.imencode(".webp", np.ascontiguousarray(tile), settings)[1].tobytes() for tile in tiles]


def _joined(images: list[bytes]) -> NDArray[np.uint8]:
    """The image that `_images` made files of."""
    tiles = [np.asarray(cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_GRAYSCALE)) for image in images]
    return np.concatenate(tiles, axis=1).astype(np.uint8)


def _differences(values: NDArray[Any], steps: int) -> bytes:
    """Rounded values as compressed differences."""
    return zlib.compress(np.diff(np.rint(values * steps).astype(np.int32), prepend=np.int32(0)).tobytes(), 9)


def _sums(packed: bytes, steps: int) -> NDArray[np.float64]:
    """The values that `_differences` packed."""
    return np.cumsum(np.frombuffer(zlib.decompress(packed), np.int32), dtype=np.int64) / steps


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m indexer.training.packing", description="Pack a corpus for another machine, or unpack it there."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="write the parts that are missing in a folder")
    packing.add_argument("corpus", type=Path)
    packing.add_argument("folder", type=Path)
    packing.add_argument("--bands", choices=["published", "quarter_tone"], default="published")
    packing.add_argument("--part-mb", type=float, default=48, help="largest size of a part in MB (default: 48)")
    unpacking = commands.add_parser("unpack", help="write the prints and recordings of parts to a corpus")
    unpacking.add_argument("corpus", type=Path)
    unpacking.add_argument("parts", type=Path, nargs="+")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    cv2.setNumThreads(1)
    if arguments.command == "pack":
        for part in pack(arguments.corpus, arguments.folder, arguments.bands, int(arguments.part_mb * 1e6)):
            logger.info("wrote %s", part)
    else:
        logger.info("wrote %d prints and recordings", unpack(arguments.parts, arguments.corpus))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
