"""The time map as JAMS, the JSON of annotated music: measures and systems as segments, and the points of the map."""

import json
from collections.abc import Iterable
from typing import Any

from engine import __version__
from engine.pairing import AlignedPair

JAMS_VERSION = "0.3.5"

Observation = dict[str, Any]


def jams(pair: AlignedPair) -> str:
    """Returns a pair as JAMS: two annotations `segment_open` (measures and systems), and one `blob` of points."""
    stretches = pair.time_map.stretches
    systems = [
        _observation(one.seconds[0], one.seconds[-1], f"page {one.system.page} system {one.system.number}")
        for one in stretches
    ]
    measures = [_observation(one.start_s, one.end_s, str(one.measure.number)) for one in pair.played]
    points = [
        _observation(second, second, {"page": one.system.page, "system": one.system.number, "x": round(x, 5)})
        for one in stretches
        for second, x in zip(one.seconds, one.xs, strict=True)
    ]
    annotations = [
        _annotation(pair, "segment_open", "measures, numbered from 1 through the score", measures),
        _annotation(pair, "segment_open", "systems", systems),
        _annotation(pair, "blob", "places in the score, x in page widths", points),
    ]
    about = {
        "title": pair.recording.title,
        "artist": "",
        "release": "",
        "duration": round(pair.recording.duration_s, 3),
        "identifiers": {"recording": pair.recording.id, "score": pair.score.id},
        "jams_version": JAMS_VERSION,
    }
    content = {
        "annotations": [one for one in annotations if one["data"]],
        "file_metadata": about,
        "sandbox": {"cost": round(pair.cost, 4)},
    }
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def _observation(start_s: float, end_s: float, value: Any) -> Observation:
    return {"time": round(start_s, 3), "duration": round(end_s - start_s, 3), "value": value, "confidence": None}


def _annotation(pair: AlignedPair, namespace: str, what: str, data: Iterable[Observation]) -> dict[str, Any]:
    about = {
        "annotation_tools": f"scorefind {__version__}",
        "annotation_rules": what,
        "data_source": "program",
        "version": __version__,
        "corpus": "",
        "validation": "",
        "annotator": {},
        "curator": {"name": "", "email": ""},
    }
    return {
        "namespace": namespace,
        "annotation_metadata": about,
        "data": list(data),
        "sandbox": {},
        "time": 0,
        "duration": round(pair.recording.duration_s, 3),
    }
