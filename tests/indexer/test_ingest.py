import logging
import multiprocessing
import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from engine.collection import Collection
from engine.errors import CollectionMissingError
from engine.values import Document, Embeddings
from fake_encoder import FakeEncoder
from indexer.ingest import LoadEncoder, Summary, add, costliest_first
from indexer.sources import Source, discover
from media import write_page, write_recording


class KilledByLongRecordings(FakeEncoder):
    """As decoders are by some files."""

    def recording(self, excerpts: NDArray[np.float32]) -> Embeddings:
        if len(excerpts) > 40:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().recording(excerpts)


class InterruptedByLongRecordings(FakeEncoder):
    """As if the user pressed Ctrl-C in the parent."""

    def recording(self, excerpts: NDArray[np.float32]) -> Embeddings:
        if len(excerpts) > 40:
            parent = multiprocessing.parent_process()
            assert parent is not None
            assert parent.pid is not None
            os.kill(parent.pid, signal.SIGINT)
            time.sleep(60)
        return super().recording(excerpts)


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A score `etude` and a recording `take`."""
    folder = tmp_path / "library"
    folder.mkdir()
    write_page(folder / "etude.png", seed=1)
    (folder / "takes").mkdir()
    write_recording(folder / "takes" / "take.flac", seed=1)
    return folder


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    return tmp_path / "collection"


def run(
    collection: Path,
    folder: Path,
    *,
    manifest: str = "",
    load_encoder: LoadEncoder = FakeEncoder,
    takeover: bool = False,
) -> Summary:
    """Adds what is in a folder, with the manifest's text (less its header) laid into it."""
    path = folder / "manifest.csv"
    path.write_text("path,id,title,composer,work,kind\n" + manifest)
    return add(collection, discover([folder], manifest=path).sources, load_encoder, takeover=takeover)


def held(collection: Path) -> dict[str, Document]:
    with Collection.open(collection) as opened:
        return {document.id: document for document in opened.documents}


def generation(collection: Path) -> int:
    with Collection.open(collection) as opened:
        return opened.generation


def test_what_is_added_is_in_the_collection_with_all_that_is_known_of_it(collection: Path, library: Path) -> None:
    summary = run(collection, library, manifest="etude.png,,Étude,Chopin,op. 10/3,\n")
    assert sorted(summary.added) == ["etude", "take"]
    etude, take = held(collection)["etude"], held(collection)["take"]
    assert (etude.kind, etude.title, etude.composer, etude.work) == ("score", "Étude", "Chopin", "op. 10/3")
    assert (take.kind, take.title, take.composer) == ("recording", "take", "")
    assert etude.source == str(library / "etude.png")
    assert summary.snippets == etude.snippets + take.snippets > 0


def test_a_second_run_leaves_all_as_it_is(collection: Path, library: Path) -> None:
    run(collection, library)
    before = generation(collection)
    summary = run(collection, library)
    assert (summary.added, summary.changed, sorted(summary.unchanged)) == ([], [], ["etude", "take"])
    assert generation(collection) == before


def test_a_file_with_other_content_is_embedded_again_and_keeps_its_title(collection: Path, library: Path) -> None:
    run(collection, library, manifest="etude.png,,Étude,,,\n")
    before = held(collection)["etude"]
    write_page(library / "etude.png", seed=2, systems=2)
    summary = run(collection, library)
    assert (summary.changed, summary.unchanged) == (["etude"], ["take"])
    after = held(collection)["etude"]
    assert after.content_hash != before.content_hash
    assert (len(after.systems), after.title) == (2, "Étude")


def test_a_new_title_is_taken_without_embedding_again(collection: Path, library: Path) -> None:
    run(collection, library)
    summary = run(collection, library, manifest="etude.png,,Étude,,,\n", load_encoder=KilledByLongRecordings)
    assert (summary.changed, summary.snippets) == (["etude"], 0)
    assert held(collection)["etude"].title == "Étude"


def test_a_file_that_cannot_be_read_fails_alone(collection: Path, library: Path) -> None:
    (library / "broken.pdf").write_bytes(b"%PDF-1.4 broken")
    (library / "empty.wav").touch()
    summary = run(collection, library)
    assert sorted(path.name for path in summary.failed) == ["broken.pdf", "empty.wav"]
    assert sorted(held(collection)) == ["etude", "take"]


def test_a_file_that_kills_its_worker_fails_alone(collection: Path, library: Path) -> None:
    write_recording(library / "fatal.wav", seed=0, seconds=30)
    summary = run(collection, library, load_encoder=KilledByLongRecordings)
    assert summary.failed == {library / "fatal.wav": "its worker process died (SIGKILL)"}
    assert sorted(held(collection)) == ["etude", "take"]


