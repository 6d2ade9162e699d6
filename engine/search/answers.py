"""An answer in two forms: maps and lists, which `query --json` prints and the server sends, and a table for people."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from engine.collection import AnyCollection
from engine.names import columns as width_of
from engine.names import padded, printable
from engine.search.confidence import LIKELY, SURE
from engine.search.works import works
from engine.values import Answer, Kind, Match, Place, System

_HEADER = ("rank", "id", "title", "cost", "votes", "confidence", "of the query", "where")
"""Columns of the table."""
_NUMBERS = ("rank", "cost", "votes", "confidence")
"""Columns that are aligned to the right."""
_OPTIONAL = ("cost", "votes", "confidence", "of the query")
"""Columns that the table leaves out if no match has a value."""

MAX_RANGES = 5
"""Largest number of ranges of pages or systems that the table shows of a match; an answer as a map has all of them."""


def as_dict(answer: Answer, kind: Kind, among: Kind, collection: AnyCollection) -> dict[str, Any]:
    """Returns the answer as a map of plain values, as docs/protocol.md describes it.

    The keys are `direction`, `in_collection`, `partial`, `transposed`, `matches`, `works`, `plan`, `timings_ms`,
    `unseen`, `collection`.

    kind: kind of the query. among: kind of the documents searched.
    """
    matches = [_match(match) for match in answer.matches]
    return {
        # A2S or S2A; A2A or S2S if query and documents have the same kind
        "direction": "2".join("A" if side == "recording" else "S" for side in (kind, among)),
        "in_collection": answer.in_collection,
        "partial": answer.partial,
        "transposed": answer.transposed,
        "matches": matches,
        "works": works(matches),
        "plan": None if answer.plan is None else dataclasses.asdict(answer.plan),
        "timings_ms": {stage: float(took) for stage, took in answer.timings_ms.items()},
        "unseen": [dataclasses.asdict(shard) for shard in answer.unseen],
        "collection": counts(collection),
    }


def merged(parts: Sequence[dict[str, Any]], top: int) -> dict[str, Any]:
    """Returns the answers to one query, asked as it looks and as it sounds, as one: its `direction` is `both`.

    The likeliest matches come first; those without a confidence, or with the same, by their ranks. There is no plan.
    The piece is in the collection if one part says so, and not in it if all parts with matches say so.

    parts: answers as `as_dict` returns them.
    """
    matches = [match for part in parts for match in part["matches"]]
    matches.sort(key=lambda match: (-(match["confidence"] or 0.0), match["rank"]))
    matches = [match | {"rank": rank} for rank, match in enumerate(matches[:top], start=1)]
    verdicts = {part["in_collection"] for part in parts if part["matches"]}
    stages = dict.fromkeys(stage for part in parts for stage in part["timings_ms"])
    return {
        "direction": "both",
        "in_collection": True if True in verdicts else False if verdicts == {False} else None,
        "partial": any(part["partial"] for part in parts),
        "transposed": next((part["transposed"] for part in parts if part["transposed"]), 0.0),
        "matches": matches,
        "works": works(matches),
        "plan": None,
        "timings_ms": {stage: sum(part["timings_ms"].get(stage, 0.0) for part in parts) for stage in stages},
        "unseen": max((part.get("unseen", []) for part in parts), key=len),
        "collection": parts[-1]["collection"],
    }


def counts(collection: AnyCollection) -> dict[str, int]:
    """Returns the generation of a collection, and its numbers of documents and snippets."""
    return {"generation": collection.generation, "documents": collection.count, "snippets": collection.snippets}


def contents(collection: AnyCollection, *, list_documents: bool) -> dict[str, Any]:
    """Returns the facts that `info` shows of a collection.

    list_documents: whether the kind and title of every document are among the facts.
    """
    kinds = collection.kinds.items()
    facts: dict[str, Any] = {
        **counts(collection),
        "kinds": {kind: {"documents": part.documents, "snippets": part.snippets} for kind, part in kinds},
        "network": dataclasses.asdict(collection.network),
    }
    if list_documents:
        facts["ids"] = {document.id: f"{document.kind}, {document.title}" for document in collection.documents}
    return facts


def incomplete(answer: dict[str, Any]) -> list[str]:
    """Returns a line that names the shards that did not answer; none if all did. answer: with `unseen`."""
    unseen = answer.get("unseen", [])
    names = ", ".join(shard["name"] for shard in unseen)
    count = sum(sum(one["documents"].values()) for one in unseen)
    return [f"incomplete: {count} documents were not searched, because {names} did not answer"] if unseen else []


def table(answer: dict[str, Any]) -> str:
    """Returns an answer (see `as_dict`) as a table of the matches, with a warning if probably no match is right."""
    rows = [_row(match, answer.get("partial", False)) for match in answer["matches"]]
    lines = _columns(rows) if rows else ["no matches"]
    lines += _works(answer.get("works", []))
    if shift := answer.get("transposed"):
        plural, way = "" if abs(shift) == 1 else "s", "up" if shift > 0 else "down"
        lines.append(f"the query was transposed {way} by {abs(shift):g} semitone{plural}")
    lines += incomplete(answer)
    if answer["in_collection"] is False:
        lines.append(f"likely not in this collection: no match has a confidence of {LIKELY:g}")
    elif answer["in_collection"] is None and any((match["confidence"] or 0.0) >= LIKELY for match in answer["matches"]):
        lines.append(f"perhaps in this collection: no match has a confidence of {SURE:g}")
    return "\n".join(lines)


def _works(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yields a line for each work that has several documents among the matches."""
    for work in found:
        if len(work["documents"]) > 1:
            confidence = "" if work["confidence"] is None else f", confidence {work['confidence']:.2f}"
            yield printable(f"work {work['rank']}: {work['work']}{confidence}: {', '.join(work['documents'])}")


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Returns the lines of the table, header first. Numbers are aligned to the right."""
    cells = dict(zip(_HEADER, zip(*rows, strict=True), strict=True))
    cells = {name: column for name, column in cells.items() if name not in _OPTIONAL or any(column)}
    columns = []
    for name, column in cells.items():
        width = max(width_of(cell) for cell in (name, *column))
        columns.append([padded(cell, width, right=name in _NUMBERS) for cell in (name, *column)])
    return ["  ".join(line).rstrip() for line in zip(*columns, strict=True)]


def _match(match: Match) -> dict[str, Any]:
    """Returns one match as a map of plain values."""
    document = match.document
    fields = {
        "rank": match.rank,
        "id": document.id,
        "title": document.title,
        "composer": document.composer,
        "work": document.work,
        "kind": document.kind,
        "cost": match.cost,
        "confidence": match.confidence,
        "votes": match.votes,
        "boxes": [as_box(system) for system in match.place.systems],
        **as_place(match.place),
        "query_pages": list(match.query_place.pages),
        "query_systems": [system.number for system in match.query_place.systems],
        "query_boxes": [as_box(system) for system in match.query_place.systems],
        "query_start_s": match.query_place.start_s,
        "query_end_s": match.query_place.end_s,
        "parts": [{"share": part.share, **as_place(part.place)} for part in match.parts],
    }
    if match.path:
        fields["path"] = [dataclasses.asdict(point) for point in match.path]
    if match.time_map is not None:
        fields["time_map"] = match.time_map.as_list()
    return fields


def as_place(place: Place) -> dict[str, Any]:
    """Returns a place as a map of plain values, without its boxes."""
    return {
        "pages": list(place.pages),
        "systems": [system.number for system in place.systems],
        "start_x": place.start_x,
        "end_x": place.end_x,
        "start_s": place.start_s,
        "end_s": place.end_s,
    }


def as_box(system: System) -> dict[str, Any]:
    """Returns the box of a system as a map of plain values."""
    box = system.box
    corners = {"x0": box.x0, "y0": box.y0, "x1": box.x1, "y1": box.y1}
    return {"page": system.page, "system": system.number, **corners, "turn": system.turn}


def _row(match: dict[str, Any], partial: bool) -> tuple[str, ...]:
    """Returns the cells of one match in the table. partial: whether the match is of a part of the query."""
    where = _where(match, "")
    stretch = _where(match, "query_") if partial else ""
    cost = "" if match["cost"] is None else f"{round(match['cost'], 3) + 0.0:.3f}"
    votes = str(match["votes"]) if match["cost"] is None else ""  # votes are shown only where they rank the matches
    confidence = "" if match["confidence"] is None else f"{match['confidence']:.2f}"
    return (
        str(match["rank"]),
        printable(match["id"]),
        printable(match["title"]),
        cost,
        votes,
        confidence,
        stretch,
        where,
    )


def _where(match: dict[str, Any], prefix: str) -> str:
    """Returns the place of a match for people; empty if it is unknown.

    prefix: "query_" for the stretch of the query that matches.
    """
    pages, systems, start_s, end_s = (match[prefix + name] for name in ("pages", "systems", "start_s", "end_s"))
    if start_s is not None:
        return f"{clock(start_s)}-{clock(end_s)}"
    if not systems:
        return ""
    return f"p. {ranges(pages)}, {'system' if len(systems) == 1 else 'systems'} {ranges(systems)}"


def clock(seconds: float) -> str:
    """Returns a time as `M:SS` or `H:MM:SS`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def ranges(numbers: Sequence[int]) -> str:
    """Returns numbers as ranges, in the given order: `1-3, 7`; the first of them if there are too many to read."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    left = len(runs) - MAX_RANGES
    shown = runs if left <= 1 else runs[:MAX_RANGES]  # "and 1 more" is no shorter than the range
    more = f" and {left} more" if left > 1 else ""
    return ", ".join("-".join(map(str, run)) for run in shown) + more
