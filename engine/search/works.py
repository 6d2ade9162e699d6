"""Answers by work: the matches of one query, with the editions and recordings of one work taken together.

The confidence of a work is the probability that at least one of its documents is the piece: what speaks against all of
them together is the product of what speaks against each. So two likely editions make a work likelier than either, and
an unlikely one takes nothing away.
"""

from collections.abc import Sequence
from typing import Any


def works(matches: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the works of an answer's matches as maps of plain values, likeliest first; without confidences by rank.

    A match whose document names no work is a work of its own, without a name.

    matches: as maps, with `rank`, `id`, `work` and `confidence`.
    """
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for match in matches:
        work = key(match.get("work") or "")
        groups.setdefault((work, "" if work else match.get("id", "")), []).append(match)
    found: list[dict[str, Any]] = [
        {
            "work": group[0].get("work") or "",
            "confidence": _confidence(group),
            "documents": [match.get("id", "") for match in group],
        }
        for group in groups.values()
    ]
    best = {id(one): group[0]["rank"] for one, group in zip(found, groups.values(), strict=True)}
    found.sort(key=lambda one: (-(one["confidence"] or 0.0), best[id(one)]))
    return [{"rank": rank} | one for rank, one in enumerate(found, start=1)]


def key(work: str) -> str:
    """Returns the form in which the names of works are compared: in any case, with any spaces between words."""
    return " ".join(work.casefold().split())


def _confidence(group: Sequence[dict[str, Any]]) -> float | None:
    """Returns the probability that at least one of some matches is the piece; None if no match has a confidence."""
    given = [match["confidence"] for match in group if match["confidence"] is not None]
    against = 1.0
    for confidence in given:
        against *= 1.0 - confidence
    return 1.0 - against if given else None
