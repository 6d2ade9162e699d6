"""Exports of a score of two pages, the second on its side, with a recording that plays its second system twice."""

import csv
import io
import json
import shutil
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from engine import alignment
from engine.collection import Collection
from engine.config import Alignment
from engine.errors import ExportError, MediaError
from engine.export import FORMATS, ExportMaterial, exported, material
from engine.export.material import PageSize, Rectangle
from engine.measures import PrintedMeasure, played_measures
from engine.pairing import AlignedPair
from engine.timemap import Stretch, TimeMap
from engine.values import Box, Document, System
from fake_encoder import FakeEncoder
from indexer.ingest import add
from indexer.sources import discover
from media import write_page, write_recording

MEI = "{http://www.music-encoding.org/ns/mei}"
ID = "{http://www.w3.org/XML/1998/namespace}id"
BASE = "https://music.example"


def system(number: int, page: int, y0: float, turn: int = 0) -> System:
    box = Box(x0=0.1, y0=y0, x1=0.9, y1=y0 + 0.1)
    return System(page=page, number=number, box=box, staves=(box,), staff_space=0.01, confidence=1.0, turn=turn)


SYSTEMS = (system(1, 1, 0.2), system(2, 1, 0.6), system(3, 2, 0.2, turn=90))
PAGES = {1: PageSize(width=1000, height=1400), 2: PageSize(width=1400, height=1000)}
MEASURES = tuple(
    PrintedMeasure(number=2 * i + k + 1, system=one, x0=0.1 + 0.4 * k, x1=0.5 + 0.4 * k)
    for i, one in enumerate(SYSTEMS)
    for k in range(2)
)
ORDER = (1, 2, 2, 3)
"""The systems in the order of playing, ten seconds each."""


def made(*, measures: bool = True, recording: bool = True, title: str = "Étude") -> ExportMaterial:
    stretches = tuple(
        Stretch(
            system=SYSTEMS[number - 1],
            seconds=(10.0 * i, 10.0 * (i + 1)),
            xs=(0.1, 0.9),
            jump=i == 2,
        )
        for i, number in enumerate(ORDER)
    )
    mapped, printed = TimeMap(stretches=stretches), MEASURES if measures else ()
    score = Document(id="op 10/3", kind="score", title=title, composer="Chopin", systems=SYSTEMS, pages=2)
    pair = AlignedPair(
        score=score,
        recording=Document(id="take", kind="recording", title="Take", duration_s=40.0),
        cost=0.3,
        time_map=mapped,
        measures=printed,
        played=played_measures(mapped, printed) if printed else (),
    )
    return ExportMaterial(
        score=score, pages=PAGES, pair=pair if recording else None, base=BASE, measures=printed if recording else ()
    )


def validator(module: str, package: str) -> ModuleType:
    return pytest.importorskip(module, reason=f"the validator {package} is not installed (extra `standards`)")


def as_json(made_of: ExportMaterial, format: Any) -> dict[str, Any]:
    found = json.loads(exported(made_of, format))
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("turn", "place"),
    [
        (0, Rectangle(x=100, y=200, width=800, height=100)),
        (180, Rectangle(x=100, y=1100, width=800, height=100)),
        (90, Rectangle(x=280, y=1400 - 1260, width=140, height=1120)),
        (270, Rectangle(x=1000 - 420, y=140, width=140, height=1120)),
    ],
)
def test_a_system_lies_where_it_is_on_the_page_as_it_lies(turn: int, place: Rectangle) -> None:
    assert made().rectangle(replace(SYSTEMS[0], turn=turn)) == place


def test_a_rectangle_stays_on_its_page() -> None:
    outside = replace(SYSTEMS[0], box=Box(x0=-0.1, y0=1.3, x1=1.2, y1=1.5))
    assert made().rectangle(outside) == Rectangle(x=0, y=1300, width=1000, height=100)


def test_a_manifest_has_a_canvas_a_page_with_its_systems() -> None:
    found = as_json(made(recording=False), "iiif")
    assert (found["type"], found["label"]) == ("Manifest", {"none": ["Étude"]})
    assert found["id"] == f"{BASE}/documents/op%2010%2F3/manifest.json"
    first, second = found["items"]
    assert (first["width"], first["height"], second["width"]) == (1000, 1400, 1400)
    (painting,) = first["items"][0]["items"]
    assert painting["target"] == first["id"]
    assert painting["body"]["id"] == f"{BASE}/documents/op%2010%2F3/pages/1?width=1000"
    (systems,) = first["annotations"]
    assert [one["target"] for one in systems["items"]] == [
        f"{first['id']}#xywh=100,200,800,100",
        f"{first['id']}#xywh=100,600,800,100",
    ]
    assert second["annotations"][0]["items"][0]["target"].endswith("#xywh=200,100,100,800")


