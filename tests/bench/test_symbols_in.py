"""The bench of scores in symbols, on made sequences."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench import symbols_in
from bench.symbols_in import InSymbols, SymbolResult, answers, in_symbols, table_rows
from engine.collection import Collection, CollectionWriter
from engine.config import FrontEnd
from engine.values import Document
from paired_collection import NETWORK, piece


def results(real: Collection, path: Path, swapped: Sequence[str]) -> list[SymbolResult]:
    """The ranks where symbols sound and look as what is real; the forms in `swapped` are those of another piece."""
    with CollectionWriter(path, NETWORK) as writer:
        for form, kind in symbols_in.FORMS.items():
            for number in range(4):
                like = piece(3 - number if form in swapped else number)
                document = next(one for one in real.of_kind(kind) if one.id in (like.id, like.recording_id))
                renamed: Document = dataclasses.replace(document, id=f"{piece(number).id}.{form}")
                writer.put(renamed, real.sequence(document.id))
        writer.commit()
    found = [
        InSymbols(piece=piece(number), notation=Path("a.krn"), midi=Path("a.mid"), others_midi=number > 0)
        for number in range(4)
    ]
    with Collection.open(path, NETWORK) as symbols:
        return list(answers(found, real, symbols, FrontEnd()))


def test_each_form_is_asked_both_ways_among_scans_and_recordings(collection: Collection, tmp_path: Path) -> None:
    found = results(collection, tmp_path / "symbols", swapped=())
    assert {one.rank for one in found} == {1.0}
    forms = ("engraved", "played", "midi")
    asked = {(one.asked, one.among) for one in found}
    assert asked == {
        pair for form in forms for real in ("scans", "recordings") for pair in ((form, real), (real, form))
    }
    assert {one.form for one in found if one.asked == "played"} == {"whole", *symbols_in.SHARES}
    assert {one.form for one in found if one.asked == "scans"} == {"whole", "1 system", "2 systems"}
    assert {one.form for one in found if one.asked == "recordings"} == {"whole", "10 s", "20 s"}


def test_midi_of_the_recording_itself_is_not_asked_among_recordings(collection: Collection, tmp_path: Path) -> None:
    found = results(collection, tmp_path / "symbols", swapped=())
    both = {(one.asked, one.among) for one in found if one.piece == "piece0"}
    assert ("midi", "scans") in both
    assert ("midi", "recordings") not in both


def test_a_form_that_finds_another_piece_has_a_lower_rank(collection: Collection, tmp_path: Path) -> None:
    rows = {
        (row["asked"], row["among"], row["query"]): row
        for row in table_rows(results(collection, tmp_path / "symbols", swapped=("played",)))
    }
    assert rows["engraved", "scans", "whole"]["MRR"] == 1
    assert rows["played", "scans", "whole"]["MRR"] < 1
    assert rows["played", "scans", "whole"]["n"] == 4


def test_a_piece_of_the_dev_set_has_its_kern_and_its_last_performance(tmp_path: Path) -> None:
    for folder, id in (("dev_scans_mozart", "sonata"), ("dev_scans_bach_haydn", "fugue")):
        (tmp_path / folder / "pages").mkdir(parents=True)
        (tmp_path / folder / "manifest.csv").write_text(f"id,composer,title,opus\n{id},Someone,A piece,1\n")
        (tmp_path / folder / "pages" / f"{id}_p01.tif").touch()
        players = ("first", "second") if id == "sonata" else ("first",)
        lines = [f"{id},{folder}/{player}.mid" for player in players]
        (tmp_path / folder / "performances.csv").write_text("\n".join(["piece,path", *lines]))
        (tmp_path / folder / "first.mid").touch()
    (tmp_path / "dev_scans_mozart" / "sonata.krn").touch()
    sonata, fugue = in_symbols(tmp_path, "dev", tmp_path / "work")
    assert (sonata.notation, sonata.others_midi) == (tmp_path / "dev_scans_mozart" / "sonata.krn", True)
    assert sonata.midi == tmp_path / "dev_scans_mozart" / "second.mid"
    assert (fugue.notation, fugue.others_midi, fugue.midi) == (None, False, fugue.piece.notes)


@pytest.mark.parametrize("name", symbols_in.SETS)
def test_the_help_names_every_set(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        symbols_in.main(["--help"])
    assert name in capsys.readouterr().out
