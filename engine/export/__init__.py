"""Documents of a collection as files that other programs read. Each standard is a module that writes text."""

from collections.abc import Callable
from dataclasses import dataclass

from engine.errors import ExportError
from engine.export import iiif, jams, labels, mei
from engine.export.material import ExportMaterial, material
from engine.pairing import AlignedPair
from engine.values import ExportFormat

__all__ = ["FORMATS", "ExportMaterial", "FormatNeeds", "exported", "material"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatNeeds:
    """What a format needs."""

    recording: bool
    """Whether it needs a recording; other formats take one."""
    pages: bool
    """Whether it needs the sizes of the pages."""
    type: str
    """Media type of the file."""
    measures: bool = False
    """Whether it has the measures of a score without a recording, too."""


FORMATS: dict[ExportFormat, FormatNeeds] = {
    "iiif": FormatNeeds(recording=False, pages=True, type=iiif.TYPE),
    "annotations": FormatNeeds(recording=True, pages=True, type=iiif.TYPE),
    "audacity": FormatNeeds(recording=True, pages=False, type="text/plain; charset=utf-8"),
    "csv": FormatNeeds(recording=True, pages=False, type="text/csv; charset=utf-8"),
    "sonic-visualiser": FormatNeeds(recording=True, pages=False, type="application/xml"),
    "jams": FormatNeeds(recording=True, pages=False, type="application/json"),
    "mei": FormatNeeds(recording=False, pages=True, type="application/mei+xml", measures=True),
}
"""The formats, by name."""

_ALONE: dict[ExportFormat, Callable[[ExportMaterial], str]] = {"iiif": iiif.manifest, "mei": mei.mei}
_OF_PAIRS: dict[ExportFormat, Callable[[AlignedPair], str]] = {
    "audacity": labels.audacity,
    "csv": labels.table,
    "sonic-visualiser": labels.sonic_visualiser,
    "jams": jams.jams,
}


def exported(made_of: ExportMaterial, format: ExportFormat) -> str:
    """Returns the text of a file of this format. Raises ExportError if the format needs a recording and has none."""
    if format in _ALONE:
        return _ALONE[format](made_of)
    if made_of.pair is None:
        raise ExportError(f"{format}: expected a score with a recording, got the score alone; name the recording")
    if format == "annotations":
        return iiif.annotation_pages(made_of, made_of.pair)
    return _OF_PAIRS[format](made_of.pair)
