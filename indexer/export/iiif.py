"""IIIF Presentation 3: a manifest of a score, a canvas a page, with its systems and the seconds at which they sound."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from engine.pairing import AlignedPair
from engine.values import Document, System
from indexer.export.labels import timed_labels
from indexer.export.material import ExportMaterial

CONTEXT = "http://iiif.io/api/presentation/3/context.json"
PICTURE_TYPE = "image/webp"
SERVED_PX = 2400
"""Width of the widest picture that a server draws."""
SOUND_TYPE = "audio/mpeg"
"""Media type of sound that a collection keeps, and of files with other suffixes than these."""
SOUND_TYPES = {
    ".flac": "audio/flac",
    ".wav": "audio/wav",
    ".ogg": "audio/ogg",
    ".oga": "audio/ogg",
    ".m4a": "audio/mp4",
}
SMALLEST_S = 0.001
"""Shortest stretch of sound that an annotation names, in seconds."""

Resource = dict[str, Any]


def manifest(material: ExportMaterial) -> str:
    """Returns the manifest of a score as JSON.

    Pictures and sound have the addresses under which `scorefind serve --http-port` shows them.
    """
    score = material.score
    found: Resource = {
        "@context": CONTEXT,
        "id": f"{_address(material, score)}/manifest",
        "type": "Manifest",
        "label": _text(score.title or score.id),
    }
    facts = {"Composer": score.composer, "Work": score.work}
    if any(facts.values()):
        found["metadata"] = [{"label": _text(name), "value": _text(value)} for name, value in facts.items() if value]
    if material.pair is not None:
        recording = material.pair.recording
        found["rendering"] = [_sound(material, recording) | {"label": _text(recording.title or recording.id)}]
    found["items"] = [_canvas(material, number) for number in sorted(material.pages)]
    return _json(found)


def annotation_pages(material: ExportMaterial, pair: AlignedPair) -> str:
    """Returns the annotations of a recording as JSON: an AnnotationPage of the places in the order of playing."""
    name = f"{_address(material, material.score)}/annotations/{_quoted(pair.recording.id)}"
    page = {"@context": CONTEXT, "id": name, "type": "AnnotationPage", "label": _text(pair.recording.title)}
    return _json(page | {"items": list(_played(material, pair, name, None))})


def _canvas(material: ExportMaterial, number: int) -> Resource:
    """Returns the canvas of a page, with its picture, its systems and what is played of it."""
    size, name = material.pages[number], _canvas_name(material, number)
    width = min(size.width, SERVED_PX)
    picture = {
        "id": f"{_address(material, material.score)}/pages/{number}?width={width}",
        "type": "Image",
        "format": PICTURE_TYPE,
        "width": width,
        "height": max(1, round(size.height * width / size.width)),
    }
    painting = _annotation(f"{name}/picture", "painting", picture, name)
    systems = [system for system in material.score.systems if system.page == number]
    regions = [
        _annotation(
            f"{name}/systems/{system.number}",
            "tagging",
            {"type": "TextualBody", "value": f"system {system.number}", "format": "text/plain"},
            f"{name}#xywh={material.rectangle(system).xywh}",
        )
        for system in systems
    ]
    canvas: Resource = {
        "id": name,
        "type": "Canvas",
        "label": _text(f"p. {number}"),
        "width": size.width,
        "height": size.height,
        "items": [_page(f"{name}/page", [painting])],
        "annotations": [_page(f"{name}/systems", regions)],
    }
    if material.pair is not None:
        played = f"{name}/annotations/{_quoted(material.pair.recording.id)}"
        items = list(_played(material, material.pair, played, number))
        canvas["annotations"].append(_page(played, items))
    return canvas


def _played(material: ExportMaterial, pair: AlignedPair, name: str, page: int | None) -> Iterator[Resource]:
    """Yields an annotation for each measure, or system, as it is played: the sound at a rectangle of a canvas.

    name: of the page of annotations. page: the only page of the score that is annotated; None: all.
    """
    systems: dict[int, System] = {system.number: system for system in material.score.systems}
    for i, one in enumerate(timed_labels(pair), start=1):
        if page is not None and one.page != page:
            continue
        place = material.rectangle(systems[one.system], one.x0, one.x1)
        sound = _sound(material, pair.recording)
        sound["id"] += f"#t={one.start_s:.3f},{max(one.end_s, one.start_s + SMALLEST_S):.3f}"
        target = f"{_canvas_name(material, one.page)}#xywh={place.xywh}"
        yield _annotation(f"{name}/{i}", "linking", sound | {"label": _text(one.text)}, target)


def _sound(material: ExportMaterial, recording: Document) -> Resource:
    address = f"{_address(material, recording)}/sound"
    suffix = "" if recording.media else Path(recording.source).suffix.lower()
    kind = SOUND_TYPES.get(suffix, SOUND_TYPE)
    return {"id": address, "type": "Sound", "format": kind, "duration": round(recording.duration_s, 3)}


def _annotation(name: str, motivation: str, body: Resource, target: str) -> Resource:
    return {"id": name, "type": "Annotation", "motivation": motivation, "body": body, "target": target}


def _page(name: str, items: list[Resource]) -> Resource:
    return {"id": name, "type": "AnnotationPage", "items": items}


def _canvas_name(material: ExportMaterial, number: int) -> str:
    return f"{_address(material, material.score)}/canvas/{number}"


def _address(material: ExportMaterial, document: Document) -> str:
    return f"{material.base}/documents/{_quoted(document.id)}"


def _quoted(id: str) -> str:
    return quote(id, safe="", errors="replace")


def _text(text: str) -> dict[str, list[str]]:
    """Returns a text in no known language, as IIIF has it."""
    return {"none": [text]}


def _json(resource: Resource) -> str:
    return json.dumps(resource, ensure_ascii=False, indent=1) + "\n"
