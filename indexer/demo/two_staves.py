"""Reduces a score of any number of staves to two staves, as for a pianist.

Verovio reads the file (MusicXML, kern, ...) and writes MEI. This module picks measures of the MEI and moves their
layers to the two staves. Verovio can crash the process, so callers run this in child processes.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import verovio

from indexer.demo.pieces import Staves
from indexer.synthesis.engrave import EngravingError

_NAMESPACE = "http://www.music-encoding.org/ns/mei"
_MEI = f"{{{_NAMESPACE}}}"
_ID = "{http://www.w3.org/XML/1998/namespace}id"

_LAYOUT_ATTRIBUTES = ("stem.dir", "curvedir", "place")
"""Attributes for the layout of the source; two parts on one staff need another layout."""

_KEPT_SIGNS = ("tie", "slur", "fermata", "trill", "mordent", "turn", "dynam", "hairpin")
"""Elements of a measure, beside its staves, that are kept."""


def two_staves(path: Path, staves: Staves, bars: int, *, title: str, composer: str) -> str:
    """The first `bars` measures as MEI, with title and composer for the head of the page.

    Repeat signs and first endings are removed: the music is played once.
    Raises EngravingError if Verovio cannot read the file, or if the file lacks one of the staves.
    """
    verovio.enableLog(verovio.LOG_OFF)
    toolkit = verovio.toolkit()
    toolkit.setOptions({"xmlIdSeed": 1, "breaks": "none"})
    if not toolkit.loadFile(str(path)):
        raise EngravingError(path, "expected MusicXML, kern or MEI that Verovio can read")
    source = ET.fromstring(toolkit.getMEI({}))
    defined = {staff.get("n", ""): staff for staff in source.iter(f"{_MEI}staffDef")}
    missing = {str(number) for staff in staves for number in staff} - set(defined)
    if missing:
        raise EngravingError(path, f"expected staves {staves}, got {', '.join(defined)}")
    score = next(source.iter(f"{_MEI}score"))
    section = ET.Element(f"{_MEI}section")
    measures = 0
    for element in _music(score):
        if element.tag == f"{_MEI}measure":
            if measures == bars:
                break
            measures += 1
            section.append(_reduced(element, staves))
        elif measures:
            section.append(_change(element))
    _drop_loose_ends(section)
    _rename(section)
    return _document(section, [defined[str(staff[0])] for staff in staves], title, composer)


def _music(parent: ET.Element) -> Iterator[ET.Element]:
    """Yields measures and changes of key and metre in printed order, without first endings."""
    for element in parent:
        name = element.tag.removeprefix(_MEI)
        if name in ("measure", "scoreDef"):
            yield element
        elif name == "section" or (name == "ending" and not element.get("n", "").startswith("1")):
            yield from _music(element)


def _reduced(measure: ET.Element, staves: Staves) -> ET.Element:
    """The measure with its layers on two staves; of the signs, only those of each new staff's first source staff."""
    sources = {staff.get("n", ""): staff for staff in measure.findall(f"{_MEI}staff")}
    target = {str(number): str(n) for n, staff in enumerate(staves, 1) for number in staff}
    first = {str(staff[0]) for staff in staves}
    kept = {name: value for name, value in measure.attrib.items() if name in ("n", "metcon", "right", _ID)}
    if "rpt" in kept.get("right", ""):
        kept["right"] = "dbl"
    reduced = ET.Element(measure.tag, kept)
    for n, numbers in enumerate(staves, 1):
        layers = [
            layer
            for number in numbers
            if str(number) in sources
            for layer in _layers(sources[str(number)], merged=len(numbers) > 1, upper=number == numbers[0])
        ]
        # A bar without notes keeps its first layer, which has the rest.
        sounding = [layer for layer in layers if _is_printed(layer)] or layers[:1]
        staff = ET.SubElement(reduced, f"{_MEI}staff", n=str(n))
        for position, layer in enumerate(sounding, 1):
            layer.set("n", str(position))
            staff.append(layer)
    for element in reduced.iter():
        _renumber(element, target)
    for sign in measure:
        if sign.tag.removeprefix(_MEI) in _KEPT_SIGNS and sign.get("staff", "") in ("", *first):
            _renumber(sign, target)
            if len(target) > 2:
                _forget_layout(sign)
            reduced.append(sign)
    return reduced


