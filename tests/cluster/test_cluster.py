"""Shards in processes of Ray answer as one collection, whatever happens to these. Skipped where Ray is missing."""

import contextlib
import json
import math
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

import scorefind
import sharded_collection
from collection_samples import NETWORK
from command_line import printed_json
from engine import alignment
from engine.alignment import Backend
from engine.audio import Recording, spectrogram
from engine.collection import Collection
from engine.config import SearchSettings
from engine.embedding import documents
from engine.errors import CollectionError
from engine.search.answers import as_dict
from engine.search.searcher import Query, Searcher
from engine.values import Answer, Method
from engine.workers import Failure
from fake_encoder import engine_of
from indexer.ingest import add
from indexer.sources import discover
from server import changes
from server.browsing import ListDocuments
from server.changes import Addition
from server.errors import DocumentMissing
from server.messages import Add, Remove
from server.sent import File, Media
from server.shelf import Shelf

if TYPE_CHECKING:
    from cluster.remote import ClusterCollection
    from cluster.storage import ClusterStorage

SETTINGS = SearchSettings(threads=1)
METHODS: tuple[Method, ...] = ("refine", "vote", "fingerprint", "sdtw")


@pytest.fixture(scope="module")
def backend() -> Backend:
    return alignment.choose("cpu", threads=1)


@pytest.fixture(scope="module")
def storage(site: Path) -> Iterator["ClusterStorage"]:
    from cluster.storage import ClusterStorage

    made = ClusterStorage(site / "a", SETTINGS, "cpu", shard_s=3.0)
    yield made
    made.shut_down()


def queries(method: Method) -> Iterator[Query]:
    for number in (1, 22):
        sequence = sharded_collection.heard(number)
        yield Query(sequence=sequence, among="score", method=method, top=5, path=number == 1)


def told(answer: Answer, query: Query, collection: Any) -> str:
    found = as_dict(answer, query.sequence.kind, query.among, collection)
    for name in ("timings_ms", "collection", "unseen"):
        del found[name]
    return json.dumps(found, default=float)


@contextlib.contextmanager
def asking(storage: "ClusterStorage", backend: Backend) -> Iterator[tuple[Searcher, "ClusterCollection"]]:
    with storage.open(NETWORK) as collection:
        searcher = Searcher(collection.shard, SETTINGS, backend)
        searcher.load()
        yield searcher, collection


def processes(storage: "ClusterStorage", shard: str) -> dict[str, int]:
    return {name: state.process for name, state in storage.joined()[shard].items()}


