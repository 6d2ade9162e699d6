"""IIIF manifests of Presentation 2 and 3 -> a title, and the address of each page's image. Nothing is fetched here."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from engine.score import census
from indexer.errors import IIIFError

logger = logging.getLogger(__name__)

CONTEXT = "iiif.io/api/presentation/"
COMPOSERS = ("composer", "creator", "author", "komponist", "compositeur", "compositore")
"""Labels of metadata whose value is the composer."""
WIDTH_PX = 2000
"""Width in which an image is asked for if it is wider: A4 has a staff space of 12 to 18 px then, and 7 are enough."""
MAX_DEPTH = 4
"""Depth of the lists and objects of a label. Those of Presentation 2 and 3 are two or three deep."""
INNER = ("default", "items", "full", "source")
"""Keys under which a Choice, and a SpecificResource, have images: in Presentation 2, then in 3."""

Resource = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageImage:
    """The image of a page."""

    addresses: tuple[str, ...]
    """Addresses of the image: the best first, then what to ask for where a server does not have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestedScore:
    """What a manifest says of a score."""

    id: str
    """The id of the manifest: an address, but not always one that answers."""
    title: str
    composer: str
    pages: tuple[PageImage, ...]


def is_manifest(text: str) -> bool:
    """Returns whether a text is JSON that names IIIF Presentation as its context. JSON that is too deep is not."""
    try:
        return _is_presentation(json.loads(text))
    except (ValueError, RecursionError):
        return False


def parsed_manifest(text: str, address: str) -> ManifestedScore:
    """Returns what a manifest says.

    address: named in errors and warnings. Raises IIIFError if the text is no manifest, or names no images.
    """
    try:
        resource = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise IIIFError(address, "expected a IIIF manifest, got no JSON") from exc
    if not isinstance(resource, dict) or not _is_presentation(resource):
        raise IIIFError(address, "expected a IIIF manifest (Presentation 2 or 3), got other JSON")
    kind = _kind(resource)
    if not kind.endswith("Manifest"):
        raise IIIFError(address, f"expected a manifest, got a {kind or 'resource without a type'}: add its manifests")
    pages = tuple(_pages(resource, address))
    if not pages:
        raise IIIFError(address, "the manifest names no images")
    return ManifestedScore(
        id=_id(resource) or address, title=_text(resource.get("label")), composer=_composer(resource), pages=pages
    )


def _is_presentation(resource: Any) -> bool:
    contexts = resource.get("@context", "") if isinstance(resource, dict) else ""
    return any(isinstance(one, str) and CONTEXT in one for one in _listed(contexts))


def _pages(manifest: Resource, address: str) -> Iterator[PageImage]:
    """Yields the first image that is painted on each canvas. A warning names the canvases with something else.

    address: named in the warning.
    """
    others = []
    for number, (canvas, bodies) in enumerate(_painted(manifest), start=1):
        image = next((image for body in bodies for image in _image(_chosen(body), canvas)), None)
        if image is not None:
            yield image
        elif bodies:
            others.append(number)
    if others:
        logger.warning("%s: passed over, because no image is painted there: canvas %s", address, census.spans(others))


def _painted(manifest: Resource) -> Iterator[tuple[Resource, list[Any]]]:
    """Yields each canvas, of the first sequence in Presentation 2, and what is painted on it."""
    if "sequences" in manifest:
        for sequence in _resources(manifest.get("sequences"))[:1]:
            for canvas in _resources(sequence.get("canvases")):
                yield canvas, [body for one in _resources(canvas.get("images")) for body in _first(one.get("resource"))]
        return
    for canvas in _resources(manifest.get("items")):
        annotations = [one for page in _resources(canvas.get("items")) for one in _resources(page.get("items"))]
        painting = [one for one in annotations if "painting" in _listed(one.get("motivation"))]
        yield canvas, [body for one in painting for body in _first(one.get("body"))]


def _chosen(body: Any) -> Resource:
    """Returns the first of several images to choose from, or the image that a part of it is taken from.

    The whole image is the page: which part a canvas shows is left to viewers.
    """
    for _ in range(MAX_DEPTH):
        if not isinstance(body, dict):
            break
        if _kind(body).endswith("Image"):
            return body
        key = next((key for key in INNER if key in body), None)
        if key is None:
            return body
        body = next(iter(_resources(body[key])), None)
    return {}


def _image(body: Resource, canvas: Resource) -> Iterator[PageImage]:
    """Yields the image of a canvas; nothing if it is sound or film."""
    address = _id(body)
    if not address or not _kind(body).endswith("Image"):
        return
    width = body.get("width") or canvas.get("width")
    sized = []
    if isinstance(width, int) and width > WIDTH_PX:
        sized = [
            f"{_id(service).rstrip('/')}/full/{WIDTH_PX},/0/default.jpg"
            for service in _resources(body.get("service"))[:1]
            if _id(service) and _scales(service)
        ]
    yield PageImage(addresses=(*sized, address))


def _scales(service: Resource) -> bool:
    """Returns whether an image service makes images of any size."""
    profiles = [str(one) for one in _listed(service.get("profile")) if isinstance(one, str)]
    return any("level1" in one or "level2" in one for one in profiles)


def _composer(manifest: Resource) -> str:
    for entry in _resources(manifest.get("metadata")):
        if _text(entry.get("label")).strip().casefold() in COMPOSERS:
            return _text(entry.get("value"))
    return ""


def _text(value: Any, depth: int = MAX_DEPTH) -> str:
    """Returns the text of a label: of any language, English first; empty if the text lies deeper than `depth`."""
    if isinstance(value, str):
        return " ".join(_sound(value).split())
    if isinstance(value, list):
        inner = value
    elif isinstance(value, dict):
        inner = [value["@value"]] if "@value" in value else [value.get("en"), *value.values()]
    else:
        inner = []
    return next((text for one in inner if depth and (text := _text(one, depth - 1))), "")


def _kind(resource: Resource) -> str:
    value = resource.get("type") or resource.get("@type")
    return value if isinstance(value, str) else ""


def _id(resource: Resource) -> str:
    value = resource.get("id") or resource.get("@id")
    return _sound(value) if isinstance(value, str) else ""


def _sound(text: str) -> str:
    """Returns a text without halves of surrogate pairs, which JSON can escape and no file or address can hold."""
    return text.encode("utf-8", "replace").decode()


def _resources(value: Any) -> list[Resource]:
    """Returns the resources in a value that should be a resource or a list of them."""
    return [one for one in _listed(value) if isinstance(one, dict)]


def _first(value: Any) -> list[Any]:
    """Returns the first of a list, or what is no list itself, as a list; an empty list if there is nothing."""
    return _listed(value)[:1]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
