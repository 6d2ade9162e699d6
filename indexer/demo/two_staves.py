"""A score of any number of staves -> the same music on two staves, as a pianist would read it from one page.

Verovio reads the file (MusicXML, kern, ...) and writes it as MEI; here measures are picked from that and their layers
moved to the two staves. Verovio can crash the process, so callers run this in child processes.
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

_LAID_OUT_ANEW = ("stem.dir", "curvedir", "place")
"""What says where in the source's layout a sign goes; two parts on one staff need another."""

_KEPT_SIGNS = ("tie", "slur", "fermata", "trill", "mordent", "turn", "dynam", "hairpin")


def two_staves(path: Path, staves: Staves, bars: int, *, title: str, composer: str) -> str:
    """The first `bars` measures as MEI, with title and composer for the head of the page.

    Repeat signs and first endings go: the music runs through once.
    Raises EngravingError if Verovio cannot read the file, or it lacks one of the staves.
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
        raise EngravingError(path, f"expected staves {staves}, got {', '.join(defined)} alone")
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
    """Measures and changes of key and metre in the order they are printed, without first endings."""
    for element in parent:
        name = element.tag.removeprefix(_MEI)
        if name in ("measure", "scoreDef"):
            yield element
        elif name == "section" or (name == "ending" and not element.get("n", "").startswith("1")):
            yield from _music(element)


def _reduced(measure: ET.Element, staves: Staves) -> ET.Element:
    """The measure with its layers on two staves, and of its signs those that still have a place."""
    found = {staff.get("n", ""): staff for staff in measure.findall(f"{_MEI}staff")}
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
            if str(number) in found
            for layer in _layers(found[str(number)], merged=len(numbers) > 1, upper=number == numbers[0])
        ]
        # A bar that nobody plays in keeps its rest.
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
    """Whether it shows a note: some editors write out trills and tremolos for playback in a layer of hidden notes."""
    return any(note.get("visible") != "false" for note in layer.iter(f"{_MEI}note"))


def _layers(staff: ET.Element, *, merged: bool, upper: bool) -> Iterator[ET.Element]:
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
    for name in _LAID_OUT_ANEW:
        element.attrib.pop(name, None)


def _renumber(element: ET.Element, target: dict[str, str]) -> None:
    if "staff" in element.attrib:
        element.set("staff", target.get(element.get("staff", ""), "1"))


def _change(definition: ET.Element) -> ET.Element:
    """A later scoreDef reduced to the key and metre that it sets for all staves."""
    change = ET.Element(definition.tag)
    change.extend(child for child in definition if child.tag.removeprefix(_MEI) in ("keySig", "meterSig"))
    return change


def _drop_loose_ends(section: ET.Element) -> None:
    """Removes signs that start or end at a note which is not there."""
    ids = {element.get(_ID) for element in section.iter()}
    for measure in section.iter(f"{_MEI}measure"):
        for sign in list(measure):
            ends = (sign.get(end, "").removeprefix("#") for end in ("startid", "endid"))
            if any(end and end not in ids for end in ends):
                measure.remove(sign)


def _rename(section: ET.Element) -> None:
    """New ids: whoever loads the MEI makes ids for the elements that have none, by the same rule as ours were made."""
    for element in section.iter():
        for name in (_ID, "startid", "endid"):
            if name in element.attrib:
                mark, identity = ("", element.attrib[name]) if name == _ID else ("#", element.attrib[name][1:])
                element.set(name, f"{mark}demo-{identity}")


def _document(section: ET.Element, definitions: list[ET.Element], title: str, composer: str) -> str:
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
