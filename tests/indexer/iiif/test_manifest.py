"""What manifests of Presentation 2 and 3 say, whatever their optional parts look like."""

import json
from typing import Any

import pytest

from indexer.errors import IIIFError
from indexer.iiif.manifest import is_manifest, parsed_manifest

CONTEXT = "http://iiif.io/api/presentation/{}/context.json"


def image(name: str = "a", **more: Any) -> dict[str, Any]:
    return {"id": f"https://x/{name}.jpg", "type": "Image", "format": "image/jpeg", **more}


def canvas(body: Any, motivation: Any = "painting", **more: Any) -> dict[str, Any]:
    annotation = {"type": "Annotation", "motivation": motivation, "body": body}
    return {"type": "Canvas", "items": [{"type": "AnnotationPage", "items": [annotation]}], **more}


def manifest_3(*canvases: Any, **more: Any) -> str:
    fields = {"@context": CONTEXT.format(3), "id": "https://x/m", "type": "Manifest", "label": {"de": ["Sonate"]}}
    return json.dumps(fields | {"items": list(canvases)} | more)


def manifest_2(*resources: Any, **more: Any) -> str:
    canvases = [{"@type": "sc:Canvas", "width": 5000, "images": [{"resource": one}]} for one in resources]
    fields = {"@context": CONTEXT.format(2), "@id": "https://x/m", "@type": "sc:Manifest", "label": "Sonate"}
    return json.dumps(fields | {"sequences": [{"canvases": canvases}]} | more)


def addresses(text: str) -> list[tuple[str, ...]]:
    return [page.addresses for page in parsed_manifest(text, "m").pages]


def test_presentation_3_names_title_composer_and_pages() -> None:
    facts = [{"label": {"en": ["Composer"]}, "value": {"none": ["Clara Schumann"]}}]
    found = parsed_manifest(manifest_3(canvas(image("a")), canvas([image("b")]), metadata=facts), "m")
    assert (found.id, found.title, found.composer) == ("https://x/m", "Sonate", "Clara Schumann")
    assert [page.addresses for page in found.pages] == [("https://x/a.jpg",), ("https://x/b.jpg",)]


def test_presentation_2_names_title_composer_and_pages() -> None:
    facts = [{"label": [{"@value": "Creator", "@language": "en"}], "value": "Clara  Schumann"}]
    resources = [{"@id": f"https://x/{name}.jpg", "@type": "dctypes:Image"} for name in "ab"]
    found = parsed_manifest(manifest_2(*resources, metadata=facts), "m")
    assert (found.title, found.composer) == ("Sonate", "Clara Schumann")
    assert [page.addresses for page in found.pages] == [("https://x/a.jpg",), ("https://x/b.jpg",)]


def test_a_wide_image_is_asked_for_in_a_smaller_size_if_its_service_scales() -> None:
    service = {"id": "https://x/iiif/a/", "type": "ImageService3", "profile": "level2"}
    sized = ("https://x/iiif/a/full/2000,/0/default.jpg", "https://x/a.jpg")
    assert addresses(manifest_3(canvas(image(width=5000, service=[service])))) == [sized]
    assert addresses(manifest_3(canvas(image(service=[service]), width=5000))) == [sized]
    assert addresses(manifest_3(canvas(image(width=1500, service=[service])))) == [sized[1:]]
    assert addresses(manifest_3(canvas(image(width=5000, service=[service | {"profile": "level0"}])))) == [sized[1:]]
    old = {"@id": "https://x/iiif/a", "profile": ["http://iiif.io/api/image/2/level1.json", {"formats": ["jpg"]}]}
    assert addresses(manifest_2({"@id": "https://x/a.jpg", "@type": "dctypes:Image", "service": old})) == [sized]


def test_what_is_not_painted_or_no_image_is_no_page() -> None:
    sound = {"id": "https://x/a.mp3", "type": "Sound"}
    choice = {"type": "Choice", "items": [image("colour"), image("infrared")]}
    found = addresses(manifest_3(canvas(sound), canvas(image("note"), "tagging"), canvas(choice), canvas(image("a"))))
    assert found == [("https://x/colour.jpg",), ("https://x/a.jpg",)]


