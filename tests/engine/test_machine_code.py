"""Machine code stays in the user's cache, and nothing stays beside the modules."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numba
import pytest

from engine.machine_code import kept


@pytest.fixture
def doubled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], int]:
    """A function of a module in a folder of its own; the user's cache is beside this folder."""
    (tmp_path / "package").mkdir()
    module = tmp_path / "package" / "doubling.py"
    module.write_text("def doubled(number):\n    return 2 * number\n")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    spec = importlib.util.spec_from_file_location("doubling", module)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    function: Callable[[int], int] = loaded.doubled
    return function


def files(folder: Path) -> list[str]:
    """The suffixes of all files of machine code below a folder."""
    return sorted({path.suffix for path in folder.rglob("*.nb?")})


def test_machine_code_stays_in_the_cache_of_the_user(
    doubled: Callable[[int], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    assert kept(nogil=True)(doubled)(21) == 42
    assert files(tmp_path / "cache" / "scorefind") == [".nbc", ".nbi"]
    assert files(tmp_path / "package") == []
    assert vars(numba.config)["CACHE_DIR"] == ""


def test_machine_code_stays_where_the_user_wants_it(
    doubled: Callable[[int], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "wanted"))
    assert kept()(doubled)(21) == 42
    assert files(tmp_path / "wanted") == [".nbc", ".nbi"]
    assert files(tmp_path / "cache") == []


def test_without_a_cache_of_the_user_numba_finds_another_place(
    doubled: Callable[[int], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    (tmp_path / "cache").write_text("no folder")
    assert kept()(doubled)(21) == 42
