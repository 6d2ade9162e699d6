"""The command line, in process, on files that the tests make; the network is a stand-in but in the last test."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

import scorefind
from command_line import printed_json
from engine.embedding.encoder import DEFAULT_WEIGHTS
from fake_encoder import fake_loader
from media import write_page, write_recording
from running_server import serving_process
from scorefind_options import parsed
from web_host import Page, web_host

COMMANDS = (
    "add",
    "remove",
    "info",
    "check",
    "build",
    "backup",
    "query",
    "align",
    "export",
    "serve",
    "doctor",
    "train",
    "demo",
)


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorefind, "encoder_loader", fake_loader)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scores, one of them a folder of two pages, and two recordings."""
    folder = tmp_path_factory.mktemp("library")
    (folder / "sonata").mkdir()
    write_page(folder / "sonata" / "p1.png", seed=1)
    write_page(folder / "sonata" / "p2.png", seed=2)
    for seed, name in enumerate(("etude", "waltz"), start=3):
        write_page(folder / f"{name}.png", seed)
        write_recording(folder / f"take_{name}.flac", seed, seconds=20)
    (folder / "manifest.csv").write_text("path,title,composer\nsonata,Sonata in C,Mozart\n")
    return folder


@pytest.fixture(scope="module")
def filled(library: Path) -> Path:
    """A collection of the library."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scorefind, "encoder_loader", fake_loader)
        collection = library.parent / "filled"
        assert scorefind.main(["add", str(collection), str(library), "--manifest", str(library / "manifest.csv")]) == 0
    return collection


def test_the_interpreter_ends_without_a_search_for_garbage() -> None:
    """The search through all objects of the libraries takes a third of the time of a query."""
    code = "import atexit, gc, sys, scorefind; sys.argv[1:] = ['info', 'nothing']; "
    code += "atexit.register(lambda: print(gc.get_freeze_count() > 1000, flush=True)); scorefind.entry()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "True\n")


@pytest.mark.parametrize("lines", [1, 100_000])
@pytest.mark.parametrize("flush", [False, True])
def test_a_reader_of_stdout_that_has_gone_is_no_error(lines: int, flush: bool) -> None:
    """As after `| head -1`. A long text fails while it is printed, a short one when the program ends."""
    code = "import sys, scorefind; sys.argv[1:] = ['info', 'c']; "
    code += f"scorefind.COMMANDS['info'] = lambda _: print('line\\n' * {lines}, flush={flush}) or 0; scorefind.entry()"
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_connection_that_breaks_stays_an_error(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def info(_: object) -> int:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    monkeypatch.setitem(scorefind.COMMANDS, "info", info)
    assert scorefind.main(["info", "c"]) == 1
    assert "Broken pipe" in capfd.readouterr().err


def test_help_imports_no_library() -> None:
    code = "import sys, scorefind; scorefind.main(['--help']); "
    code += "print([name for name in ('numpy', 'numba', 'faiss', 'onnxruntime') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\n[]\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert scorefind.main([command, "--help"]) == 0
    assert f"example:\n  scorefind {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [[], ["find"], ["query", "c"], ["query", "c", "p", "--top", "0"], ["add", "c", "p", "--kind", "midi"]]
)
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert scorefind.main(arguments) == 2
    assert "usage: scorefind" in capsys.readouterr().err


def test_add_tells_what_became_of_the_files(library: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.docx").touch()
    code = scorefind.main(["add", str(tmp_path / "c"), str(library / "etude.png"), str(tmp_path / "notes.docx")])
    out, err = capsys.readouterr()
    assert code == 1
    assert out.startswith("1 added, 0 changed, 0 unchanged, 1 failed;")
    assert "notes.docx: neither a score nor a recording" in err
    assert "file/s" in err


def test_files_of_one_name_are_all_added_and_so_is_what_lies_beside_bad_names(
    library: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "music"
    for name in ("A", "B"):
        (folder / name).mkdir(parents=True)
        shutil.copy(library / "take_etude.flac", folder / name / "01.flac")
    shutil.copy(library / "etude.png", os.fsencode(folder) + b"/fa\xe7ile.png")
    shutil.copy(library / "take_waltz.flac", os.fsencode(folder) + b"/valse \xe9.flac")
    os.mkfifo(folder / "pipe.wav")
    (folder / "notes.txt").touch()
    assert scorefind.main(["add", "--jobs", "1", str(tmp_path / "c"), str(folder)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("4 added, 0 changed, 0 unchanged, 0 failed;")
    assert out.endswith("new snippets; passed over: 1 .txt\n")
    assert "ids chosen: A/01, B/01" in err
    assert "never opened): " in err
    assert list(printed_json(capsys, "info", tmp_path / "c", "--list", "--json")["ids"]) == [
        "A/01",
        "B/01",
        "fa\\xe7ile",
        "valse \\xe9",
    ]
    assert scorefind.main(["add", "--jobs", "1", str(tmp_path / "c"), str(folder)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("0 added, 0 changed, 4 unchanged, 0 failed;")
    assert "ids chosen" not in err


def test_names_and_titles_reach_the_terminal_in_one_line_without_escape_sequences(
    library: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    collection, path = str(tmp_path / "c"), tmp_path / "red\x1b[31m\nline.png"
    shutil.copy(library / "etude.png", path)
    assert scorefind.main(["add", collection, str(path), "--jobs", "1"]) == 0
    capsys.readouterr()
    for command in (["info", collection, "--list"], ["query", collection, str(path), "--among", "score"]):
        assert scorefind.main(command) == 0
        told = capsys.readouterr().out
        assert "red\\x1b[31m\\nline" in told
        assert "\x1b" not in told
    assert list(printed_json(capsys, "info", collection, "--list", "--json")["ids"]) == ["red\x1b[31m\nline"]
    assert scorefind.main(["query", collection, str(path.with_suffix(".wav"))]) == 1
    assert "red\\x1b[31m\\nline.wav: no such file or folder\n" in capsys.readouterr().err
    assert scorefind.main(["query", collection, "a", "\x1b[31m"]) == 2
    assert "unrecognized arguments: \\x1b[31m\n" in capsys.readouterr().err


def test_a_query_whose_name_is_no_utf_8_is_printed_as_json(
    filled: Path, library: Path, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/fa\xe7ile.png")
    shutil.copy(library / "etude.png", path)
    assert scorefind.main(["query", str(filled), path, "--among", "score", "--json"]) == 0
    assert json.loads(capsysbinary.readouterr().out)["query"] == path


def test_an_id_is_found_however_its_accents_are_composed(
    library: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    collection, path = str(tmp_path / "c"), tmp_path / unicodedata.normalize("NFD", "étude.png")
    shutil.copy(library / "etude.png", path)
    assert scorefind.main(["add", collection, str(path), "--jobs", "1"]) == 0
    nfd, nfc = (unicodedata.normalize(form, "étude") for form in ("NFD", "NFC"))
    assert list(printed_json(capsys, "info", collection, "--list", "--json")["ids"]) == [nfc]
    assert scorefind.main(["remove", collection, nfd]) == 0


def test_add_without_paths_and_manifest_is_wrong_usage(tmp_path: Path) -> None:
    assert scorefind.main(["add", str(tmp_path / "c")]) == 2


def test_info_tells_counts_and_documents(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = printed_json(capsys, "info", filled, "--json", "--list")
    assert (facts["generation"], facts["documents"]) == (1, 5)
    assert facts["kinds"]["score"]["documents"] == 3
    assert facts["ids"]["sonata"] == "score, Sonata in C"
    assert scorefind.main(["info", str(filled)]) == 0
    assert "documents: 5" in capsys.readouterr().out


@pytest.mark.usefixtures("indexed")
def test_check_passes_a_sound_collection_and_fails_a_damaged_one(
    library: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    collection = tmp_path / "c"
    scorefind.main(["add", str(collection), str(library / "etude.png")])
    index = next(collection.glob("*.faiss"))
    (collection / "scores-000099.faiss").touch()
    assert scorefind.main(["check", str(collection)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "sound: generation 1, 1 documents" in lines
    assert f"verified: {index.name}, {index.stat().st_size:,} bytes" in lines
    assert lines[-1] == "not verified, because this generation does not use it: scores-000099.faiss"
    index.write_bytes(index.read_bytes()[:-1] + b"?")
    assert scorefind.main(["check", str(collection)]) == 1
    assert index.name in capsys.readouterr().err


def test_a_backup_is_a_collection_and_is_made_once(
    filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert scorefind.main(["backup", str(filled), str(tmp_path / "copy")]) == 0
    assert f"generation 1 with 5 documents copied to {tmp_path / 'copy'}" in capsys.readouterr().out
    ours, theirs = (printed_json(capsys, "info", path, "--json", "--list") for path in (filled, tmp_path / "copy"))
    assert ours | {"path": ""} == theirs | {"path": ""}
    assert scorefind.main(["backup", str(filled), str(tmp_path / "copy")]) == 1
    assert "expected a new or an empty folder" in capsys.readouterr().err


def test_after_remove_and_build_no_file_names_the_document(library: Path, tmp_path: Path) -> None:
    collection = tmp_path / "c"
    files = [str(library / name) for name in ("etude.png", "waltz.png", "take_waltz.flac")]
    assert scorefind.main(["add", str(collection), *files]) == 0
    assert scorefind.main(["remove", str(collection), "waltz", "take_waltz"]) == 0
    assert scorefind.main(["build", str(collection)]) == 0
    kept = b"".join(file.read_bytes() for file in collection.iterdir())
    assert b"waltz" not in kept
    assert b"etude" in kept


def test_remove_takes_documents_out_or_none_at_all(
    library: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    collection = tmp_path / "c"
    scorefind.main(["add", str(collection), str(library / "etude.png"), str(library / "waltz.png")])
    assert scorefind.main(["remove", str(collection), "etude", "nocturne"]) == 1
    assert "nocturne" in capsys.readouterr().err
    assert printed_json(capsys, "info", collection, "--json")["documents"] == 2
    assert scorefind.main(["remove", str(collection), "etude"]) == 0
    assert printed_json(capsys, "info", collection, "--json")["documents"] == 1


@pytest.mark.parametrize(
    "command", [["info"], ["check"], ["build"], ["backup", "copy"], ["remove", "x"], ["query", "etude.png"]]
)
def test_a_collection_that_is_not_there_is_an_error_and_is_not_made(
    command: list[str], library: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *rest = command
    rest = [str(library / part) if part.endswith(".png") else part for part in rest]
    assert scorefind.main([name, str(tmp_path / "none"), *rest]) == 1
    assert "expected a collection" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("method", ["refine", "exhaustive", "vote", "fingerprint", "sdtw", "dtw"])
def test_a_score_among_scores_finds_itself_and_its_place(
    filled: Path, library: Path, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    path = library / "sonata" / "p2.png"
    result = printed_json(capsys, "query", filled, path, "--among", "score", "--method", method, "--json")
    assert (result["query"], result["direction"]) == (str(path), "S2S")
    assert [match["rank"] for match in result["matches"]] == [1, 2, 3]
    best = result["matches"][0]
    assert (best["id"], best["title"], best["composer"], best["kind"]) == ("sonata", "Sonata in C", "Mozart", "score")
    assert (best["start_s"], best["end_s"]) == (None, None)
    if method in ("refine", "exhaustive"):
        assert best["pages"][-1] == 2
        assert best["systems"] in ([4, 5, 6], [3, 4, 5, 6])  # snippets run over the ends of systems
        assert best["boxes"][0].keys() == {"page", "system", "x0", "y0", "x1", "y1", "turn"}
        assert 0 < best["start_x"] < 1  # in the first of the systems
        assert 0 < best["end_x"] < 1  # in the last one
    assert all(ms >= 0 for ms in result["timings_ms"].values())
    assert result["collection"]["documents"] == 5


def test_a_part_of_a_recording_among_recordings_finds_itself_and_its_seconds(
    filled: Path, library: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = library / "take_waltz.flac"
    part = ("--start", 8, "--end", 16, "--among", "recording", "--top", 1)
    result = printed_json(capsys, "query", filled, path, *part, "--json")
    (best,) = result["matches"]
    assert (result["direction"], best["id"], best["pages"], best["systems"]) == ("A2A", "take_waltz", [], [])
    assert (best["start_s"], best["end_s"]) == pytest.approx((8.0, 16.0), abs=0.5)


def test_the_path_of_a_match_is_told_if_asked_for(
    filled: Path, library: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = ("query", filled, library / "etude.png", "--among", "recording", "--top", 1, "--json")
    assert "path" not in printed_json(capsys, *query)["matches"][0]
    (best,) = printed_json(capsys, *query, "--path")["matches"]
    assert best["path"][0]["query"].keys() == {"page", "system", "x"}
    assert best["path"][0]["document"].keys() == {"s"}
    assert sum(point["jump"] for point in best["path"]) == len(best["parts"]) - 1
    assert sum(part["share"] for part in best["parts"]) == pytest.approx(1)


def test_a_query_searches_the_other_kind_by_default(
    filled: Path, library: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = printed_json(capsys, "query", filled, library / "take_etude.flac", "--json")
    assert result["direction"] == "A2S"
    assert {match["kind"] for match in result["matches"]} == {"score"}
    result = printed_json(capsys, "query", filled, library / "etude.png", "--json")
    assert result["direction"] == "S2A"
    assert {match["kind"] for match in result["matches"]} == {"recording"}


def test_a_score_and_a_recording_are_aligned_without_a_collection(
    library: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = (library / "etude.png", library / "take_etude.flac")
    assert scorefind.main(["align", *map(str, files), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["time_map"][0]["page"] == 1
    assert facts["measures"][0]["start_s"] == facts["time_map"][0]["s"][0]
    assert scorefind.main(["align", *map(str, files), "--json", "--out", str(tmp_path / "map.json")]) == 0
    assert json.loads((tmp_path / "map.json").read_text()) == facts
    assert scorefind.main(["align", *map(str, files)]) == 0
    assert "p. 1, system" in capsys.readouterr().out
    assert scorefind.main(["align", str(files[0]), str(library / "none.flac")]) == 1


def test_a_manifest_is_added_with_its_images_beside_the_collection(
    library: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = {"type": "Image", "id": ""}
    canvas = {"items": [{"items": [{"motivation": "painting", "body": image}]}]}
    fields = {"@context": "http://iiif.io/api/presentation/3/context.json", "type": "Manifest", "label": "Etude"}
    with web_host() as host:
        image["id"] = host.at("/page")
        host.pages["/page"] = Page(body=(library / "etude.png").read_bytes(), type="image/png")
        host.pages["/m"] = Page(body=json.dumps(fields | {"items": [canvas]}).encode())
        words = ["add", str(tmp_path / "music.sf"), host.at("/m"), str(library / "waltz.png")]
        assert scorefind.main(words) == 0
        assert capsys.readouterr().out.startswith("2 added")
        assert scorefind.main([*words, host.at("/none")]) == 1
        told = capsys.readouterr()
    assert told.out.startswith("0 added, 0 changed, 2 unchanged, 1 failed")
    assert "/none: the server answers 404" in told.err
    (folder,) = (tmp_path / "music.sf-images").iterdir()
    assert folder.name.startswith("Etude-")


def test_a_score_is_exported_alone_and_with_a_recording(
    filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = printed_json(capsys, "export", filled, "etude", "--format", "iiif")
    assert manifest["items"][0]["type"] == "Canvas"
    words = ["export", str(filled), "etude", "--recording", "take_etude", "--format", "csv"]
    assert scorefind.main([*words, "--out", str(tmp_path / "map.csv")]) == 0
    assert (tmp_path / "map.csv").read_text().startswith("start_s,end_s,page")
    assert scorefind.main(["export", str(filled), "none", "--format", "iiif"]) == 1
    assert scorefind.main(["export", str(filled), "etude", "--format", "csv"]) == 2


def test_a_file_that_a_link_leads_to_is_written_and_the_link_stays(filled: Path, tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to("real.json")
    words = ["export", str(filled), "etude", "--format", "iiif", "--out", str(tmp_path / "link.json")]
    assert scorefind.main(words) == 0
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "real.json").read_text())["type"] == "Manifest"


def test_matches_are_printed_as_a_table_for_people(
    filled: Path, library: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert scorefind.main(["query", str(filled), str(library / "sonata" / "p2.png"), "--among", "score"]) == 0
    header, first, *_ = capsys.readouterr().out.splitlines()
    assert header.split() == ["rank", "id", "title", "cost", "where"]
    assert first.split()[:2] == ["1", "sonata"]
    assert re.search(r"p\. .*2, systems [34]-6$", first)
    assert header.index("where") == first.index("p. ")


def test_a_recording_is_transposed_as_the_flag_says(
    filled: Path, library: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = ("query", filled, library / "take_etude.flac", "--among", "recording", "--json")
    assert printed_json(capsys, *query)["transposed"] == 0
    assert printed_json(capsys, *query, "--transpose=-1.5", "--speed", "0.97")["transposed"] == -1.5
    for wrong in ("--transpose=13", "--transpose=x", "--speed=0"):
        assert scorefind.main([str(word) for word in (*query, wrong)]) == 2


def test_settings_come_from_a_file_and_flags_win(
    filled: Path, library: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "scorefind.toml"
    config.write_text("[search]\nshortlist = 1\n")
    query = ("query", filled, library / "etude.png", "--among", "score", "--json", "--config", config)
    assert len(printed_json(capsys, *query)["matches"]) == 1
    assert len(printed_json(capsys, *query, "--shortlist", 3)["matches"]) == 3
    config.write_text("[search]\nshort = 1\n")
    assert scorefind.main([str(argument) for argument in query]) == 1
    assert "no such setting" in capsys.readouterr().err


def test_a_query_put_to_a_server_prints_what_the_local_one_does(
    filled: Path, library: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = [str(library / "sonata"), "--among", "score", "--top", "2"]
    with serving_process(filled) as server:
        remote = ["query", "--server", str(server.address), *query]
        here, there = (printed_json(capsys, *part, "--path", "--json") for part in (["query", filled, *query], remote))
        assert scorefind.main(["query", str(filled), *query]) == scorefind.main(remote) == 0
        local, served = capsys.readouterr().out.split("\nrank", 1)
        server.send(signal.SIGTERM)
        assert server.exit_code() == 0
    assert there["timings_ms"].keys() > here["timings_ms"].keys()
    del here["timings_ms"], there["timings_ms"]
    assert here == there
    assert local.strip() == f"rank{served}".strip()


def test_a_server_that_is_not_there_is_told(
    library: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("server.client.TRIES", 1)
    assert scorefind.main(["query", "--server", "./none", str(library / "etude.png")]) == 1
    assert "no server at none: No such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flag",
    ["--weights=w", "--config=c", "--neighbours=3", "--shortlist=5", "--jump-penalty=1", "--threads=2", "--speed=2"],
)
def test_what_the_server_decides_cannot_be_said_with_a_query_to_it(
    flag: str, library: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert scorefind.main(["query", "--server", "./none", str(library / "etude.png"), flag]) == 2
    assert f"{flag.partition('=')[0]} has no effect with --server" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ("query c p --token-file t", "--token-file has no effect without --server"),
        ("query c p --tls-ca cert.pem", "--tls-ca has no effect without --server"),
        ("query c p --path", "--path has no effect without --json"),
        ("query --server localhost p --path", "--path has no effect without --json"),
        ("serve c --tls-key key.pem", "--tls-key has no effect without --tls-cert"),
        ("serve c --public-url https://music.example", "--public-url has no effect without --http-port"),
        ("serve c --metrics-host 0.0.0.0", "--metrics-host has no effect without --metrics-port"),
        ("serve c --unix s --port 0", "--port has no effect with --unix"),
        ("serve c --unix s --host 127.0.0.1", "--host has no effect with --unix"),
    ],
)
def test_an_option_without_effect_is_wrong_usage(command: str, wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert scorefind.main(command.split()) == 2
    assert wrong in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("query --server h:1 c p", "unrecognized arguments: p; with --server, leave out COLLECTION\n"),
        ("segment c p --server h:1", "unrecognized arguments: p; with --server, leave out COLLECTION\n"),
        ("query --server h:1 p --wrong", "unrecognized arguments: --wrong\n"),
        ("query c p q", "unrecognized arguments: q\n"),
        ("info c --server h:1", "unrecognized arguments: --server h:1\n"),
    ],
)
def test_a_collection_beside_a_server_is_told_from_other_surplus(
    command: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert scorefind.main(command.split()) == 2
    assert capsys.readouterr().err.endswith(told)


@pytest.mark.parametrize(
    "command",
    [
        *("add c --jobs 3 -v p q", "add --jobs 3 c p -v q", "add c p q -v --jobs=3", "-v add c p --jobs 3 q"),
        "add -v --jobs 3 -- c p q",
    ],
)
def test_options_stand_anywhere_among_the_arguments(command: str) -> None:
    options = parsed(command.split())
    assert (options.command, options.collection, options.paths) == ("add", Path("c"), [Path("p"), Path("q")])
    assert (options.jobs, options.verbose) == (3, 1)


def test_a_name_that_begins_with_a_dash_follows_two_dashes() -> None:
    assert parsed(["add", "c", "--jobs", "1", "--", "-odd.pdf", "--x.pdf"]).paths == [Path("-odd.pdf"), Path("--x.pdf")]


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("7.25", 7.25), (".5", 0.5), ("0:30", 30), ("75:00", 4500), ("1:02:03.5", 3723.5)]
)
def test_a_time_is_seconds_or_a_clock_time(text: str, seconds: float) -> None:
    assert parsed(["query", "c", "p", "--start", text]).start == seconds
    assert parsed(["query", "c", "p", "--end", text]).end == seconds


@pytest.mark.parametrize("text", ["1:75", "1:60:00", "1:2:3:4", "x", "nan", "1:", "", "-3"])
def test_what_is_no_time_is_wrong_usage(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert scorefind.main(["query", "c", "p", f"--start={text}"]) == 2
    assert "argument --start: expected" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--port", "--http-port", "--metrics-port"])
def test_a_port_is_one_of_the_65536_that_there_are(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    for port in ("-1", "65536", "70000"):
        assert scorefind.main(["serve", "c", f"{flag}={port}"]) == 2
        assert f"argument {flag}: expected a port from 0 to 65535, got {port}" in capsys.readouterr().err
    assert scorefind.main(["serve", "c", f"{flag}=http"]) == 2
    assert f"argument {flag}: expected a whole number, got 'http'" in capsys.readouterr().err
    assert getattr(parsed(["serve", "c", flag, "65535"]), flag[2:].replace("-", "_")) == 65535


def test_the_port_of_a_cluster_is_one_of_the_65536_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    for address in ("auto", "10.0.0.1:6379", "[::1]:6379", "ray://head:10001"):
        assert parsed(["restart", "c", "--cluster", address]).cluster == address
    assert scorefind.main(["restart", "c", "--cluster", "10.0.0.1:70000"]) == 2
    assert "argument --cluster: expected a port from 0 to 65535, got 70000" in capsys.readouterr().err


def test_options_that_need_another_one_go_with_it() -> None:
    for command in (
        "query --server localhost p --token-file t --tls-ca cert.pem --path --json",
        "serve c --tls-key key.pem --tls-cert cert.pem --metrics-host 0.0.0.0 --metrics-port 0 --host h --port 0",
    ):
        assert parsed(command.split()).command in ("query", "serve")


def test_a_server_that_others_reach_needs_a_token(
    filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert scorefind.main(["serve", str(filled), "--host", "0.0.0.0"]) == 1
    assert "0.0.0.0:7700 can be reached from other machines: give a token" in capsys.readouterr().err
    (tmp_path / "token").write_text("\n")
    assert scorefind.main(["serve", str(filled), "--token-file", str(tmp_path / "token")]) == 1
    assert "expected a token in the first line, got nothing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("[server]\nworkers = 0", "server.workers: expected more than 0, got 0"),
        ("[server]\nbatch = 0", "server.batch: expected more than 0, got 0"),
        ("[server.limits]\nframe_bytes = -1", "server.limits.frame_bytes: expected more than 0, got -1"),
        ("[server.limits.query_media]\npages = 0", "server.limits.query_media.pages: expected more than 0, got 0"),
        ("[server.limits]\nwrong_token_s = -0.5", "server.limits.wrong_token_s: expected 0 or more, got -0.5"),
    ],
)
def test_a_server_does_not_start_with_a_setting_out_of_its_range(
    setting: str, told: str, filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "server.toml"
    config.write_text(setting)
    assert scorefind.main(["serve", str(filled), "--port", "0", "--config", str(config)]) == 1
    assert f"{config}: {told}" in capsys.readouterr().err


def test_doctor_tells_what_is_in_force(capsys: pytest.CaptureFixture[str]) -> None:
    facts = printed_json(capsys, "doctor", "--json")
    assert facts["network"]["confidence"].startswith("none")  # the calibration is of the shipped network
    assert facts["packages"]["numpy"][0].isdigit()
    assert facts["network"]["name"] == "fake"
    assert "GPUs" in facts["faiss"]


def test_train_hands_its_arguments_to_the_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[list[str]] = []

    def main(arguments: list[str]) -> int:
        handed.append(arguments)
        return 0

    monkeypatch.setattr("indexer.training.train.main", main)
    assert scorefind.main(["train", "small.toml", "--set", "training.steps=20", "--no-corpus"]) == 0
    assert handed == [["small.toml", "--set", "training.steps=20", "--no-corpus"]]


@pytest.mark.skipif(not DEFAULT_WEIGHTS.exists(), reason="no weights are shipped yet")
def test_the_shipped_network_embeds_and_finds(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()
    files = [library / name for name in ("etude.png", "waltz.png", "take_etude.flac")]
    assert scorefind.main(["add", str(tmp_path / "c"), *map(str, files)]) == 0
    result = printed_json(capsys, "query", tmp_path / "c", files[0], "--among", "score", "--json")
    assert result["matches"][0]["id"] == "etude"
    result = printed_json(capsys, "query", tmp_path / "c", files[2], "--json")
    assert [match["rank"] for match in result["matches"]] == [1, 2]
