"""Scores in symbols from the command line and by a server; the network is a stand-in."""

from collections.abc import Sequence
from pathlib import Path

import pytest

import scorefind
from command_line import printed_json
from engine.symbols import formats, verovio
from engine.symbols.notation import read_notation
from fake_encoder import fake_loader
from media import write_page
from running_server import serving_process
from small_scores import write_piano
from small_symbols import musicxml


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorefind, "encoder_loader", fake_loader)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Notation, MIDI, XML of something else, and a folder of pages with MIDI beside them."""
    folder = tmp_path_factory.mktemp("library")
    kern = write_piano(folder / "etude.krn", seed=1, bars=12)
    (folder / "waltz.mid").write_bytes(verovio.midi(read_notation(kern)))
    (folder / "notes.xml").write_text("<TEI/>")
    (folder / "bad.musicxml").write_text("<score-partwise><part>")
    (folder / "pages").mkdir()
    write_page(folder / "pages" / "p1.png", seed=1)
    write_page(folder / "pages" / "p2.png", seed=2)
    (folder / "pages" / "played.mid").write_bytes((folder / "waltz.mid").read_bytes())
    return folder


@pytest.fixture(scope="module")
def filled(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection of the library."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scorefind, "encoder_loader", fake_loader)
        collection = tmp_path_factory.mktemp("collection") / "c"
        assert scorefind.main(["add", str(collection), str(library), "--jobs", "1"]) == 1  # bad.musicxml
    return collection


def kinds(capsys: pytest.CaptureFixture[str], collection: Path) -> dict[str, str]:
    """The kind of each document of a collection."""
    listed = printed_json(capsys, "info", collection, "--list", "--json")["ids"]
    return {id: text.partition(",")[0] for id, text in listed.items()}


def test_notation_becomes_a_score_midi_a_recording_and_pages_stay_one_score(
    filled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kinds(capsys, filled) == {"etude": "score", "pages": "score", "waltz": "recording", "played": "recording"}


def test_what_is_no_score_in_symbols_is_passed_over_or_told(
    library: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("notes.xml", "bad.musicxml"):
        (folder / name).write_bytes((library / name).read_bytes())
    write_page(folder / "page.png", seed=1)
    assert scorefind.main(["add", str(tmp_path / "c"), str(folder), "--jobs", "1"]) == 1
    out, err = capsys.readouterr()
    assert f"passed over (XML that is neither MusicXML nor MEI): {folder / 'notes.xml'}" in err
    assert f"{folder / 'bad.musicxml'}: damaged XML: no element found" in err
    assert out.startswith("1 added, 0 changed, 0 unchanged, 1 failed")
    assert scorefind.main(["add", str(tmp_path / "c"), str(folder / "notes.xml")]) == 1
    assert f"{folder / 'notes.xml'}: XML that is neither MusicXML nor MEI" in capsys.readouterr().err


def test_the_kind_says_whether_notation_is_engraved_or_played(
    library: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    collection = tmp_path / "c"
    assert scorefind.main(["add", str(collection), str(library / "etude.krn"), "--kind", "recording"]) == 0
    assert kinds(capsys, collection) == {"etude": "recording"}
    assert scorefind.main(["add", str(collection), str(library / "waltz.mid"), "--kind", "score"]) == 1
    assert "a MIDI file holds no notation to engrave" in capsys.readouterr().err


def test_without_the_extra_files_are_passed_over_with_what_to_install(
    library: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "missing", lambda: "symbols, which need verovio: pip install 'scorefind[symbols]'")
    pages = library / "pages"
    assert scorefind.main(["add", str(tmp_path / "c"), str(library), "--jobs", "1"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("1 added")
    names = ("bad.musicxml", "etude.krn", "notes.xml", "waltz.mid", "pages/played.mid")
    assert f"passed over (symbols, which need verovio: pip install 'scorefind[symbols]'): {library}" in err
    assert all(str(library / name) in err for name in names)
    assert scorefind.main(["query", str(tmp_path / "c"), str(pages / "played.mid")]) == 1
    assert f"{pages / 'played.mid'}: symbols, which need verovio: pip install" in capsys.readouterr().err


def test_notation_is_asked_as_it_looks_and_as_it_sounds(
    filled: Path, library: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = printed_json(capsys, "query", filled, library / "etude.krn", "--json")
    assert both["direction"] == "both"
    assert sorted(match["kind"] for match in both["matches"]) == ["recording", "recording", "score", "score"]
    assert [match["rank"] for match in both["matches"]] == [1, 2, 3, 4]
    for among, direction in (("score", "A2S"), ("recording", "S2A")):
        one = printed_json(capsys, "query", filled, library / "etude.krn", "--among", among, "--json")
        assert one["direction"] == direction
    again = printed_json(
        capsys, "query", filled, library / "etude.krn", "--kind", "score", "--among", "score", "--json"
    )
    assert (again["direction"], again["matches"][0]["id"]) == ("S2S", "etude")
    assert again["matches"][0]["cost"] == pytest.approx(0, abs=1e-3)
    part = printed_json(capsys, "query", filled, library / "etude.krn", "--start", "1", "--end", "9", "--json")
    assert part["direction"] == "A2S"  # only what is played has seconds
    top = printed_json(capsys, "query", filled, library / "etude.krn", "--top", "1", "--json")
    assert len(top["matches"]) == 1


def test_midi_asks_among_scores_and_finds_itself_among_recordings(
    filled: Path, library: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert printed_json(capsys, "query", filled, library / "waltz.mid", "--json")["direction"] == "A2S"
    part = ("--start", "4", "--end", "12", "--among", "recording", "--json")
    answer = printed_json(capsys, "query", filled, library / "waltz.mid", *part)
    assert (answer["direction"], answer["matches"][0]["kind"]) == ("A2A", "recording")
    assert answer["matches"][0]["start_s"] == pytest.approx(4.0, abs=0.6)


def test_a_server_reads_symbols_and_answers_as_the_command_line(
    filled: Path, library: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving_process(filled) as server:
        for options in ((), ("--among", "score"), ("--among", "recording")):
            remote = asked(capsys, ["query", "--server", str(server.address), str(library / "etude.krn"), *options])
            local = asked(capsys, ["query", str(filled), str(library / "etude.krn"), *options])
            assert remote == local
        capsys.readouterr()
        assert scorefind.main(["query", "--server", str(server.address), str(library / "bad.musicxml")]) == 1
        assert "bad.musicxml: damaged XML: no element found" in capsys.readouterr().err


def asked(capsys: pytest.CaptureFixture[str], command: Sequence[str]) -> list[tuple[str, float]]:
    """The ids and costs of an answer."""
    return [(match["id"], round(match["cost"], 4)) for match in printed_json(capsys, *command, "--json")["matches"]]


def test_a_crash_of_verovio_fails_a_query_and_says_why(
    filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "odd.krn").write_text("**kern\n4c\t4d\n*-\n")
    assert scorefind.main(["query", str(filled), str(tmp_path / "odd.krn")]) == 1
    assert f"{tmp_path / 'odd.krn'}: Verovio, which engraves it, died of it (SIG" in capsys.readouterr().err


def test_musicxml_is_added_once_and_again_only_when_it_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "scale.xml"
    for pitches, words in (
        ([60, 62, 64, 65] * 8, "1 added"),
        ([60, 62, 64, 65] * 8, "0 added, 0 changed, 1 unchanged"),
    ):
        path.write_text(musicxml(pitches), encoding="utf-8")
        capsys.readouterr()
        assert scorefind.main(["add", str(tmp_path / "c"), str(path), "--jobs", "1"]) == 0
        assert capsys.readouterr().out.startswith(words)
