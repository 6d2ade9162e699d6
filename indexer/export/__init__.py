"""Documents of a collection as files that other programs read. Each standard is a module that writes text."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from engine.pairing import AlignedPair
from indexer.errors import ExportError
from indexer.export import iiif, jams, labels, mei
from indexer.export.material import ExportMaterial, material

ExportFormat = Literal["iiif", "annotations", "audacity", "csv", "sonic-visualiser", "jams", "mei"]

__all__ = ["FORMATS", "ExportFormat", "ExportMaterial", "FormatNeeds", "exported", "material"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatNeeds:
    """What a format needs."""

    recording: bool
    """Whether it needs a recording; other formats take one."""
    pages: bool
    """Whether it needs the sizes of the pages."""


FORMATS: dict[ExportFormat, FormatNeeds] = {
    "iiif": FormatNeeds(recording=False, pages=True),
    "annotations": FormatNeeds(recording=True, pages=True),
    "audacity": FormatNeeds(recording=True, pages=False),
    "csv": FormatNeeds(recording=True, pages=False),
    "sonic-visualiser": FormatNeeds(recording=True, pages=False),
    "jams": FormatNeeds(recording=True, pages=False),
    "mei": FormatNeeds(recording=False, pages=True),
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
        raise ExportError(f"{format}: expected a score with a recording, got the score alone; give --recording")
    if format == "annotations":
        return iiif.annotation_pages(made_of, made_of.pair)
    return _OF_PAIRS[format](made_of.pair)
