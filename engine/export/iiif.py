"""IIIF Presentation 3: a manifest of a score, a canvas a page, with its systems and the seconds at which they sound."""

import json
from collections.abc import Iterator
from typing import Any

from engine.export.labels import timed_labels
from engine.export.material import PICTURE_TYPE, ExportMaterial, quoted, sound_type
from engine.pairing import AlignedPair
from engine.values import Document, System

CONTEXT = "http://iiif.io/api/presentation/3/context.json"
TYPE = f'application/ld+json;profile="{CONTEXT}"'
"""Media type of manifests and pages of annotations."""
SERVED_PX = 2400
"""Width of the widest picture that a server draws."""
THUMBNAIL_PX = 160
"""Width of the small picture by which a viewer lists a page."""
SMALLEST_S = 0.001
"""Shortest stretch of sound that an annotation names, in seconds."""

Resource = dict[str, Any]


def manifest(material: ExportMaterial) -> str:
    """Returns the manifest of a score as JSON.

    The manifest, pictures and sound have the addresses under which `scorefind serve --http-port` shows them.
    """
    score, pair = material.score, material.pair
    heard = "" if pair is None else f"?recording={quoted(pair.recording.id)}"
    found: Resource = {
        "@context": CONTEXT,
        "id": f"{material.address(score)}/manifest.json{heard}",
        "type": "Manifest",
        "label": _text(_name(score)),
    }
    facts = {"Composer": score.composer, "Work": score.work}
    if any(facts.values()):
        found["metadata"] = [{"label": _text(name), "value": _text(value)} for name, value in facts.items() if value]
    if pair is not None:
        found["rendering"] = [_sound(material, pair.recording) | {"label": _text(_name(pair.recording))}]
    found["items"] = [_canvas(material, number) for number in sorted(material.pages)]
    return _json(found)


def annotation_pages(material: ExportMaterial, pair: AlignedPair) -> str:
    """Returns the annotations of a recording as JSON: an AnnotationPage of the places in the order of playing."""
    name = f"{material.address(material.score)}/export/annotations?recording={quoted(pair.recording.id)}"
    page = {"@context": CONTEXT, "id": name, "type": "AnnotationPage", "label": _text(_name(pair.recording))}
    return _json(page | {"items": list(_played(material, pair, name, None))})


def _canvas(material: ExportMaterial, number: int) -> Resource:
    """Returns the canvas of a page, with its picture, its systems and what is played of it."""
    size, name = material.pages[number], _canvas_name(material, number)
    painting = _annotation(f"{name}/picture", "painting", _picture(material, number, SERVED_PX), name)
    systems = [system for system in material.systems if system.page == number]
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
        "thumbnail": [_picture(material, number, THUMBNAIL_PX)],
        "items": [_page(f"{name}/page", [painting])],
        "annotations": [_page(f"{name}/systems", regions)],
    }
    if material.pair is not None:
        played = f"{name}/annotations/{quoted(material.pair.recording.id)}"
        items = list(_played(material, material.pair, played, number))
        canvas["annotations"].append(_page(played, items))
    return canvas


def _picture(material: ExportMaterial, number: int, most_px: int) -> Resource:
    """Returns the picture of a page, at most so wide."""
    size = material.pages[number]
    width = min(size.width, most_px)
    return {
        "id": material.picture_address(number, width),
        "type": "Image",
        "format": PICTURE_TYPE,
        "width": width,
        "height": max(1, round(size.height * width / size.width)),
    }


def _played(material: ExportMaterial, pair: AlignedPair, name: str, page: int | None) -> Iterator[Resource]:
    """Yields an annotation for each measure, or system, as it is played: the sound at a rectangle of a canvas.

    name: of the page of annotations. page: the only page of the score that is annotated; None: all.
    """
    systems: dict[int, System] = {system.number: system for system in material.systems}
    for i, one in enumerate(timed_labels(pair), start=1):
        if one.system not in systems or page not in (None, one.page):
            continue
        place = material.rectangle(systems[one.system], one.x0, one.x1)
        sound = _sound(material, pair.recording)
        sound["id"] += f"#t={one.start_s:.3f},{max(one.end_s, one.start_s + SMALLEST_S):.3f}"
        target = f"{_canvas_name(material, one.page)}#xywh={place.xywh}"
        yield _annotation(f"{name}#{i}", "linking", sound | {"label": _text(one.text)}, target)


def _sound(material: ExportMaterial, recording: Document) -> Resource:
    address, duration_s = f"{material.address(recording)}/sound", round(recording.duration_s, 3)
    return {"id": address, "type": "Sound", "format": sound_type(recording), "duration": duration_s}


def _annotation(name: str, motivation: str, body: Resource, target: str) -> Resource:
    return {"id": name, "type": "Annotation", "motivation": motivation, "body": body, "target": target}


def _page(name: str, items: list[Resource]) -> Resource:
    return {"id": name, "type": "AnnotationPage", "items": items}


def _canvas_name(material: ExportMaterial, number: int) -> str:
    return f"{material.address(material.score)}/canvas/{number}"


def _name(document: Document) -> str:
    return document.title or document.id


def _text(text: str) -> dict[str, list[str]]:
    """Returns a text in no known language, as IIIF has it."""
    return {"none": [text]}


def _json(resource: Resource) -> str:
    return json.dumps(resource, ensure_ascii=False, indent=1) + "\n"
