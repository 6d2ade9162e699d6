"""The programs of examples/ run, and are as short as they should be."""

import runpy
import sys
from pathlib import Path

import pytest

import engine
from media import write_page, write_recording
from small_scores import write_kern

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scores and a recording, embedded by the shipped network."""
    folder = tmp_path_factory.mktemp("music")
    with engine.open(folder / "music.sf", create=True) as finder:
        for seed, name in enumerate(("etude", "waltz")):
            finder.add(write_page(folder / f"{name}.png", seed), title=name.title())
        finder.add(write_recording(folder / "take.wav", 0), title="A take")
    return folder


def run(name: str, *arguments: object, monkeypatch: pytest.MonkeyPatch) -> None:
    program = str(EXAMPLES / f"{name}.py")
    monkeypatch.setattr(sys, "argv", [program, *map(str, arguments)])
    runpy.run_path(program, run_name="__main__")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_has_at_most_twenty_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 20


@pytest.mark.parametrize(
    ("source", "titles", "where"), [("take.wav", {"Etude", "Waltz"}, "pages (1,)"), ("waltz.png", {"A take"}, "s")]
)
def test_query_tells_matches_and_where_they_lie(
    collection: Path,
    source: str,
    titles: set[str],
    where: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run("query", collection / "music.sf", collection / source, monkeypatch=monkeypatch)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(titles)
    assert all(any(title in line for title in titles) and line.endswith(where) for line in lines)


def test_identify_tells_what_a_file_plays(
    collection: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("identify", collection / "music.sf", collection / "take.wav", monkeypatch=monkeypatch)
    assert capsys.readouterr().out == "likely not in this collection\n"  # its notes are drawn at random


def test_train_trains_on_scores_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scores").mkdir()
    for seed in range(2):
        write_kern(tmp_path / "scores" / f"Op. 3, No. {seed}.krn", seed, bars=24)
    small = "training.steps=2 training.batch=16 training.evaluate_every=2 training.validation_pairs=250".split()
    run(
        "train",
        tmp_path / "scores",
        tmp_path / "run",
        *small,
        "architecture.channels=[4, 8]",
        "architecture.blocks=[1]",
        monkeypatch=monkeypatch,
    )
    weights = tmp_path / "run" / "default.safetensors"
    assert capsys.readouterr().out == f"scorefind add music.sf scans/ --weights {weights}\n"
    assert weights.is_file()
