"""Importing the engine leaves a process as it is; `prepare` sets what programs want."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SWITCHES = """
import faiss
from PIL import Image
def switches(): return Image.MAX_IMAGE_PIXELS, faiss.cvar.distance_compute_blas_threshold
before = switches()
import engine.collection, engine.embedding.documents, engine.embedding.encoder, engine.search
engine.embedding.encoder.Encoder.load()
"""


def run(code: str) -> str:
    """What it prints, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("code", "printed"),
    [
        ("print(switches() == before)", "True"),
        ("from engine import process; process.prepare(); print(switches())", "(None, 2)"),
        ("from engine import process; process.prepare(searches=False); print(switches()[1:] == before[1:])", "True"),
    ],
    ids=["a library alone", "a program that searches", "a worker"],
)
def test_the_switches_of_a_process_are_set_by_its_program_alone(code: str, printed: str) -> None:
    assert run(SWITCHES + code) == printed


def test_a_worker_that_only_reads_imports_neither_faiss_nor_torch() -> None:
    code = "import sys; from engine import process; process.prepare(searches=False); "
    assert run(code + "print({'faiss', 'torch'} & sys.modules.keys())") == "set()"


def test_the_environment_of_the_user_wins_over_one_thread_each() -> None:
    code = "import os; os.environ['OMP_NUM_THREADS'] = '3'; os.environ.pop('MKL_NUM_THREADS', None); "
    code += "from engine import process; process.one_thread_each(); "
    assert run(code + "print(os.environ['OMP_NUM_THREADS'], os.environ['MKL_NUM_THREADS'])") == "3 1"