def test_a_manifest_with_a_recording_has_timed_annotations() -> None:
    first, second = as_json(made(), "iiif")["items"]
    played = first["annotations"][1]["items"]
    assert [one["body"]["label"]["none"][0].split()[0] for one in played] == ["1", "2", "3", "4", "3", "4"]
    sound = f"{BASE}/documents/take/sound"
    assert played[0]["body"]["id"] == f"{sound}#t=0.000,5.250"
    assert played[0]["target"] == f"{first['id']}#xywh=100,200,400,100"
    assert played[-1]["body"]["id"] == f"{sound}#t=25.250,30.000"
    assert len(second["annotations"][1]["items"]) == 2


def test_a_manifest_names_pictures_and_sound_as_a_server_has_them() -> None:
    made_of = made()
    large = replace(made_of, pages=PAGES | {1: PageSize(width=4800, height=6000)})
    picture = as_json(large, "iiif")["items"][0]["items"][0]["items"][0]["body"]
    assert (picture["id"][-11:], picture["width"], picture["height"]) == ("?width=2400", 2400, 3000)
    assert made_of.pair is not None
    for source, media, kind in (
        ("/a.FLAC", "", "audio/flac"),
        ("/a.flac", "kept", "audio/mpeg"),
        ("/a", "", "audio/mpeg"),
        ("/a.wave", "", "audio/wav"),
        ("/a.opus", "", "audio/ogg"),
        ("/a.mp4", "", "audio/mp4"),
        ("/a.aac", "", "audio/aac"),
        ("/a.weba", "", "audio/webm"),
    ):
        recording = replace(made_of.pair.recording, source=source, media=media)
        found = as_json(replace(made_of, pair=replace(made_of.pair, recording=recording)), "iiif")
        assert found["rendering"][0]["format"] == kind


def test_annotations_alone_name_the_canvases_of_the_manifest() -> None:
    page, manifest = as_json(made(), "annotations"), as_json(made(), "iiif")
    assert page["type"] == "AnnotationPage"
    targets = [one["target"].split("#")[0] for one in page["items"]]
    assert targets == [manifest["items"][0]["id"]] * 6 + [manifest["items"][1]["id"]] * 2
    assert len({one["id"] for one in page["items"]}) == 8


def test_no_two_resources_of_a_manifest_have_the_same_id() -> None:
    def ids(resource: Any) -> list[str]:
        if isinstance(resource, list):
            return [id for one in resource for id in ids(one)]
        if not isinstance(resource, dict):
            return []
        own = [resource["id"]] if resource.get("type") in ("Annotation", "AnnotationPage", "Canvas", "Manifest") else []
        return own + [id for one in resource.values() for id in ids(one)]

    found = ids(as_json(made(), "iiif"))
    assert len(found) == len(set(found)) > 15


def test_manifests_and_annotations_are_valid() -> None:
    prezi = validator("iiif_prezi3", "iiif-prezi3")
    assert len(prezi.Manifest(**as_json(made(), "iiif")).items) == 2
    assert len(prezi.Manifest(**as_json(made(recording=False), "iiif")).items) == 2
    assert len(prezi.AnnotationPage(**as_json(made(), "annotations")).items) == 8


def test_labels_of_audacity_have_start_end_and_text() -> None:
    lines = exported(made(), "audacity").splitlines()
    assert lines[0] == "0.000000\t5.250000\t1 (p. 1, system 1)"
    assert len(lines) == 8


def test_without_measures_labels_name_the_systems() -> None:
    lines = exported(made(measures=False), "audacity").splitlines()
    assert [line.split("\t")[2] for line in lines] == [
        "p. 1, system 1",
        "p. 1, system 2",
        "p. 1, system 2",
        "p. 2, system 3",
    ]


def test_a_table_has_a_row_a_measure() -> None:
    rows = list(csv.DictReader(io.StringIO(exported(made(), "csv"))))
    assert rows[0] == {
        "start_s": "0.000",
        "end_s": "5.250",
        "page": "1",
        "system": "1",
        "measure": "1",
        "x0": "0.10000",
        "x1": "0.50000",
    }
    assert [row["measure"] for row in csv.DictReader(io.StringIO(exported(made(measures=False), "csv")))] == [""] * 4


