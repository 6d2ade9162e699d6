"""Scores in symbols as an engraver would print them: without staves that have nothing to play."""

import xml.etree.ElementTree as ET

import verovio

_MEI = "http://www.music-encoding.org/ns/mei"


def condensed(notation: str) -> str:
    """Returns a score (MusicXML or MEI) as MEI without the staves that have no note in the whole score.

    Of the other staves, Verovio then leaves out those that rest throughout a system. Many files have a third staff that
    the print shows in a few systems, or never.

    Raises ValueError if Verovio cannot read the score.
    """
    verovio.enableLog(verovio.LOG_OFF)
    toolkit = verovio.toolkit()
    if not toolkit.loadData(notation):
        raise ValueError("expected a score that Verovio can read")
    ET.register_namespace("", _MEI)
    root = ET.fromstring(toolkit.getMEI())
    silent = {definition.get("n") for definition in root.iter(f"{{{_MEI}}}staffDef")} - _sounding(root)
    for parent in list(root.iter()):
        for child in list(parent):
            own = child.get("n") if child.tag in (f"{{{_MEI}}}staff", f"{{{_MEI}}}staffDef") else child.get("staff")
            if own in silent:
                parent.remove(child)
    for definition in root.iter(f"{{{_MEI}}}scoreDef"):
        definition.set("optimize", "true")
    return ET.tostring(root, encoding="unicode")


def _sounding(root: ET.Element) -> set[str | None]:
    """The numbers of the staves that have a note of their own, or one of another staff that is printed there."""
    return {
        element.get("staff") or staff.get("n")
        for staff in root.iter(f"{{{_MEI}}}staff")
        for name in ("note", "chord")
        for element in staff.iter(f"{{{_MEI}}}{name}")
    }
