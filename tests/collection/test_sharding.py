"""A collection in shards keeps each document in the shard of its id, and changes as one collection does."""

import itertools
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import scorefind
import sharded_collection
from collection_samples import NETWORK, document, sequence
from command_line import printed_json
from engine.collection import (
    Collection,
    CollectionWriter,
    ShardedCollection,
    backup,
    current_generation,
    open_collection,
    open_writer,
    shard,
    splitting,
)
from engine.collection.sharding import ShardMap
from engine.errors import CollectionDamagedError, CollectionError, CollectionVersionError, DocumentMissingError


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sharded_collection.write(tmp_path_factory.mktemp("plain") / "music.sf", 0, 20)


@pytest.fixture
def sharded(original: Path, tmp_path: Path) -> Path:
    shard(original, tmp_path / "music.shards", 3)
    return tmp_path / "music.shards"


def test_shards_hold_all_documents_in_the_order_of_addition(original: Path, sharded: Path) -> None:
    with open_collection(original) as one, open_collection(sharded) as many:
        assert isinstance(many, ShardedCollection)
        assert many.documents == one.documents
        assert many.summaries() == one.summaries()
        for kind in ("score", "recording"):
            assert many.ids(kind) == one.ids(kind)
            assert (many.kinds[kind].documents, many.kinds[kind].snippets) == (20, one.kinds[kind].snippets)
        assert (many.count, many.snippets, many.network) == (one.count, one.snippets, one.network)
        assert all(part.count > 5 for part in many.parts.values())
        for found in one.documents:
            assert many.document(found.id) == found
            assert many.sequence(found.id).embeddings.tobytes() == one.sequence(found.id).embeddings.tobytes()
        assert set(many.check().sizes) >= {f"shard-00{number}/sequences.lmdb" for number in range(3)}


def test_an_id_has_one_shard_in_whatever_composition_its_letters_are() -> None:
    shards = ShardMap.of(64)
    assert shards.home("Dvo\u0159\xe1k") == shards.home("Dvor\u030ca\u0301k")


def test_shards_are_the_same_for_ever() -> None:
    """Collections on disk depend on it."""
    shards = ShardMap.of(4)
    assert [shards.home(id) for id in ("op10-3", "op10-4", "bach", "Dvo\u0159\xe1k")] == [
        "shard-003",
        "shard-003",
        "shard-001",
        "shard-001",
    ]


def test_a_further_shard_takes_documents_from_all_others_and_nothing_else_moves() -> None:
    four, five = ShardMap.of(4), ShardMap.of(5)
    ids = [f"document-{number}" for number in range(4000)]
    moved = [(four.home(id), five.home(id)) for id in ids if four.home(id) != five.home(id)]
    assert {new for _, new in moved} == {"shard-004"}
    assert {old for old, _ in moved} == set(four.shards)
    assert len(moved) == pytest.approx(800, rel=0.15)


def test_shards_have_about_the_same_number_of_snippets() -> None:
    """Within three standard deviations of what chance makes of documents of these lengths."""
    rng, shards = np.random.default_rng(0), ShardMap.of(8)
    lengths = rng.integers(20, 600, 8000)
    held: Counter[str] = Counter()
    for number, length in enumerate(lengths.tolist()):
        held[shards.home(f"document-{number}")] += length
    mean = sum(held.values()) / 8
    spread = np.sqrt(np.sum(lengths.astype(float) ** 2) / 8)
    assert max(abs(count - mean) for count in held.values()) < 3 * spread < 0.13 * mean


def test_other_numbers_of_shards_are_made_of_shards(original: Path, sharded: Path, tmp_path: Path) -> None:
    shard(sharded, tmp_path / "five", 5)
    shard(tmp_path / "five", tmp_path / "three", 3)
    with open_collection(original) as one, open_collection(tmp_path / "five") as five:
        assert five.documents == one.documents
        assert five.ids("score") == one.ids("score")
    with open_collection(sharded) as once, open_collection(tmp_path / "three") as twice:
        assert isinstance(once, ShardedCollection)
        assert isinstance(twice, ShardedCollection)
        for name, part in once.parts.items():
            assert twice.parts[name].manifest.digest == part.manifest.digest