def test_sonic_visualiser_counts_frames() -> None:
    root = ET.fromstring(exported(made(), "sonic-visualiser"))
    model, layer = root.find("data/model"), root.find("display/layer")
    assert model is not None
    assert layer is not None
    assert (model.get("sampleRate"), layer.get("model")) == ("22050", model.get("id"))
    frames = [int(point.get("frame", "")) for point in root.iter("point")]
    assert frames[:3] == [0, pytest.approx(5.25 * 22050, abs=1), 220500]


def test_jams_has_measures_systems_and_points() -> None:
    found = as_json(made(), "jams")
    measures, systems, points = found["annotations"]
    assert [one["value"] for one in measures["data"]] == ["1", "2", "3", "4", "3", "4", "5", "6"]
    assert [one["time"] for one in systems["data"]] == [0, 10, 20, 30]
    assert points["data"][0]["value"] == {"page": 1, "system": 1, "x": 0.1}
    assert found["file_metadata"]["duration"] == 40
    assert len(as_json(made(measures=False), "jams")["annotations"]) == 2


def test_jams_is_valid(tmp_path: Path) -> None:
    jams = validator("jams", "jams")
    (tmp_path / "map.jams").write_text(exported(made(), "jams"), encoding="utf-8")
    assert jams.load(str(tmp_path / "map.jams"), validate=True, strict=True).validate(strict=True)


def test_mei_has_zones_and_the_moments_at_which_they_sound() -> None:
    root = ET.fromstring(exported(made(), "mei"))
    surfaces = list(root.iter(f"{MEI}surface"))
    assert [(one.get("lrx"), one.get("lry")) for one in surfaces] == [("1000", "1400"), ("1400", "1000")]
    zones = {zone.get(ID): zone for zone in root.iter(f"{MEI}zone")}
    assert set(zones) == {f"system-{n}" for n in (1, 2, 3)} | {f"measure-{n}" for n in range(1, 7)}
    assert [zones["measure-1"].get(side) for side in ("ulx", "uly", "lrx", "lry")] == ["100", "200", "500", "300"]
    moments = [(one.get("absolute"), one.get("data")) for one in root.iter(f"{MEI}when")]
    assert [when for when, zone in moments if zone == "#system-2"] == ["00:00:10.000", "00:00:20.000"]
    assert {zone.removeprefix("#") for _, zone in moments if zone} == set(zones)
    names = [one.get(ID) for one in root.iter() if one.get(ID)]
    assert len(names) == len(set(names))


def test_mei_names_the_pictures_and_the_sound() -> None:
    root = ET.fromstring(exported(made(), "mei"))
    targets = [one.get("target") for name in ("graphic", "avFile") for one in root.iter(f"{MEI}{name}")]
    documents = f"{BASE}/documents"
    pages = [f"{documents}/op%2010%2F3/pages/{page}?width={width}" for page, width in ((1, 1000), (2, 1400))]
    assert targets == [*pages, f"{documents}/take/sound"]


def test_mei_has_a_measure_without_notes_for_each_zone_of_one() -> None:
    root = ET.fromstring(exported(replace(made(recording=False), measures=MEASURES), "mei"))
    section = root.find(f".//{MEI}section")
    assert section is not None
    order = [one.get("facs", "").removeprefix("#") for one in section]
    assert order[:5] == ["page-1", "system-1", "measure-1", "measure-2", "system-2"]
    assert order[-4:] == ["page-2", "system-3", "measure-5", "measure-6"]
    assert set(order) <= {one.get(ID) for one in root.iter()}


def test_both_parts_of_a_divided_measure_have_zones_of_their_own() -> None:
    measures = (*MEASURES[:1], replace(MEASURES[1], number=1, is_second_part=True), *MEASURES[2:])
    root = ET.fromstring(exported(replace(made(recording=False), measures=measures), "mei"))
    named = [one.get(ID) for one in root.iter(f"{MEI}zone")]
    assert {"measure-1", "measure-1b"} <= set(named)
    assert len(named) == len(set(named))


