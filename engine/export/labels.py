"""The time map as lists of times: labels of Audacity, a table in CSV, a layer of Sonic Visualiser."""

import csv
import io
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass

from engine.audio import SAMPLE_RATE
from engine.pairing import AlignedPair


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedLabel:
    """A measure, or a system if there are no measures, that is played from one second to another."""

    start_s: float
    end_s: float
    page: int
    system: int
    measure: int | None
    x0: float
    """Left end of the place on the page, in page widths."""
    x1: float

    @property
    def text(self) -> str:
        """Returns the label for people."""
        place = f"p. {self.page}, system {self.system}"
        return place if self.measure is None else f"{self.measure} ({place})"


def timed_labels(pair: AlignedPair) -> Iterator[TimedLabel]:
    """Yields the measures that are played, in order; if none are known, the systems."""
    for one in pair.played:
        system = one.measure.system
        yield TimedLabel(
            start_s=one.start_s,
            end_s=one.end_s,
            page=system.page,
            system=system.number,
            measure=one.measure.number,
            x0=one.measure.x0,
            x1=one.measure.x1,
        )
    if pair.played:
        return
    for stretch in pair.time_map.stretches:
        yield TimedLabel(
            start_s=stretch.seconds[0],
            end_s=stretch.seconds[-1],
            page=stretch.system.page,
            system=stretch.system.number,
            measure=None,
            x0=stretch.xs[0],
            x1=stretch.xs[-1],
        )


def audacity(pair: AlignedPair) -> str:
    """Returns a label track of Audacity: start, end and text, separated by tabs."""
    return "".join(f"{one.start_s:.6f}\t{one.end_s:.6f}\t{one.text}\n" for one in timed_labels(pair))


def table(pair: AlignedPair) -> str:
    """Returns the labels as CSV, one a row."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(("start_s", "end_s", "page", "system", "measure", "x0", "x1"))
    for one in timed_labels(pair):
        measure = "" if one.measure is None else one.measure
        places = (f"{one.x0:.5f}", f"{one.x1:.5f}")
        writer.writerow((f"{one.start_s:.3f}", f"{one.end_s:.3f}", one.page, one.system, measure, *places))
    return written.getvalue()


def sonic_visualiser(pair: AlignedPair) -> str:
    """Returns a layer of Sonic Visualiser (SVL): an instant for each label. Frames are counted at 22,050 Hz."""
    labels = list(timed_labels(pair))
    frames = [round(one.start_s * SAMPLE_RATE) for one in labels]
    root = ET.Element("sv")
    data = ET.SubElement(root, "data")
    span = {"start": str(min(frames, default=0)), "end": str(max(frames, default=0) + 1)}
    sampling = {"sampleRate": str(SAMPLE_RATE), "resolution": "1"}
    kept = {"id": "1", "name": "", "type": "sparse", "dimensions": "1", "notifyOnAdd": "true", "dataset": "0"}
    ET.SubElement(data, "model", sampling | span | kept)
    points = ET.SubElement(data, "dataset", {"id": "0", "dimensions": "1"})
    for frame, one in zip(frames, labels, strict=True):
        ET.SubElement(points, "point", {"frame": str(frame), "label": one.text})
    display = ET.SubElement(root, "display")
    look = {"type": "timeinstants", "id": "2", "name": "Measures", "model": "1", "plotStyle": "0"}
    ET.SubElement(display, "layer", look)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE sonic-visualiser>\n{ET.tostring(root, "unicode")}\n'