def test_media_move_with_their_documents(tmp_path: Path) -> None:
    with CollectionWriter(tmp_path / "plain", NETWORK) as writer:
        writer.put(document("a"), sequence(), media={1: b"page one", 2: b"page two"})
        writer.commit()
    shard(tmp_path / "plain", tmp_path / "shards", 2)
    with open_collection(tmp_path / "shards") as many:
        assert many.media("a", 2) == b"page two"
        assert many.media("a", 3) is None


def test_additions_and_removals_go_to_the_shard_of_the_id_and_keep_the_order(original: Path, sharded: Path) -> None:
    before = current_generation(sharded)
    with open_writer(sharded) as writer:
        for number in range(20, 30):
            assert writer.put(*sharded_collection.made("score", number)) == "added"
        writer.remove("recording-00")
        assert not writer.holds("recording-00")
        assert writer.document("score-00") is not None
        writer.commit()
    assert current_generation(sharded) > before
    with open_collection(sharded) as many:
        assert isinstance(many, ShardedCollection)
        assert many.generation == current_generation(sharded)
        added = tuple(sharded_collection.made("score", number)[0].id for number in range(20, 30))
        assert many.ids("score")[-10:] == added
        with pytest.raises(DocumentMissingError):
            many.document("recording-00")
        numbers = [entry.number for part in many.parts.values() for entry in part.entries]
        assert len(set(numbers)) == len(numbers) == 49
        many.check()


def test_the_same_content_is_not_added_twice(sharded: Path) -> None:
    added, _ = sharded_collection.made("score", 3)
    with open_writer(sharded) as writer:
        assert not writer.needs_embedding(added)
        assert writer.put(added, None) == "unchanged"
        assert writer.commit() == current_generation(sharded)


def test_removing_an_unknown_document_removes_nothing(sharded: Path) -> None:
    assert scorefind.main(["remove", str(sharded), "score-00", "nobody"]) == 1
    with open_collection(sharded) as many:
        assert many.count == 40


def test_a_document_in_the_wrong_shard_is_damage(sharded: Path) -> None:
    home = ShardMap.read(sharded).home("stray")
    other = next(name for name in ShardMap.read(sharded).shards if name != home)
    with CollectionWriter(sharded / other, NETWORK) as writer:
        writer.put(document("stray"), sequence())
        writer.commit()
    with (
        open_collection(sharded) as many,
        pytest.raises(CollectionDamagedError, match=f"'stray', which belongs to {home}"),
    ):
        many.check()


@pytest.mark.parametrize(
    ("changed", "error", "told"),
    [
        ({"format": "other"}, CollectionDamagedError, "expected the format"),
        ({"version": 9}, CollectionVersionError, "version 9, this program reads up to 1"),
        ({"shards": ["shard-000", "shard-001"]}, CollectionDamagedError, "does not match its checksum"),
        ({"shards": 5}, CollectionDamagedError, "cannot be parsed"),
    ],
)
def test_a_map_that_was_changed_is_refused(
    sharded: Path, changed: dict[str, object], error: type[CollectionError], told: str
) -> None:
    file = sharded / "shards.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    with pytest.raises(error, match=told):
        open_collection(sharded)


@pytest.mark.parametrize("names", [["../elsewhere"], ["a", "a"], [], [""], [".."]])
def test_a_map_names_folders_of_its_own(sharded: Path, names: list[str]) -> None:
    ShardMap(shards=tuple(names)).write(sharded)
    with pytest.raises(CollectionDamagedError, match="expected names of 1 to 64 folders"):
        open_collection(sharded)


def test_a_shard_that_is_gone_is_told(sharded: Path) -> None:
    shutil.rmtree(sharded / "shard-001")
    with pytest.raises(CollectionError, match="shard-001"):
        open_collection(sharded)


