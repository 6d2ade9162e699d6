"""The report on the installation names every distribution that pyproject.toml asks for."""

import re
import tomllib
from pathlib import Path

from engine import doctor

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS_OF_DEVELOPERS = {"peers", "standards", "dev"}
OF_FAISS = {"faiss-cpu", "faiss-gpu"}
"""Distributions of one module; the report has a line of its own for them."""
OLDER_CUDA = {"cupy-cuda12x"}
"""Distributions that no extra asks for, and that work."""


def names(requirements: list[str]) -> set[str]:
    """Returns the distributions that requirements name, without other extras of this project."""
    return {re.split(r"[\[<>=]", one)[0] for one in requirements} - {"scorefind"}


def test_all_required_distributions_are_reported() -> None:
    assert set(doctor.REQUIRED) == names(PROJECT["dependencies"])


def test_all_distributions_of_the_extras_are_reported() -> None:
    extras = PROJECT["optional-dependencies"].items()
    asked_for = set().union(*(names(some) for extra, some in extras if extra not in EXTRAS_OF_DEVELOPERS))
    assert set(doctor.OPTIONAL) - OLDER_CUDA == asked_for - OF_FAISS