def recovered(storage: "ClusterStorage", shard: str, gone: set[int]) -> None:
    """Waits until both replicas of a shard answer, in processes that are not gone."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        found = set(processes(storage, shard).values())
        if len(found) == 2 and not found & gone:
            return
        time.sleep(0.2)
    raise AssertionError(f"{shard} did not recover")


def test_a_cluster_answers_as_one_collection(site: Path, storage: "ClusterStorage", backend: Backend) -> None:
    with Collection.open(site / "plain") as one, asking(storage, backend) as (searcher, many):
        assert (many.count, many.snippets, many.ids("score")) == (one.count, one.snippets, one.ids("score"))
        assert {state.path for states in storage.joined().values() for state in states.values()} == {
            str(site / machine / f"shard-00{number}") for machine in "ab" for number in range(2)
        }
        for method in METHODS:
            for query in queries(method):
                answer = searcher.answers([query])[0]
                expected = Searcher(one, SETTINGS, backend).answers([query])[0]
                assert answer.unseen == ()
                assert told(answer, query, many) == told(expected, query, one)
        id = one.ids("score")[0]
        assert many.document(id) == one.document(id)
        assert many.sequence(id).bias.tobytes() == one.sequence(id).bias.tobytes()
        assert {document.id for document in many.summaries()} == {document.id for document in one.documents}
        assert len(many.check().sizes) >= 2


def test_a_replica_that_is_killed_or_hangs_is_passed_over(
    site: Path, storage: "ClusterStorage", backend: Backend
) -> None:
    (query, *_) = queries("refine")
    with Collection.open(site / "plain") as one, asking(storage, backend) as (searcher, many):
        expected = told(Searcher(one, SETTINGS, backend).answers([query])[0], query, one)
        (killed, hung) = processes(storage, "shard-001").values()
        os.kill(killed, signal.SIGKILL)
        for _ in range(3):
            answer = searcher.answers([query])[0]
            assert answer.unseen == ()
            assert told(answer, query, many) == expected
        recovered(storage, "shard-001", {killed})
        os.kill(hung, signal.SIGSTOP)
        try:
            for _ in range(3):
                started = time.monotonic()
                answer = searcher.answers([query])[0]
                assert time.monotonic() - started < 20
                assert answer.unseen == ()
                assert told(answer, query, many) == expected
        finally:
            os.kill(hung, signal.SIGCONT)
        assert sum(sum(shard.passed_over.values()) for shard in storage.health()) >= 2
        storage.generation()
        assert [(shard.name, shard.replicas) for shard in storage.health()] == [("shard-000", 2), ("shard-001", 2)]


def test_without_any_replica_the_answer_is_partial_and_whole_again_later(
    site: Path, storage: "ClusterStorage", backend: Backend
) -> None:
    (query, *_) = queries("refine")
    with asking(storage, backend) as (searcher, many):
        whole = told(searcher.answers([query])[0], query, many)
        hung = processes(storage, "shard-000")
        for process in hung.values():
            os.kill(process, signal.SIGSTOP)
        try:
            started = time.monotonic()
            answer = searcher.answers([query])[0]
            assert time.monotonic() - started < 25
            (gone,) = answer.unseen
            assert gone.name == "shard-000"
            assert gone.documents["score"] == 60 - (answer.plan.documents if answer.plan else 0) > 0
            started = time.monotonic()
            assert searcher.answers([query])[0].unseen == (gone,)
            assert time.monotonic() - started < 2.5  # it is not waited for again
        finally:
            for process in hung.values():
                os.kill(process, signal.SIGCONT)
        until = time.monotonic() + 30
        while searcher.answers([query])[0].unseen and time.monotonic() < until:
            time.sleep(0.5)
        assert told(searcher.answers([query])[0], query, many) == whole


def test_an_addition_is_on_the_disks_of_all_replicas_or_refused(storage: "ClusterStorage", backend: Backend) -> None:
    document, snippets = sharded_collection.made("score", 70)
    with storage.writer(NETWORK) as writer:
        assert writer.put(document, snippets) == "added"
        writer.commit()
    states = storage.joined()
    assert all(len({state.digest for state in of_shard.values()}) == 1 for of_shard in states.values())
    paths = [state.path for of_shard in states.values() for state in of_shard.values()]
    holders = []
    for path in paths:
        with Collection.open(path) as part:
            holders += [path] if document.id in part.ids("score") else []
    assert len(holders) == 2
    with asking(storage, backend) as (searcher, _):
        found = searcher.query(sharded_collection.made("score", 70)[1], "score", locate=False)
        assert found.matches[0].document.id == document.id
    home = Path(holders[0]).name
    hung = next(iter(processes(storage, home).values()))
    os.kill(hung, signal.SIGKILL)
    with storage.writer(NETWORK) as writer:
        writer.remove(document.id)
        try:
            writer.commit()
        except CollectionError as exc:
            assert "all of its replicas" in str(exc) or "does not answer" in str(exc)  # noqa: PT017
    recovered(storage, home, {hung})
    assert len({state.digest for state in storage.joined()[home].values()}) == 1


def test_the_doctor_looks_and_starts_nothing(site: Path, storage: "ClusterStorage", tmp_path: Path) -> None:
    from cluster import inspection
    from cluster.machines import actor, keeper_of

    running = storage.joined()
    assert inspection.states(site / "a") == running
    told = inspection.report(site / "a")
    assert told["keeper"] == "runs"
    assert list(told["machines"].values()) == ["2 processors, 0 GPUs for Ray"]
    for shard, of_shard in told["shards"].items():
        assert list(of_shard) == [f"127.0.0.1:{site / machine / shard}" for machine in "ab"]
        assert all("up to date; process" in words for words in of_shard.values())
    hung = next(iter(running["shard-000"].values()))
    os.kill(hung.process, signal.SIGSTOP)
    try:
        told = inspection.report(site / "a")
    finally:
        os.kill(hung.process, signal.SIGCONT)
    assert told["shards"]["shard-000"][f"127.0.0.1:{hung.path}"] == "does not answer within 5 s"
    other = shutil.copytree(site / "a", tmp_path / "other")  # nobody serves it: it has the names of the same folders
    told = inspection.report(other)
    assert told["keeper"] == "does not run: no front has been started"
    assert all("no process; generation" in words for words in told["shards"]["shard-000"].values())
    with pytest.raises(ValueError, match="Failed to look up actor"):
        actor(keeper_of(other))


def test_the_commands_for_operators(
    site: Path, storage: "ClusterStorage", capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = printed_json(capsys, "doctor", "--json", "--cluster", "auto", site / "a")["cluster"]
    assert sorted(told["shards"]) == ["shard-000", "shard-001"]
    assert scorefind.main(["doctor", "--cluster", "auto"]) == 2
    assert "expected both --cluster and a COLLECTION" in capsys.readouterr().err
    asked: list[bool] = []

    def restarted(self: Any, *, alone: bool) -> Iterator[str]:
        asked.append(alone)
        yield "a replica"

    monkeypatch.setattr(type(storage), "restart", restarted)
    capsys.readouterr()
    assert scorefind.main(["restart", str(site / "a"), "--cluster", "auto", "--alone"]) == 0
    assert capsys.readouterr().out == "a replica answers again\n"
    assert asked == [True]


def test_a_replica_that_does_not_answer_shows_in_the_health(storage: "ClusterStorage", backend: Backend) -> None:
    (query, *_) = queries("refine")
    with asking(storage, backend) as (searcher, _):
        (hung, _) = processes(storage, "shard-000").values()
        os.kill(hung, signal.SIGSTOP)
        try:
            searcher.answers([query])
            searcher.answers([query])
            assert [shard.answering for shard in storage.health()] == [1, 2]
        finally:
            os.kill(hung, signal.SIGCONT)
        until = time.monotonic() + 30
        while storage.health()[0].answering < 2 and time.monotonic() < until:
            time.sleep(0.2)
        assert [shard.answering for shard in storage.health()] == [2, 2]


def test_the_last_replica_of_a_shard_is_not_restarted_unless_that_is_wanted(
    storage: "ClusterStorage", monkeypatch: pytest.MonkeyPatch
) -> None:
    joined = storage.joined()
    monkeypatch.setattr(
        storage, "joined", lambda: {shard: dict([*found.items()][:1]) for shard, found in joined.items()}
    )
    with pytest.raises(CollectionError, match=r"shard-000: no other replica than .* is up to date"):
        next(storage.restart())


def test_a_shard_that_no_machine_has_holds_up_changes_and_no_restart(
    storage: "ClusterStorage", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    from cluster.machines import Place
    from cluster.storage import ClusterStorage

    music = sharded_collection.split(sharded_collection.write(tmp_path / "music", 0, 8), 2)
    (node,) = ray.nodes()
    folder = str(music / "shard-000")
    place = Place(shard="shard-000", folder=folder, node=node["NodeID"], address="127.0.0.1", name=f"alone/{folder}")
    monkeypatch.setattr("cluster.storage.places", lambda path, map: iter([place]))
    lacking = ClusterStorage(music, SETTINGS, "cpu")
    try:
        joined = {name: list(states) for name, states in lacking.joined().items()}
        assert joined == {"shard-000": [place.name], "shard-001": []}
        with lacking.writer(NETWORK) as writer:
            writer.remove(next(one.id for one in lacking.open(NETWORK).summaries()))
            with pytest.raises(CollectionError, match="numbers of the documents of shard-001, of which no replica"):
                writer.commit()
        assert list(lacking.restart(alone=True)) == [place.name]
    finally:
        lacking.shut_down()


def test_only_this_machine_reaches_the_processes(storage: "ClusterStorage") -> None:
    import ray

    assert storage.joined()
    assert {node["NodeManagerAddress"] for node in ray.nodes()} == {"127.0.0.1"}


def test_a_second_front_finds_the_same_processes(site: Path, storage: "ClusterStorage") -> None:
    from cluster.storage import ClusterStorage

    again = ClusterStorage(site / "a", SETTINGS, "cpu")
    assert again.joined() == storage.joined()


def test_a_server_answers_and_changes_a_cluster_as_it_does_a_folder(storage: "ClusterStorage") -> None:
    encoder = sharded_collection.NetworkEncoder()
    shelf = Shelf(storage, engine_of(encoder))
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 6 * 22050).astype(np.float32)
    medium = Recording(spectrogram=spectrogram(samples), start_s=0.0, duration_s=6.0)
    media = Media(kind="recording", files=(File(name="take.flac", data=b"take"),))
    wanted = Add(id="take", media=media, title="A take", composer="", work="", replace=False)
    try:
        before = shelf.generation
        outcomes = changes.make(storage, [Addition(wanted=wanted, medium=medium)], encoder, shelf, 1)
        assert outcomes == [{"document": "take", "status": "added", "snippets": 4, "generation": before + 1}]
        assert shelf.generation == before + 1
        with shelf.taken() as generation:
            (sequence,) = documents.sequences([medium], encoder)
            (best, *_) = generation.searcher.query(sequence, "recording", locate=True).matches
            assert (best.document.title, best.place.start_s) == ("A take", 0.0)
            assert generation.catalogue.listed(ListDocuments(search="take", kind=None, skip=0, most=5))["total"] == 1
        (outcome,) = changes.make(storage, [Remove(ids=("take",))], encoder, shelf, 1)
        assert outcome == {"removed": 1, "generation": before + 2}
        (refused,) = changes.make(storage, [Remove(ids=("take",))], encoder, shelf, 1)
        assert isinstance(refused, DocumentMissing)
    finally:
        shelf.close()


def test_files_are_added_by_all_machines_and_go_to_their_shards(
    site: Path, storage: "ClusterStorage", tmp_path: Path
) -> None:
    from cluster.bulk import each

    for number in range(3):
        samples = np.random.default_rng(number).uniform(-0.5, 0.5, 6 * 22050)
        soundfile.write(tmp_path / f"file{number}.wav", samples, 22050)
    (tmp_path / "file3.wav").write_bytes(b"no sound")
    found = discover([tmp_path], "recording").sources
    summary = add(site / "a", found, sharded_collection.NetworkEncoder, run=each, opened=storage.writer)
    assert sorted(summary.added) == ["file0", "file1", "file2"]
    assert [path.name for path in summary.failed] == ["file3.wav"]
    with storage.open(NETWORK) as collection:
        assert {"file0", "file1", "file2"} <= set(collection.ids("recording"))
    again = add(site / "a", found, sharded_collection.NetworkEncoder, run=each, opened=storage.writer)
    assert (len(again.unchanged), again.added, again.snippets) == (3, [], 0)


def test_replicas_are_restarted_one_after_the_other_while_queries_go_on(
    storage: "ClusterStorage", backend: Backend
) -> None:
    (query, *_) = queries("refine")
    before = {process for shard in storage.joined() for process in processes(storage, shard).values()}
    with asking(storage, backend) as (searcher, _):
        for _name in storage.restart():
            assert searcher.answers([query])[0].unseen == ()
    after = {process for shard in storage.joined() for process in processes(storage, shard).values()}
    assert len(after) == len(before) == 4
    assert not after & before


def test_work_is_spread_and_done_again_if_its_process_dies(site: Path, tmp_path: Path) -> None:
    from cluster.bulk import each

    def dies_once(marker: str) -> str:
        if not Path(marker).exists():
            Path(marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return "done"

    outcomes = dict(each(math.sqrt, [1.0, 4.0, 9.0, -1.0], jobs=1, expected=(ValueError,)))
    assert {task: outcomes[task] for task in (1.0, 4.0, 9.0)} == {1.0: 1.0, 4.0: 2.0, 9.0: 3.0}
    assert isinstance(outcomes[-1.0], Failure)
    assert dict(each(dies_once, [str(tmp_path / "died")], jobs=1)) == {str(tmp_path / "died"): "done"}
