"""Whoever installs the extra `cpu` alone has no package of the others: adding, asking and serving work without them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from media import write_page, write_recording

ROOT = Path(__file__).parent.parent
OTHERS = (
    *("torch", "onnx", "onnxscript", "scipy", "music21", "matplotlib", "librosa"),
    *("verovio", "resvg_py", "mido", "midirenderer", "pretty_midi"),
    *("starlette", "uvicorn", "websockets", "python_multipart", "playwright", "iiif_prezi3", "jams"),
)
"""Modules of other extras than `cpu`."""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of processes that cannot import what only other extras have."""
    for name in OTHERS:
        (tmp_path / "blocked" / name).mkdir(parents=True)
        (tmp_path / "blocked" / name / "__init__.py").write_text(
            f"raise ModuleNotFoundError(\"No module named '{name}'\", name='{name}')\n"
        )
    return os.environ | {"PYTHONPATH": f"{tmp_path / 'blocked'}{os.pathsep}{ROOT}"}


def test_a_score_and_a_recording_are_added_and_found_without_torch(tmp_path: Path, environment: dict[str, str]) -> None:
    def scorefind(*words: object) -> str:
        command = [sys.executable, "-m", "scorefind", *map(str, words)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    take, sheet, collection = (
        write_recording(tmp_path / "take.flac", 0),
        write_page(tmp_path / "sheet.png", 1),
        "music.sf",
    )
    assert scorefind("add", collection, take, sheet, "--jobs", 1).startswith("2 added")
    assert " sheet " in scorefind("query", collection, take)
    assert " take " in scorefind("query", collection, sheet)
    assert "p. 1" in scorefind("align", sheet, take)
    assert "ONNX Runtime" in scorefind("doctor")


def test_the_server_needs_no_other_extra(environment: dict[str, str]) -> None:
    command = [sys.executable, "-c", "import server.server, server.client, server.decoding"]
    subprocess.run(command, env=environment, check=True)


def test_training_without_torch_says_what_is_missing(tmp_path: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "scorefind", "train", "any.toml"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert "No module named 'torch'; `scorefind doctor` lists missing packages" in done.stderr