def test_another_file_of_the_same_id_is_refused_unless_it_may_take_over(collection: Path, library: Path) -> None:
    run(collection, library)
    other = library.parent / "other"
    (other / "more").mkdir(parents=True)
    write_page(other / "etude.png", seed=2)
    write_recording(other / "more" / "take2.wav", seed=2)
    summary = run(collection, other)
    assert "'etude' is the score made from" in summary.failed[other / "etude.png"]
    assert held(collection)["etude"].source == str(library / "etude.png")
    assert run(collection, other, takeover=True).changed == ["etude"]
    assert held(collection)["etude"].source == str(other / "etude.png")


def test_an_image_beside_recordings_that_shows_no_music_is_no_failed_score(collection: Path, library: Path) -> None:
    Image.new("L", (900, 1200), 200).save(library / "takes" / "portrait.png")
    write_page(library / "takes" / "page.png", seed=3)
    Image.new("L", (900, 1200), 200).save(library / "blank.png")
    (library / "more.flac").touch()
    summary = run(collection, library, manifest="blank.png,,,,,\n")
    assert sorted(summary.added) == ["etude", "page", "take"]
    assert [path.name for path in summary.passed_over] == ["portrait.png"]
    assert sorted(path.name for path in summary.failed) == ["blank.png", "more.flac"]


def test_a_file_of_a_name_that_is_held_is_refused_alone(collection: Path, library: Path) -> None:
    run(collection, library)
    other = library.parent / "other"
    (other / "more").mkdir(parents=True)
    write_page(other / "etude.png", seed=2)
    write_recording(other / "more" / "waltz.flac", seed=3)
    summary = run(collection, other)
    assert summary.added == ["waltz"]
    assert list(summary.failed) == [other / "etude.png"]


def test_a_file_of_the_same_name_that_comes_later_gets_an_id_of_its_own(collection: Path, library: Path) -> None:
    run(collection, library)
    (library / "encore").mkdir()
    write_recording(library / "encore" / "take.flac", seed=2)
    summary = run(collection, library)
    assert (summary.added, sorted(summary.unchanged)) == (["encore/take"], ["etude", "take"])
    assert held(collection)["take"].source == str(library / "takes" / "take.flac")
    assert held(collection)["encore/take"].title == "take"
    assert run(collection, library).added == []


def test_a_file_that_moved_keeps_its_document(collection: Path, library: Path) -> None:
    run(collection, library)
    before = held(collection)["take"]
    library = library.rename(library.parent / "moved")
    summary = run(collection, library)
    assert (sorted(summary.changed), summary.snippets, summary.failed) == (["etude", "take"], 0, {})
    assert held(collection)["take"].content_hash == before.content_hash


def test_ctrl_c_commits_nothing_and_what_was_done_is_taken_up_by_the_next_run(
    collection: Path, library: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_recording(library / "zz_long.wav", seed=0, seconds=30)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            run(collection, library, load_encoder=InterruptedByLongRecordings)
    finally:
        signal.signal(signal.SIGINT, before)
    assert "the collection is unchanged" in caplog.text
    assert held(collection) == {}
    summary = run(collection, library, load_encoder=FakeEncoder)
    assert (sorted(summary.added), summary.unchanged) == (["etude", "take", "zz_long"], [])
    assert summary.snippets == held(collection)["zz_long"].snippets  # the others are not embedded again
    assert sorted(held(collection)) == ["etude", "take", "zz_long"]


def test_nothing_to_add_makes_no_collection(collection: Path) -> None:
    assert add(collection, (), FakeEncoder) == Summary()
    with pytest.raises(CollectionMissingError):
        Collection.open(collection)


def test_a_page_that_cannot_be_read_is_told_and_the_others_are_added(
    collection: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "library" / "etude"
    folder.mkdir(parents=True)
    write_page(folder / "1.png", seed=1)
    (folder / "2.png").write_bytes(b"no image")
    write_page(folder / "3.png", seed=2)
    assert run(collection, folder.parent).added == ["etude"]
    assert "2.png: page 2 is passed over: not a PDF or an image" in caplog.text


def test_documents_that_take_long_begin_before_short_ones(library: Path) -> None:
    """Otherwise one process would still be at work when the others have nothing left to do."""
    (library / "sonata").mkdir()
    for number in (1, 2, 3):
        write_page(library / "sonata" / f"{number}.png", seed=number)
    write_recording(library / "takes" / "long.wav", 0, seconds=30)
    order = [source.path.name for source in costliest_first(discover([library]).sources)]
    assert order == ["sonata", "etude.png", "long.wav", "take.flac"]
    gone = Source(path=library / "gone.pdf", kind="score")
    assert costliest_first([gone, *discover([library]).sources])[2] == gone


def test_pages_and_seconds_of_sound_are_counted_once(
    collection: Path, library: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO):
        first = run(collection, library)
    assert re.findall(r"(\d+) pages \(", capsys.readouterr().err)[-1] == "1"  # the progress line at its end
    assert (first.pages, round(first.sound_s)) == (1, 12)
    assert re.search(r"snippets embedded: 1 pages \(\d+\.\d/s\), 0 min of sound \(\d\.\d\d/s\)", caplog.text)
    again = run(collection, library)
    assert (again.pages, again.sound_s) == (0, 0.0)
