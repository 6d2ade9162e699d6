"""What is new in the passages of an evening that is still going on: lines for people, and the set list in the end."""

from collections.abc import Mapping
from typing import Any

from engine.names import printable
from engine.search.answers import clock

MOVED_S = 5.0
"""Seconds by which a border moves before that is told."""


def news(before: Mapping[int, dict[str, Any]], live: dict[str, Any]) -> list[str]:
    """Returns a line for each passage that has begun, ended, changed or vanished.

    before: the passages as they were told last, by their numbers. live: see `setlist.live_as_dict`.
    """
    now = {passage["number"]: passage for passage in live["passages"]}
    heard = clock(live["heard_s"])
    lines = [_line(heard, "withdrawn", before[number]) for number in _vanished(before, now)]
    for number, passage in now.items():
        old = before.get(number)
        if old is None or old["id"] != passage["id"]:
            lines.append(_line(heard, "began", passage))
            old = passage | {"ended": False}
        elif max(abs(passage[end] - old[end]) for end in _told_ends(old, passage)) >= MOVED_S:
            lines.append(_line(heard, "moved", passage))
        if passage["ended"] and not old["ended"]:
            lines.append(_line(heard, "ended", passage))
        elif old["ended"] and not passage["ended"]:
            lines.append(_line(heard, "goes on", passage))
    return lines


def after(before: Mapping[int, dict[str, Any]], live: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """Returns all passages by their numbers: those that are no longer told stay as they were told last."""
    now = {passage["number"]: passage for passage in live["passages"]}
    gone = _vanished(before, now)
    return {number: passage for number, passage in before.items() if number not in gone} | now


def set_list(passages: Mapping[int, dict[str, Any]], live: dict[str, Any]) -> dict[str, Any]:
    """Returns the set list of an evening that is over, see `setlist.as_dict`. live: as it was told last."""
    return {
        "direction": live["direction"],
        "start_s": 0.0,
        "duration_s": live["heard_s"],
        "pages": None,
        "transposed": 0.0,
        "passages": [
            {name: value for name, value in passages[number].items() if name not in ("ended", "settled")}
            for number in sorted(passages)
        ],
        "unseen": live.get("unseen", []),
        "collection": live["collection"],
    }


def _vanished(before: Mapping[int, dict[str, Any]], now: Mapping[int, dict[str, Any]]) -> list[int]:
    """Returns the numbers of passages that were told and are not there any more, though they were not settled."""
    return [number for number, passage in before.items() if number not in now and not passage["settled"]]


def _told_ends(old: dict[str, Any], new: dict[str, Any]) -> tuple[str, ...]:
    """Returns the names of the borders of a passage that were told and are told again."""
    return ("start_s", "end_s") if old["ended"] and new["ended"] else ("start_s",)


def _line(heard: str, event: str, passage: dict[str, Any]) -> str:
    """Returns a line: when the event was noticed, number and event, when it was, and which document."""
    when = clock(passage["end_s"] if event == "ended" else passage["start_s"])
    confidence = "" if passage["confidence"] is None else f"{passage['confidence']:.2f}"
    shown = printable(passage["id"]), printable(passage["title"]), confidence
    return "  ".join([heard, f"{passage['number']:2}", f"{event:9}", when, *shown]).rstrip()
