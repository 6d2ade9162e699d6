"""IIIF manifests as sources: their images are fetched into a folder, which is then added as a folder of pages is."""

import hashlib
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from engine.files import replacing
from indexer.errors import IIIFError
from indexer.iiif import manifest as manifests
from indexer.iiif.fetching import FetchedFile, Fetcher, FetchLimits, host_of, is_remote
from indexer.iiif.manifest import ManifestedScore, PageImage
from indexer.sources import Source

__all__ = ["FetchLimits", "Fetcher", "fetched", "is_manifest"]

logger = logging.getLogger(__name__)

ACCEPTED = 'application/ld+json;profile="http://iiif.io/api/presentation/3/context.json", application/json;q=0.9'
MANIFEST_BYTES = 32 << 20
"""Size of the largest manifest in a file."""
SUFFIXES = {
    "image/jpeg": ".jpg",
    "image/jpg": ".jpg",
    "image/png": ".png",
    "image/webp": ".webp",
    "image/tiff": ".tif",
    "image/jp2": ".jp2",
    "image/gif": ".gif",
    "image/avif": ".avif",
}
"""Suffixes of images by the media type that a server gives."""
LONGEST_NAME = 60


def is_manifest(source: str) -> bool:
    """Returns whether a source is the address of a manifest, or a file that holds one."""
    path = Path(source)
    if is_remote(source):
        return True
    if path.suffix.lower() not in (".json", ".jsonld") or not path.is_file() or path.stat().st_size > MANIFEST_BYTES:
        return False
    return manifests.is_manifest(path.read_text(encoding="utf-8", errors="replace"))


def fetched(source: str, images: Path, fetcher: Fetcher) -> Source:
    """Returns the source that a manifest means: a folder below `images` with the images of its pages.

    Images that are there from an earlier run are not fetched again.

    source: the address of a manifest, or a file. fetcher: fetches what `source` and the manifest name; the host in
        `source` is trusted.
    Raises IIIFError if the manifest or one of its images cannot be had. What was fetched stays for the next run.
    """
    if is_remote(source):
        fetcher = replace(fetcher, trusted=fetcher.trusted | {host_of(source)})
        text = fetcher.fetch(source, ACCEPTED).data.decode("utf-8-sig", "replace")
    else:
        text = Path(source).read_text(encoding="utf-8-sig", errors="replace")
    score = manifests.parsed_manifest(text, source)
    if len(score.pages) > fetcher.limits.pages:
        raise IIIFError(source, f"has {len(score.pages)} images, more than {fetcher.limits.pages}")
    folder = images / _name(score)
    folder.mkdir(parents=True, exist_ok=True)
    _fetch_pages(score, folder, fetcher, source)
    return Source(path=folder, kind="score", title=score.title, composer=score.composer)


def _fetch_pages(score: ManifestedScore, folder: Path, fetcher: Fetcher, source: str) -> None:
    """Fetches the images that a folder lacks, and removes those that the manifest does not name any more."""
    there = {path.stem: path for path in folder.iterdir()}
    wanted = {_stem(number, page): page for number, page in enumerate(score.pages, start=1)}
    size = sum(path.stat().st_size for stem, path in there.items() if stem in wanted)
    missing = {stem: page for stem, page in wanted.items() if stem not in there}
    logger.info("%s: %d images, of which %d are fetched", source, len(wanted), len(missing))
    for stem, page in tqdm(missing.items(), desc=score.title or "images", unit="image", disable=None):
        image = _first_of(page, fetcher.fetch)
        size += len(image.data)
        if size > fetcher.limits.total_bytes:
            raise IIIFError(source, f"the images have more than {fetcher.limits.total_bytes:,} bytes")
        with replacing(folder / f"{stem}{SUFFIXES[image.type]}") as unfinished:
            unfinished.write_bytes(image.data)
    for stem, path in there.items():
        if stem not in wanted:
            path.unlink()


def _first_of(page: PageImage, fetch: Callable[[str], FetchedFile]) -> FetchedFile:
    """Returns the image at the first address that has one. Raises the IIIFError of the last address."""
    fault: IIIFError | None = None
    for address in page.addresses:
        try:
            image = fetch(address)
        except IIIFError as exc:
            fault = exc
            continue
        if image.type in SUFFIXES:
            return image
        fault = IIIFError(address, f"expected an image, got {image.type}")
    raise fault or IIIFError("", "has no address")


def _stem(number: int, page: PageImage) -> str:
    """Returns the name of a page's image, by which it is found again if the manifest has not changed."""
    return f"{number:04}-{hashlib.sha256(page.addresses[0].encode()).hexdigest()[:8]}"


def _name(score: ManifestedScore) -> str:
    """Returns the name of the folder of a score: from its title, and from the id of its manifest."""
    words = re.sub(r"[^\w]+", "-", score.title).strip("-_")[:LONGEST_NAME].strip("-_")
    return f"{words or 'score'}-{hashlib.sha256(score.id.encode()).hexdigest()[:8]}"
