"""A set list: the passages of an evening as maps and lists, as a table, as a CUE sheet, and as labels of Audacity."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from engine.collection import AnyCollection
from engine.names import columns, padded, printable
from engine.search.answers import as_box, as_place, clock, counts, incomplete, ranges
from engine.search.live_segmentation import LivePassage
from engine.search.passages import Passage
from engine.search.segmentation import Found
from engine.values import Kind, Place, UnseenShard

CUE_FRAMES = 75
"""Frames in a second of a CUE sheet."""

_HEADER = ("", "when", "id", "title", "confidence", "where")
"""Columns of the table of a recording; of a volume, the second is `pages`."""


def as_dict(
    found: Found,
    kind: Kind,
    among: Kind,
    extent: float,
    collection: AnyCollection,
    transposed: float = 0.0,
    *,
    start_s: float = 0.0,
) -> dict[str, Any]:
    """Returns a set list as a map of plain values, as docs/protocol.md describes it.

    The keys are `direction`, `start_s`, `duration_s`, `pages`, `transposed`, `passages`, `unseen` and `collection`.

    kind: kind of the evening. among: kind of the documents searched.
    extent: seconds of the part of a recording that was searched, or pages of a volume.
    transposed: semitones by which a recording was transposed. start_s: where that part of the recording starts.
    """
    return {
        "direction": "2".join("A" if side == "recording" else "S" for side in (kind, among)),
        "start_s": start_s if kind == "recording" else None,
        "duration_s": extent if kind == "recording" else None,
        "pages": int(extent) if kind == "score" else None,
        "transposed": transposed,
        "passages": [_passage(number, passage) for number, passage in enumerate(found.passages, start=1)],
        "unseen": [dataclasses.asdict(shard) for shard in found.unseen],
        "collection": counts(collection),
    }


def live_as_dict(
    passages: Sequence[LivePassage],
    forgotten: int,
    among: Kind,
    heard_s: float,
    collection: AnyCollection,
    *,
    unseen: Sequence[UnseenShard] = (),
) -> dict[str, Any]:
    """Returns the passages of an evening that is still going on as a map of plain values.

    forgotten: number of passages before the first of these. unseen: the shards that were not searched.
    The keys are `direction`, `heard_s`, `passages`, `unseen` and `collection`; a passage has `ended` and `settled`,
    too.
    """
    return {
        "direction": f"A2{'A' if among == 'recording' else 'S'}",
        "heard_s": heard_s,
        "passages": [
            _passage(number, one.passage) | {"ended": one.ended, "settled": one.settled}
            for number, one in enumerate(passages, start=forgotten + 1)
        ],
        "unseen": [dataclasses.asdict(shard) for shard in unseen],
        "collection": counts(collection),
    }


def table(setlist: dict[str, Any]) -> str:
    """Returns a set list (see `as_dict`) as a table: a line for each passage, and one for each gap of a recording.

    A last line names the shards that did not answer.
    """
    lines = _lines(setlist) if setlist["passages"] else ["nothing of this collection was found"]
    return "\n".join(lines + incomplete(setlist))


def _lines(setlist: dict[str, Any]) -> list[str]:
    """Returns the lines of the table, the header first."""
    rows: list[tuple[str, ...]] = [_HEADER if setlist["pages"] is None else (_HEADER[0], "pages", *_HEADER[2:])]
    heard_s = setlist["start_s"]  # what lies before it was not searched, so it is no gap
    for passage in setlist["passages"]:
        if setlist["duration_s"] is not None:
            rows += _gap(heard_s, passage["start_s"])
            heard_s = passage["end_s"]
        confidence = "" if passage["confidence"] is None else f"{passage['confidence']:.2f}"
        shown = (printable(passage["id"]), printable(passage["title"]), confidence, _where(passage["place"]))
        rows.append((str(passage["number"]), _where(passage), *shown))
    if setlist["duration_s"] is not None:
        rows += _gap(heard_s, setlist["start_s"] + setlist["duration_s"])
    widths = [max(map(columns, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(padded, row, widths)).rstrip() for row in rows]


def cue(setlist: dict[str, Any], file: str) -> str:
    """Returns the set list of a recording as a CUE sheet: a track for each passage.

    A track runs to the next, so applause belongs to what it is for. Quotation marks become apostrophes, because a CUE
    sheet cannot quote them. file: name of the recording's file.
    """
    lines = [f'FILE "{_quotable(file)}" WAVE']
    for passage in setlist["passages"]:
        lines += [f"  TRACK {passage['number']:02} AUDIO", f'    TITLE "{_quotable(_name(passage))}"']
        if passage["composer"]:
            lines.append(f'    SONGWRITER "{_quotable(passage["composer"])}"')
        frames = round(passage["start_s"] * CUE_FRAMES)
        minutes, frames = divmod(frames, 60 * CUE_FRAMES)
        lines.append(f"    INDEX 01 {minutes:02}:{frames // CUE_FRAMES:02}:{frames % CUE_FRAMES:02}")
    return "\n".join(lines) + "\n"


def labels(setlist: dict[str, Any]) -> str:
    """Returns the set list of a recording as labels of Audacity: start, end and name of each passage."""
    return "".join(
        f"{passage['start_s']:.3f}\t{passage['end_s']:.3f}\t{printable(_name(passage))}\n"
        for passage in setlist["passages"]
    )


def _passage(number: int, passage: Passage) -> dict[str, Any]:
    """Returns one passage as a map of plain values."""
    document = passage.document
    return {
        "number": number,
        "id": document.id,
        "title": document.title,
        "composer": document.composer,
        "work": document.work,
        "kind": document.kind,
        "confidence": passage.confidence,
        **_placed(passage.stretch),
        "place": _placed(passage.place),
    }


def _placed(place: Place) -> dict[str, Any]:
    """Returns a place with the boxes of its systems."""
    return {**as_place(place), "boxes": [as_box(system) for system in place.systems]}


def _gap(start_s: float, end_s: float) -> list[tuple[str, ...]]:
    """Returns the row of a gap that is at least a second long."""
    return [("", f"{clock(start_s)}-{clock(end_s)}", "-", "", "", "")] if end_s - start_s >= 1 else []


def _where(place: dict[str, Any]) -> str:
    """Returns a place for people."""
    if place["start_s"] is not None:
        return f"{clock(place['start_s'])}-{clock(place['end_s'])}"
    systems = place["systems"]
    return f"p. {ranges(place['pages'])}, {'system' if len(systems) == 1 else 'systems'} {ranges(systems)}"


def _name(passage: dict[str, Any]) -> str:
    """Returns the title of a passage, or its id if it has none."""
    return str(passage["title"] or passage["id"])


def _quotable(text: str) -> str:
    """Returns a text as a CUE sheet can quote it."""
    return printable(text).replace('"', "'")
