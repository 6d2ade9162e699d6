"""What is new in the passages of an evening that is still going on."""

from typing import Any

from engine.search import tidings


def _passage(number: int, id: str, start_s: float, end_s: float, *, ended: bool = False, settled: bool = False) -> Any:
    facts = {"id": id, "title": id.title(), "confidence": 0.9, "start_s": start_s, "end_s": end_s}
    return {"number": number, "ended": ended, "settled": settled, **facts}


def _live(heard_s: float, *passages: Any) -> Any:
    return {"heard_s": heard_s, "direction": "A2S", "collection": {}, "unseen": [], "passages": list(passages)}


def _told(*lives: Any) -> tuple[list[str], dict[int, Any]]:
    """The lines of several answers, and the passages after the last one."""
    lines: list[str] = []
    known: dict[int, Any] = {}
    for live in lives:
        lines += tidings.news(known, live)
        known = tidings.after(known, live)
    return lines, known


def test_a_passage_is_told_when_it_begins_and_when_it_ends_and_no_more() -> None:
    lines, _ = _told(
        _live(20, _passage(1, "rag", 3, 18)),
        _live(23, _passage(1, "rag", 4, 21)),
        _live(70, _passage(1, "rag", 4, 61, ended=True)),
        _live(73, _passage(1, "rag", 4, 61, ended=True, settled=True)),
    )
    assert lines == ["0:20   1  began      0:03  rag  Rag  0.90", "1:10   1  ended      1:01  rag  Rag  0.90"]


def test_what_moves_goes_on_changes_or_vanishes_is_told() -> None:
    lines, _ = _told(
        _live(20, _passage(1, "rag", 3, 18)),
        _live(30, _passage(1, "rag", 9, 21, ended=True)),
        _live(40, _passage(1, "rag", 9, 38)),
        _live(50, _passage(1, "waltz", 9, 48)),
        _live(60),
    )
    assert [line.split()[2] for line in lines] == ["began", "moved", "ended", "goes", "began", "withdrawn"]


def test_the_set_list_has_what_is_no_longer_told_and_not_what_vanished() -> None:
    _, known = _told(
        _live(20, _passage(1, "rag", 3, 18, settled=True), _passage(2, "etude", 18, 20)),
        _live(90, _passage(2, "waltz", 30, 80, ended=True)),
        _live(95),
    )
    lost = [{"name": "shard-001", "documents": {"score": 7, "recording": 2}}]
    found = tidings.set_list(known, _live(95) | {"unseen": lost})
    assert found["unseen"] == lost
    assert [passage["id"] for passage in found["passages"]] == ["rag"]
    assert (found["start_s"], found["duration_s"], found["pages"]) == (0, 95, None)
    assert not {"ended", "settled"} & found["passages"][0].keys()