def test_a_folder_that_holds_something_is_not_overwritten(original: Path, sharded: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("something")
    with pytest.raises(CollectionError, match="it holds something"):
        shard(original, tmp_path / "full", 2)
    with pytest.raises(CollectionError, match="1 to 64 shards, got 65"):
        shard(original, sharded.parent / "many", 65)
    assert not (sharded.parent / "many").exists()


def change(path: Path, added: int, removed: str) -> None:
    with open_writer(path) as writer:
        writer.put(*sharded_collection.made("score", added))
        writer.remove(removed)
        writer.commit()


@pytest.mark.parametrize("source", ["plain", "shards"])
def test_what_changes_while_shards_are_written_is_taken_over(
    original: Path, tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / source
    if source == "plain":
        shutil.copytree(original, path)
    else:
        shard(original, path, 2)
    write, turns = splitting._write, iter([(20, "score-00"), (21, "recording-00")])

    def written(*arguments: Any) -> None:  # another one changes the source before each of the first two shards
        for added, removed in itertools.islice(turns, 1):
            change(path, added, removed)
        write(*arguments)

    monkeypatch.setattr(splitting, "_write", written)
    shard(path, tmp_path / "three", 3)
    with open_collection(path) as one, open_collection(tmp_path / "three") as three:
        assert three.documents == one.documents
        assert three.count == 40
        assert {sharded_collection.made("score", number)[0].id for number in (20, 21)} <= set(three.ids("score"))
        three.check()


def test_shards_written_before_take_over_what_has_changed_since(original: Path, tmp_path: Path) -> None:
    path, copy = Path(shutil.copytree(original, tmp_path / "plain")), tmp_path / "three"
    shard(path, copy, 3)
    before = {name: (copy / name / "sequences.lmdb").stat().st_ino for name in ShardMap.of(3).shards}
    for added, removed in ((20, "score-00"), (21, "recording-00")):
        change(path, added, removed)
        shard(path, copy, 3)
        with open_collection(path) as one, open_collection(copy) as three:
            assert three.documents == one.documents
            three.check()
    assert {name: (copy / name / "sequences.lmdb").stat().st_ino for name in before} == before
    generation = current_generation(copy)
    shard(path, copy, 3)
    assert current_generation(copy) == generation
    with pytest.raises(CollectionError, match="it has 3 shards; expected a new folder, or 4"):
        shard(path, copy, 4)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("done", [0, 1, 2])
def test_a_run_that_was_stopped_is_taken_up_again(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: int, after: bool
) -> None:
    """It is stopped at the commit of each shard: before the commit is in force, and after."""
    path, copy = Path(shutil.copytree(original, tmp_path / "plain")), tmp_path / "three"
    shard(path, copy, 3)
    with open_writer(path) as writer:
        for number in range(20, 40):
            writer.put(*sharded_collection.made("score", number))
        writer.commit()
    commit, commits = CollectionWriter.commit, itertools.count()

    def stopped(writer: CollectionWriter) -> int:
        at = next(commits)
        if at < done or after:
            commit(writer)
        if at == done:
            raise KeyboardInterrupt
        return writer.generation

    with monkeypatch.context() as patch:
        patch.setattr(CollectionWriter, "commit", stopped)
        with pytest.raises(KeyboardInterrupt):
            shard(path, copy, 3)
    change(path, 50, "score-00")
    shard(path, copy, 3)
    assert numbers(copy) == numbers(path)
    assert not ShardMap.read(copy).updating


def numbers(path: Path) -> list[tuple[int, str]]:
    """Numbers and ids of the documents of a collection, plain or in shards, by rising number."""
    with open_collection(path) as collection:
        parts = collection.parts.values() if isinstance(collection, ShardedCollection) else [collection]
        return sorted((entry.number, entry.id) for one in parts for entry in one.entries)


@pytest.mark.parametrize("source", ["plain", "shards"])
def test_what_a_killed_run_left_keeps_its_number_in_all_copies(original: Path, tmp_path: Path, source: str) -> None:
    path, copy = tmp_path / source, tmp_path / "two"
    shutil.copytree(original, path) if source == "plain" else shard(original, path, 3)
    left = [sharded_collection.made("score", number) for number in range(70, 76)]
    with open_writer(path) as writer:  # killed before its commit
        for one in left:
            writer.put(*one)
    with open_writer(path) as writer:
        for number in range(80, 86):
            writer.put(*sharded_collection.made("score", number))
        writer.commit()
    shard(path, copy, 2)
    for one, _ in left:  # the same files again, each in a run of its own
        with open_writer(path) as writer:
            assert writer.put(one, None) == "added"
            writer.commit()
        shard(path, copy, 2)
        assert numbers(copy) == numbers(path)
    assert [id for _, id in numbers(path)][-6:] == [one.id for one, _ in left]
    assert len({number for number, _ in numbers(copy)}) == 40 + 12


def test_what_a_killed_run_left_comes_after_what_other_shards_have_committed(sharded: Path) -> None:
    home = ShardMap.read(sharded).home
    left, *others = [sharded_collection.made("score", number) for number in range(70, 80)]
    with open_writer(sharded) as writer:  # killed before its commit
        writer.put(*left)
    with open_writer(sharded) as writer:
        for one in others:
            if home(one[0].id) != home(left[0].id):
                writer.put(*one)
        writer.commit()
    with open_writer(sharded) as writer:
        writer.put(left[0], None)
        writer.commit()
    assert numbers(sharded)[-1][1] == left[0].id


def test_a_copy_that_has_no_place_for_a_number_is_refused(original: Path, tmp_path: Path) -> None:
    path, copy = Path(shutil.copytree(original, tmp_path / "plain")), tmp_path / "two"
    with CollectionWriter(path, NETWORK) as writer:
        writer.put(*sharded_collection.made("score", 70))
        writer.skip_to(90)
        writer.commit()
    shutil.copytree(path, tmp_path / "before")
    with CollectionWriter(path, NETWORK) as writer:
        writer.remove("score-70")
        writer.put(*sharded_collection.made("score", 71))
        writer.commit()
    shard(path, copy, 1)
    with pytest.raises(CollectionError, match="score-70 cannot be taken over under its number 40: expected 91 or"):
        shard(tmp_path / "before", copy, 1)
    assert numbers(copy) == numbers(path)


def test_shards_with_documents_of_their_own_are_not_changed(original: Path, tmp_path: Path) -> None:
    copy = tmp_path / "three"
    shard(original, copy, 3)
    other = sharded_collection.write(tmp_path / "other", 30, 34)
    with pytest.raises(CollectionError, match="it has no document of"):
        shard(other, copy, 3)
    change(copy, 20, "score-00")
    with pytest.raises(CollectionError, match=r"shard-00\d was changed since it was written; expected a new folder"):
        shard(original, copy, 3)
    with open_collection(copy) as three:
        assert "score-20" in three.ids("score")


def test_a_backup_of_shards_is_a_collection_in_shards(sharded: Path, tmp_path: Path) -> None:
    copied = backup(sharded, tmp_path / "copy")
    with open_collection(sharded) as many, open_collection(tmp_path / "copy") as copy:
        assert (copied.generation, copied.documents) == (many.generation, 40)
        assert copy.documents == many.documents
        copy.check()


def test_commands_take_shards_where_they_take_a_collection(
    original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    into = tmp_path / "shards"
    assert scorefind.main(["shard", str(original), "--into", str(into), "--shards", "2"]) == 0
    assert f"2 shards written to {into}" in capsys.readouterr().out
    facts = printed_json(capsys, "info", into, "--json", "--list")
    with Collection.open(original) as one:
        assert facts["documents"] == one.count
        assert list(facts["ids"]) == [document.id for document in one.documents]
    assert scorefind.main(["remove", str(into), "score-00"]) == 0
    assert scorefind.main(["check", str(into)]) == 0
    assert "verified: shard-001/sequences.lmdb" in capsys.readouterr().out
    built = printed_json(capsys, "build", into, "--json")
    assert {name: facts["score"]["documents"] > 0 for name, facts in built["shards"].items()} == {
        "shard-000": True,
        "shard-001": True,
    }
    with open_collection(into) as many:
        assert many.count == 39
