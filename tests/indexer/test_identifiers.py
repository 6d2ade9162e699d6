import itertools
import unicodedata
from pathlib import Path

import pytest

from engine.values import Kind
from indexer.identifiers import Assigned, Held, assign
from indexer.sources import Source

ROOT = Path("/music")


def source(name: str, id: str = "") -> Source:
    kind: Kind = "score" if name.endswith((".pdf", ".png")) else "recording"
    return Source(path=ROOT / name, id=id, kind=kind)


def ids(assigned: Assigned) -> dict[str, str]:
    return {str(source.path).removeprefix(f"{ROOT}/"): source.id for source in assigned.sources}


def assigned(*names: str, held: Held | None = None) -> dict[str, str]:
    return ids(assign([source(name) for name in names], held or {}))


@pytest.mark.parametrize(
    "expected",
    [
        {"a.pdf": "a", "b.flac": "b"},
        {"k545.pdf": "k545", "k545.flac": "k545_recording"},
        {"scans/k545.pdf": "k545", "takes/k545.flac": "k545_recording"},
        {"A/01.flac": "A/01", "B/01.flac": "B/01"},
        {"A/1/01.flac": "A/1/01", "B/1/01.flac": "B/1/01", "B/2/01.flac": "B/2/01"},
        {"A/01.flac": "A/01_recording", "A/01.pdf": "A/01", "B/01.flac": "B/01"},
        {"x.flac": "x.flac", "x.mp3": "x.mp3", "x.pdf": "x"},
        {"A/x.flac": "A/x.flac", "A/x.mp3": "A/x.mp3", "B/x.mp3": "B/x"},
        {"x.flac": "x.flac", "x.pdf": "x", "x_recording.mp3": "x_recording"},
    ],
)
def test_stems_that_several_files_have_are_made_distinct_in_any_order(expected: dict[str, str]) -> None:
    for order in itertools.permutations(expected):
        assert assigned(*order) == expected


def test_the_chosen_ids_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    assigned("A/01.flac", "B/01.flac", "k545.pdf", "k545.flac")
    assert [record.getMessage() for record in caplog.records] == [
        "several files have the same name; ids chosen: A/01, B/01, k545_recording"
    ]


def test_a_document_keeps_its_id_when_files_of_the_same_name_come(caplog: pytest.LogCaptureFixture) -> None:
    held: Held = {("recording", "/music/A/01.flac"): ["01"], ("recording", "/music/k545.flac"): ["k545"]}
    names = ("A/01.flac", "B/01.flac", "k545.pdf", "k545.flac")
    first = assigned(*names, held=held)
    assert first == {"A/01.flac": "01", "B/01.flac": "B/01", "k545.pdf": "k545_score", "k545.flac": "k545"}
    caplog.clear()
    kinds = {name: source(name).kind for name in names}
    assert assigned(*names, held={(kinds[name], f"/music/{name}"): [id] for name, id in first.items()}) == first
    assert caplog.text == ""


def test_a_document_keeps_the_id_of_an_earlier_manifest() -> None:
    assert assigned("a.pdf", held={("score", "/music/a.pdf"): ["k331"]}) == {"a.pdf": "k331"}
    assert assigned("a.pdf", held={("score", "/music/a.pdf"): ["k331", "a"]}) == {"a.pdf": "a"}
    assert assigned("a.pdf", held={("recording", "/music/a.pdf"): ["k331"]}) == {"a.pdf": "a"}


def test_an_id_of_the_manifest_is_taken_from_no_other_file() -> None:
    found = assign([source("a.pdf"), source("x.pdf", id="a"), source("a.flac")], {})
    assert ids(found) == {"a.pdf": "a.pdf", "x.pdf": "a", "a.flac": "a_recording"}


def test_files_to_which_the_manifest_gives_one_id_fail_and_the_rest_is_added() -> None:
    found = assign([source("a.pdf", id="x"), source("b.pdf"), source("c.pdf", id="x")], {})
    assert ids(found) == {"b.pdf": "b"}
    assert (
        found.failed[ROOT / "a.pdf"] == "/music/c.pdf would have the same id 'x'; give each its own id in the manifest"
    )
    assert "/music/a.pdf would have" in found.failed[ROOT / "c.pdf"]


def test_ids_are_composed_and_can_be_written() -> None:
    nfd, nfc = (unicodedata.normalize(form, "étude") for form in ("NFD", "NFC"))
    assert assigned(f"{nfd}.pdf") == {f"{nfd}.pdf": nfc}
    assert set(assigned(f"A/{nfd}.pdf", f"B/{nfc}.pdf").values()) == {f"A/{nfc}", f"B/{nfc}"}
    assert set(assigned(f"{nfd}.pdf", f"{nfc}.pdf").values()) == {f"{nfc}.pdf", f"music/{nfc}.pdf"}
    assert set(assigned(f"../{nfd}.pdf", f"../{nfc}.pdf").values()) == {f"{nfc}.pdf", f"{nfc}_2"}
    assert assigned("fa\udce7ile.pdf") == {"fa\udce7ile.pdf": "fa\\xe7ile"}


def test_the_root_folder_has_no_name_to_be_an_id() -> None:
    found = assign([Source(path=Path("/"), kind="score"), source("b.pdf")], {})
    assert ids(found) == {"b.pdf": "b"}
    assert "has no name" in found.failed[Path("/")]