@pytest.mark.parametrize("recording", [True, False])
def test_verovio_opens_mei_with_all_measures_and_zones(recording: bool) -> None:
    verovio = pytest.importorskip("verovio")
    toolkit = verovio.toolkit()
    assert toolkit.loadData(exported(replace(made(recording=recording), measures=MEASURES), "mei"))
    root = ET.fromstring(toolkit.getMEI({}))
    assert [len(list(root.iter(f"{MEI}{name}"))) for name in ("surface", "zone", "measure")] == [2, 9, 6]


def test_verovio_opens_mei_without_measures_as_one_measure_a_system() -> None:
    verovio = pytest.importorskip("verovio")
    toolkit = verovio.toolkit()
    assert toolkit.loadData(exported(made(measures=False), "mei"))
    found = [one.get("facs") for one in ET.fromstring(toolkit.getMEI({})).iter(f"{MEI}measure")]
    assert found == ["#system-1", "#system-2", "#system-3"]


def test_mei_of_a_score_alone_has_its_systems() -> None:
    root = ET.fromstring(exported(made(recording=False, title="a\x07<b>"), "mei"))
    assert len(list(root.iter(f"{MEI}zone"))) == 3
    assert not list(root.iter(f"{MEI}when"))
    assert [one.text for one in root.iter(f"{MEI}title")] == ["a<b>"]


@pytest.mark.parametrize("format", [name for name, needs in FORMATS.items() if needs.recording])
def test_a_format_that_needs_a_recording_says_so(format: Any) -> None:
    with pytest.raises(ExportError, match="name the recording"):
        exported(made(recording=False), format)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection of one score and one recording, beside their files."""
    folder = tmp_path_factory.mktemp("export")
    write_page(folder / "etude.png", seed=3)
    write_recording(folder / "take.flac", seed=3, seconds=20)
    add(folder / "music.sf", discover([folder / "etude.png", folder / "take.flac"]).sources, FakeEncoder)
    return folder


def of_collection(folder: Path, id: str, recording: str | None, *, sized: bool = True) -> ExportMaterial:
    backend = alignment.choose("cpu", threads=1)
    with Collection.open(folder / "music.sf") as collection:
        return material(collection, id, recording, backend, Alignment(), sized=sized, base=BASE + "/")


def test_a_pair_of_a_collection_has_measures_and_the_sizes_of_its_pages(filled: Path) -> None:
    made_of = of_collection(filled, "etude", "take")
    assert made_of.pages == {1: PageSize(width=1200, height=1160)}
    assert made_of.pair is not None
    assert len(made_of.pair.measures) == 12
    assert made_of.base == BASE


def test_kept_pictures_say_how_large_pages_are_when_the_file_is_gone(tmp_path: Path) -> None:
    pages = tmp_path / "scan"
    pages.mkdir()
    for number in (1, 2):
        write_page(pages / f"{number}.png", seed=number)
    add(tmp_path / "music.sf", discover([pages]).sources, FakeEncoder, keep_media=True)
    before = exported(of_collection(tmp_path, "scan", None), "mei")
    shutil.rmtree(pages)
    made_of = of_collection(tmp_path, "scan", None)
    assert made_of.pages == dict.fromkeys((1, 2), PageSize(width=1200, height=1160))
    assert exported(made_of, "mei") == before
    assert len(as_json(made_of, "iiif")["items"]) == 2


@pytest.mark.parametrize("format", FORMATS)
def test_a_page_of_unknown_size_is_left_out(format: Any) -> None:
    text = exported(replace(made(), pages={1: PAGES[1]}), format)
    if FORMATS[format].pages:
        assert "canvas/2" not in text
        assert "system-3" not in text
        assert "measure-5" not in text


def test_a_document_of_the_wrong_kind_is_no_score(filled: Path) -> None:
    with pytest.raises(ExportError, match="expected a score"):
        of_collection(filled, "take", None)
    with pytest.raises(ExportError, match="expected a recording"):
        of_collection(filled, "etude", "etude")


def test_pages_that_have_changed_are_not_taken_for_those_of_the_score(
    filled: Path, caplog: pytest.LogCaptureFixture
) -> None:
    page = filled / "etude.png"
    before = page.read_bytes()
    write_page(page, seed=4)
    try:
        with pytest.raises(MediaError, match="has changed"):
            of_collection(filled, "etude", "take")
        made_of = of_collection(filled, "etude", "take", sized=False)
    finally:
        page.write_bytes(before)
    assert made_of.pair is not None
    assert made_of.pair.measures == ()
    assert "no measures" in caplog.text