def _is_printed(layer: ET.Element) -> bool:
    """Whether the layer has a visible note. Some editors write trills for playback into a layer of hidden notes."""
    return any(note.get("visible") != "false" for note in layer.iter(f"{_MEI}note"))


def _layers(staff: ET.Element, *, merged: bool, upper: bool) -> Iterator[ET.Element]:
    """Yields the layers of a staff without lyrics.

    merged: the staff shares its new staff with another, so clefs and layout attributes are removed.
    upper: the staff is the first of those on its new staff; the rests and signatures of the others are hidden.
    """
    for layer in staff.findall(f"{_MEI}layer"):
        for element in list(layer.iter()):
            for child in list(element):
                name = child.tag.removeprefix(_MEI)
                if name == "verse" or (merged and name == "clef") or (merged and not upper and name.endswith("Sig")):
                    element.remove(child)
                elif merged and not upper and name == "rest":
                    child.tag = f"{_MEI}space"
            if merged:
                _forget_layout(element)
        yield layer


def _forget_layout(element: ET.Element) -> None:
    """Removes the attributes for the source's layout."""
    for name in _LAYOUT_ATTRIBUTES:
        element.attrib.pop(name, None)


def _renumber(element: ET.Element, target: dict[str, str]) -> None:
    """Sets the element's staff, if it names one, to the new staff."""
    if "staff" in element.attrib:
        element.set("staff", target.get(element.get("staff", ""), "1"))


def _change(definition: ET.Element) -> ET.Element:
    """A change of key and metre for all staves, without the other parts of its scoreDef."""
    change = ET.Element(definition.tag)
    change.extend(child for child in definition if child.tag.removeprefix(_MEI) in ("keySig", "meterSig"))
    return change


def _drop_loose_ends(section: ET.Element) -> None:
    """Removes the signs that start or end at a note outside the section."""
    ids = {element.get(_ID) for element in section.iter()}
    for measure in section.iter(f"{_MEI}measure"):
        for sign in list(measure):
            ends = (sign.get(end, "").removeprefix("#") for end in ("startid", "endid"))
            if any(end and end not in ids for end in ends):
                measure.remove(sign)


def _rename(section: ET.Element) -> None:
    """Prefixes all ids. Verovio makes missing ids by the rule that made the present ids, so the two would clash."""
    for element in section.iter():
        for name in (_ID, "startid", "endid"):
            if name in element.attrib:
                mark, identity = ("", element.attrib[name]) if name == _ID else ("#", element.attrib[name][1:])
                element.set(name, f"{mark}demo-{identity}")


def _document(section: ET.Element, definitions: list[ET.Element], title: str, composer: str) -> str:
    """The MEI of a section on two staves, in treble and bass clef, with a head."""
    mei = ET.Element(f"{_MEI}mei", meiversion="5.0")
    head = ET.SubElement(ET.SubElement(ET.SubElement(mei, f"{_MEI}meiHead"), f"{_MEI}fileDesc"), f"{_MEI}titleStmt")
    ET.SubElement(head, f"{_MEI}title").text = title
    ET.SubElement(head, f"{_MEI}composer").text = composer
    score = mei
    for name in ("music", "body", "mdiv", "score"):
        score = ET.SubElement(score, f"{_MEI}{name}")
    group = ET.SubElement(
        ET.SubElement(score, f"{_MEI}scoreDef"), f"{_MEI}staffGrp", {"symbol": "brace", "bar.thru": "true"}
    )
    for n, (definition, clef) in enumerate(zip(definitions, ("G2", "F4"), strict=True), 1):
        staff = ET.SubElement(group, f"{_MEI}staffDef", n=str(n), lines="5")
        ET.SubElement(staff, f"{_MEI}clef", shape=clef[0], line=clef[1])
        staff.extend(child for child in definition if child.tag.removeprefix(_MEI) in ("keySig", "meterSig"))
    score.append(section)
    ET.register_namespace("", _NAMESPACE)
    return ET.tostring(mei, encoding="unicode")
