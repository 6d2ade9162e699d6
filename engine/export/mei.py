"""The pages of a score as an MEI facsimile: a surface a page, a zone a system or measure, and when each is played."""

import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Collection

from engine import __version__
from engine.export.material import ExportMaterial, Rectangle
from engine.pairing import AlignedPair
from engine.values import System

NAMESPACE = "http://www.music-encoding.org/ns/mei"
_XML_ID = "{http://www.w3.org/XML/1998/namespace}id"


def mei(material: ExportMaterial) -> str:
    """Returns a score as MEI 5: a facsimile with zones and, with a recording, a performance of moments (`when`).

    The zones are measures if they are known, and systems. There is no notation: `mdiv` is empty.
    """
    ET.register_namespace("", NAMESPACE)
    root = ET.Element(_name("mei"), {"meiversion": "5.0"})
    _head(root, material)
    music = ET.SubElement(root, _name("music"))
    facsimile = ET.SubElement(music, _name("facsimile"))
    surfaces: dict[int, ET.Element] = {}
    for number, size in sorted(material.pages.items()):
        corners = {"ulx": "0", "uly": "0", "lrx": str(size.width), "lry": str(size.height)}
        named = {_XML_ID: f"page-{number}", "n": str(number)}
        surfaces[number] = ET.SubElement(facsimile, _name("surface"), named | corners)
    for system in material.systems:
        _zone(surfaces[system.page], f"system-{system.number}", "system", material.rectangle(system))
    if material.pair is not None:
        for measure in material.pair.measures:
            if measure.system.page not in surfaces:
                continue
            place = material.rectangle(_same(material, measure.system), measure.x0, measure.x1)
            _zone(surfaces[measure.system.page], f"measure-{measure.number}", "measure", place)
        _performance(music, material.pair, surfaces)
    body = ET.SubElement(music, _name("body"))
    ET.SubElement(body, _name("mdiv"))
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, "unicode")}\n'


def _head(root: ET.Element, material: ExportMaterial) -> None:
    """Adds title, composer, and the program that wrote the file."""
    head = ET.SubElement(root, _name("meiHead"))
    described = ET.SubElement(head, _name("fileDesc"))
    statement = ET.SubElement(described, _name("titleStmt"))
    ET.SubElement(statement, _name("title")).text = _clean(material.score.title or material.score.id)
    if material.score.composer:
        ET.SubElement(statement, _name("composer")).text = _clean(material.score.composer)
    ET.SubElement(described, _name("pubStmt"))
    encoding = ET.SubElement(ET.SubElement(head, _name("encodingDesc")), _name("appInfo"))
    program = ET.SubElement(encoding, _name("application"), {"version": __version__})
    ET.SubElement(program, _name("name")).text = "scorefind"


def _performance(music: ET.Element, pair: AlignedPair, pages: Collection[int]) -> None:
    """Adds the recording, with the moment at which each zone begins to sound. A repeated zone has several moments.

    pages: those that have zones.
    """
    performance = ET.SubElement(music, _name("performance"))
    recording = ET.SubElement(
        performance,
        _name("recording"),
        {_XML_ID: "recording", "begin": _clock(0.0), "end": _clock(pair.recording.duration_s), "betype": "time"},
    )
    moments: list[tuple[float, str]] = [
        (stretch.seconds[0], f"system-{stretch.system.number}")
        for stretch in pair.time_map.stretches
        if stretch.system.page in pages
    ]
    moments += [
        (one.start_s, f"measure-{one.measure.number}") for one in pair.played if one.measure.system.page in pages
    ]
    times: defaultdict[str, int] = defaultdict(int)
    for second, zone in sorted(moments):
        times[zone] += 1
        fields = {"absolute": _clock(second), "abstype": "time", "data": f"#{zone}"}
        ET.SubElement(recording, _name("when"), {_XML_ID: f"when-{zone}-{times[zone]}"} | fields)


def _zone(surface: ET.Element, name: str, kind: str, place: Rectangle) -> None:
    corners = {
        "ulx": str(place.x),
        "uly": str(place.y),
        "lrx": str(place.x + place.width),
        "lry": str(place.y + place.height),
    }
    ET.SubElement(surface, _name("zone"), {_XML_ID: name, "type": kind} | corners)


def _same(material: ExportMaterial, system: System) -> System:
    """Returns the system of the collection that has the number of one that was found again."""
    return material.score.systems[system.number - 1]


def _clock(second: float) -> str:
    """Returns a second as hours, minutes and seconds, HH:MM:SS.sss."""
    minutes, milliseconds = divmod(round(second * 1000), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds / 1000:06.3f}"


def _name(name: str) -> str:
    return f"{{{NAMESPACE}}}{name}"


def _clean(text: str) -> str:
    """Returns a text without the characters that XML cannot hold."""
    return "".join(c for c in text if c in "\t\n" or " " <= c < "\ud800" or "\ue000" <= c <= "\ufffd" or c > "\uffff")