def test_the_page_of_a_canvas_with_a_part_of_an_image_is_the_image() -> None:
    selector = {"type": "ImageApiSelector", "region": "0,0,2000,3000"}
    part = {"type": "SpecificResource", "source": image("part"), "selector": selector}
    choice = {"type": "Choice", "items": [part, image("infrared")]}
    assert addresses(manifest_3(canvas(part), canvas(choice))) == [("https://x/part.jpg",)] * 2
    old = {"@id": "https://x/old.jpg", "@type": "dctypes:Image"}
    part_2 = {"@type": "oa:SpecificResource", "full": old, "selector": {"region": "0,0,2000,3000"}}
    choice_2 = {"@type": "oa:Choice", "default": part_2, "item": [old]}
    assert addresses(manifest_2(part_2, choice_2)) == [("https://x/old.jpg",)] * 2


@pytest.mark.parametrize("more", [{"source": "Library"}, {"full": "full"}, {"items": []}, {"default": None}])
def test_an_image_is_a_page_whatever_else_it_says(more: dict[str, Any]) -> None:
    assert addresses(manifest_3(canvas(image() | more))) == addresses(manifest_3(canvas(image())))


def test_a_canvas_on_which_no_image_is_painted_is_told(caplog: pytest.LogCaptureFixture) -> None:
    sound = {"id": "https://x/a.mp3", "type": "Sound"}
    nested = {"type": "SpecificResource", "source": {"type": "SpecificResource"}}
    empty = {"type": "Canvas", "items": []}
    bodies = [sound, image(), "https://x/b.jpg", nested, {"type": "SpecificResource", "source": "https://x/c.jpg"}]
    assert len(addresses(manifest_3(empty, *map(canvas, bodies)))) == 1
    assert caplog.messages == ["m: passed over, because no image is painted there: canvas 2, 4-6"]
    caplog.clear()
    assert len(addresses(manifest_2({"@id": "https://x/a.jpg", "@type": "dctypes:Image"}, sound))) == 1
    assert caplog.messages == ["m: passed over, because no image is painted there: canvas 2"]


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("<html>", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[1]", "other JSON"),
        ('{"@context": "http://schema.org"}', "other JSON"),
        (manifest_3(type="Collection"), "got a Collection"),
        (manifest_3(type="DEEP").replace('"DEEP"', "[" * 600 + "]" * 600), "got a resource without a type"),
        (manifest_3(), "names no images"),
        (manifest_3(5, {"items": 3}, canvas("https://x/a.jpg"), canvas({"type": "Image", "id": 7})), "names no images"),
    ],
)
def test_what_is_no_manifest_of_a_score_is_an_error(text: str, cause: str) -> None:
    with pytest.raises(IIIFError, match=cause):
        parsed_manifest(text, "m")


def test_a_manifest_is_known_by_its_context() -> None:
    assert is_manifest(manifest_3())
    assert is_manifest(manifest_2())
    assert is_manifest(json.dumps({"@context": ["http://www.w3.org/ns/anno.jsonld", CONTEXT.format(3)]}))
    assert not is_manifest('{"path": "a"}')
    assert not is_manifest("{")
    assert not is_manifest("[" * 200_000)


@pytest.mark.parametrize(
    ("before", "after", "times"),
    [("[", "]", 600), ('{"en": ', "}", 600), ('{"@value": ', "}", 600), ('[{"de": ', "}]", 300)],
)
def test_a_label_that_is_too_deep_is_empty(before: str, after: str, times: int) -> None:
    label = before * times + '"Sonate"' + after * times
    found = parsed_manifest(manifest_3(canvas(image()), label="LABEL").replace('"LABEL"', label), "m")
    assert (found.title, len(found.pages)) == ("", 1)


def test_a_label_may_be_as_deep_as_the_specifications_have_it() -> None:
    for label in ([{"@value": ["Sonate"], "@language": "de"}], {"en": [], "de": ["Sonate"]}, ["", "Sonate"]):
        assert parsed_manifest(manifest_3(canvas(image()), label=label), "m").title == "Sonate"


def test_half_of_a_surrogate_pair_becomes_a_question_mark() -> None:
    found = parsed_manifest(manifest_3(canvas(image("a\ud800")), id="https://x/\udc00", label="\ud800"), "m")
    assert (found.id, found.title, found.pages[0].addresses) == ("https://x/?", "?", ("https://x/a?.jpg",))
