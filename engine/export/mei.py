"""The pages of a score as an MEI facsimile: a surface a page, a zone a system or measure, and when each is played.

The music is a section of empty measures that point to their zones: so Verovio opens the file, and an editor of notation
has each measure at its place. Where measures are not known, one empty measure stands for those of a system.
"""

import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from engine import __version__
from engine.export.material import PICTURE_TYPE, ExportMaterial, Rectangle, sound_type
from engine.measures import PrintedMeasure
from engine.pairing import AlignedPair
from engine.values import System

NAMESPACE = "http://www.music-encoding.org/ns/mei"
_XML_ID = "{http://www.w3.org/XML/1998/namespace}id"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Empty:
    """A measure without notes."""

    system: System
    fields: dict[str, str]
    """Attributes of the element."""

    @classmethod
    def of(cls, measure: PrintedMeasure) -> Self:
        """Returns a measure that is known."""
        fields = {"n": str(measure.number), "facs": f"#measure-{measure.name}"}
        return cls(system=measure.system, fields=fields)

    @classmethod
    def whole(cls, system: System) -> Self:
        """Returns a measure that stands for all of a system. It has no number, and `metcon` says that it is not one."""
        return cls(system=system, fields={"metcon": "false", "facs": f"#system-{system.number}"})


def mei(material: ExportMaterial) -> str:
    """Returns a score as MEI 5: a facsimile with zones and, with a recording, a performance of moments (`when`).

    The zones are systems and, if they are known, measures. There is no notation.
    """
    ET.register_namespace("", NAMESPACE)
    root = ET.Element(_name("mei"), {"meiversion": "5.0"})
    _head(root, material)
    music = ET.SubElement(root, _name("music"))
    facsimile = ET.SubElement(music, _name("facsimile"))
    surfaces = {number: _surface(facsimile, material, number) for number in sorted(material.pages)}
    measures = [one for one in material.measures if one.system.page in surfaces]
    for system in material.systems:
        _zone(surfaces[system.page], f"system-{system.number}", "system", material.rectangle(system))
    for measure in measures:
        place = material.rectangle(_same(material, measure.system), measure.x0, measure.x1)
        _zone(surfaces[measure.system.page], f"measure-{measure.name}", "measure", place)
    if material.pair is not None:
        _performance(music, material, material.pair)
    systems = [system for system in material.systems if system.page in surfaces]
    division = ET.SubElement(ET.SubElement(music, _name("body")), _name("mdiv"))
    _section(division, [_Empty.of(one) for one in measures] or [_Empty.whole(system) for system in systems])
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


def _surface(facsimile: ET.Element, material: ExportMaterial, number: int) -> ET.Element:
    """Adds a page with its picture, and returns it."""
    size = material.pages[number]
    corners = {"ulx": "0", "uly": "0", "lrx": str(size.width), "lry": str(size.height)}
    surface = ET.SubElement(facsimile, _name("surface"), {_XML_ID: f"page-{number}", "n": str(number)} | corners)
    picture = {"target": material.picture_address(number, size.width), "mimetype": PICTURE_TYPE}
    ET.SubElement(surface, _name("graphic"), picture | {"width": f"{size.width}px", "height": f"{size.height}px"})
    return surface


def _section(division: ET.Element, measures: Sequence[_Empty]) -> None:
    """Adds the measures without notes, with the breaks of pages and systems between them."""
    score = ET.SubElement(division, _name("score"))
    group = ET.SubElement(ET.SubElement(score, _name("scoreDef")), _name("staffGrp"))
    for staff in range(max((len(measure.system.staves) for measure in measures), default=1)):
        ET.SubElement(group, _name("staffDef"), {"n": str(staff + 1), "lines": "5"})
    section = ET.SubElement(score, _name("section"))
    page = system = 0
    for measure in measures:
        if measure.system.page != page:
            page = measure.system.page
            ET.SubElement(section, _name("pb"), {"n": str(page), "facs": f"#page-{page}"})
        if measure.system.number != system:
            system = measure.system.number
            ET.SubElement(section, _name("sb"), {"n": str(system), "facs": f"#system-{system}"})
        written = ET.SubElement(section, _name("measure"), measure.fields)
        for staff in range(len(measure.system.staves)):
            layer = ET.SubElement(written, _name("staff"), {"n": str(staff + 1)})
            ET.SubElement(layer, _name("layer"), {"n": "1"})


def _performance(music: ET.Element, material: ExportMaterial, pair: AlignedPair) -> None:
    """Adds the recording, with the moment at which each zone begins to sound. A repeated zone has several moments."""
    performance = ET.SubElement(music, _name("performance"))
    recording = ET.SubElement(
        performance,
        _name("recording"),
        {_XML_ID: "recording", "begin": _clock(0.0), "end": _clock(pair.recording.duration_s), "betype": "time"},
    )
    sound = {"target": f"{material.address(pair.recording)}/sound", "mimetype": sound_type(pair.recording)}
    ET.SubElement(recording, _name("avFile"), sound)
    stretches, played = pair.time_map.stretches, pair.played
    moments = [(one.seconds[0], f"system-{one.system.number}", one.system.page) for one in stretches]
    moments += [(one.start_s, f"measure-{one.measure.name}", one.measure.system.page) for one in played]
    times: defaultdict[str, int] = defaultdict(int)
    for second, zone, page in sorted(moments):
        if page not in material.pages:
            continue
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
