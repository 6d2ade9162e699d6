"""The demo from end to end, on two small pieces and with a stand-in for the network."""

import json
from pathlib import Path
from typing import Any

import pytest

from fake_encoder import FakeEncoder
from four_parts import write_four_parts
from indexer.demo import run
from indexer.demo.pieces import FOUR_PARTS, PIECES, DemoError, DemoPiece


def piece(name: str) -> DemoPiece:
    return DemoPiece(
        id=name, file=f"{name}.xml", composer="A & B", work="Op. 1", title=f"The {name}", bars=16, staves=FOUR_PARTS
    )


TWO = (piece("first"), piece("second"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for seed, one in enumerate(TWO):
        write_four_parts(folder / one.file, bars=16, seed=seed)
    return folder


@pytest.fixture(scope="module")
def done(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]], list[str]]:
    out, said = tmp_path_factory.mktemp("demo"), list[str]()
    rows = run(out, pieces=TWO, corpus=corpus, load_encoder=FakeEncoder, say=said.append)
    return out, rows, said


def test_every_direction_length_and_method_is_a_row(done: tuple[Path, list[dict[str, Any]], list[str]]) -> None:
    out, rows, _ = done
    assert json.loads((out / "results.json").read_text()) == {"rows": rows}
    assert len({(row["direction"], row["query"], row["method"]) for row in rows}) == len(rows) == 8
    for row in rows:
        assert row["n"] == 2
        assert list(row)[:8] == ["direction", "query", "method", "n", "R@1", "R@10", "MRR", "MR"]
        assert row["seconds"] > 0


def test_the_report_needs_no_other_file(done: tuple[Path, list[dict[str, Any]], list[str]]) -> None:
    text = (done[0] / "report.html").read_text(encoding="utf-8")
    assert "data:image/jpeg;base64," in text
    assert "http://" not in text
    assert "https://" not in text
    assert "A &amp; B" in text


def test_the_last_words_say_where_the_report_is(done: tuple[Path, list[dict[str, Any]], list[str]]) -> None:
    out, _, said = done
    assert (out / "report.html").resolve().as_uri() in said[-1]


def test_running_again_keeps_the_files(done: tuple[Path, list[dict[str, Any]], list[str]], corpus: Path) -> None:
    out, rows, _ = done
    files = sorted([*(out / "scores").iterdir(), *(out / "recordings").iterdir()])
    times = [path.stat().st_mtime_ns for path in files]
    again = run(out, pieces=TWO, corpus=corpus, load_encoder=FakeEncoder, say=lambda line: None)
    assert [path.stat().st_mtime_ns for path in files] == times
    assert len(files) == 4
    assert [row["MRR"] for row in again] == [row["MRR"] for row in rows]


def test_a_demo_without_a_single_piece_says_why(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="not one of 2 pieces could be made"):
        run(tmp_path, pieces=TWO, corpus=tmp_path, load_encoder=FakeEncoder, say=lambda line: None)


def test_there_are_sixty_pieces_or_more_and_no_id_twice() -> None:
    assert len({one.id for one in PIECES}) == len(PIECES) >= 60
    assert sum(one.file.startswith("bach/") for one in PIECES) < len(PIECES) / 2


def test_the_corpus_holds_every_piece() -> None:
    pytest.importorskip("music21")
    from indexer.demo.pieces import corpus

    assert [one.file for one in PIECES if not (corpus() / one.file).is_file()] == []
