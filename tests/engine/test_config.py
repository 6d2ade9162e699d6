import math
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.config import Alignment, SearchSettings, load, require_positive
from engine.errors import SettingsError


def settings_file(folder: Path, text: str) -> Path:
    path = folder / "scorefind.toml"
    path.write_text(text)
    return path


def test_without_file_and_flags_the_defaults_stay() -> None:
    assert load(SearchSettings(), section="search") == SearchSettings()


def test_a_file_overrides_defaults_and_a_flag_overrides_the_file(tmp_path: Path) -> None:
    path = settings_file(tmp_path, "[search]\nshortlist = 10\nneighbours = 5\n[search.alignment]\njump_penalty = inf\n")
    settings = load(SearchSettings(), section="search", path=path, flags={"shortlist": 20, "neighbours": None})
    assert (settings.shortlist, settings.neighbours) == (20, 5)
    assert settings.alignment.jump_penalty == math.inf
    assert settings.alignment.steps == SearchSettings().alignment.steps


def test_a_dotted_flag_reaches_nested_settings_and_leaves_their_neighbours() -> None:
    settings = load(
        SearchSettings(), section="search", flags={"alignment.steps": "classic", "alignment.jump_penalty": 3}
    )
    assert settings.alignment.steps == "classic"
    assert settings.alignment.jump_penalty == 3.0
    assert settings.alignment.bias_weight == Alignment().bias_weight


def test_jumps_cost_a_share_where_documents_are_ranked() -> None:
    settings = Alignment(jump_penalty=4.0, bias_weight=0.5)
    assert settings.ranking == Alignment(jump_penalty=1.5, bias_weight=0.5)
    assert Alignment(jump_penalty=math.inf).ranking.jump_penalty == math.inf


def test_other_sections_are_left_alone(tmp_path: Path) -> None:
    path = settings_file(tmp_path, "[server]\nport = 1\n")
    assert load(SearchSettings(), section="search", path=path) == SearchSettings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[serch]\nshortlist = 10\n", r"serch: no such table; expected some of search, server, corpus"),
        ("shortlist = 10\n", r"shortlist: no such table; expected some of search"),
        ("[search]\nshortlst = 10\n", r"search\.shortlst: no such setting; expected one of neighbours, shortlist"),
        ("[search]\nshortlist = 'ten'\n", r"search\.shortlist: expected int, got 'ten'"),
        ("[search]\nshortlist = true\n", r"search\.shortlist: expected int, got True"),
        (
            "[search.alignment]\nsteps = 'odd'\n",
            r"alignment\.steps: expected 'classic' or 'slope' or 'wide', got 'odd'",
        ),
        ("[search]\nshortlist = -5\n", r"scorefind\.toml: search\.shortlist: expected 0 or more, got -5"),
        ("[search]\nneighbours = 0\n", r"search\.neighbours: expected more than 0, got 0"),
        ("[search]\nthreads = -1\n", r"search\.threads: expected more than 0, got -1"),
        (
            "[search.alignment]\nrest_price = -1\n",
            r"scorefind\.toml: search\.alignment\.rest_price: expected 0 or more, got -1",
        ),
        ("[search.alignment]\njump_penalty = nan\n", r"search\.alignment\.jump_penalty: expected 0 or more, got nan"),
        (
            "[search.alignment]\nrest_price = 0.5\nwhole = true\n",
            r"search\.alignment\.rest_price: expected infinity for whole documents",
        ),
        ("search = 3\n", r"expected a table \[search\]"),
        ("search = [", "cannot be read as TOML"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place_and_what_was_expected(tmp_path: Path, text: str, message: str) -> None:
    path = settings_file(tmp_path, text)
    with pytest.raises(SettingsError, match=message):
        load(SearchSettings(), section="search", path=path)


def test_a_file_that_is_no_utf_8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes("# café\n[search]\n".encode("latin-1"))
    with pytest.raises(SettingsError, match=r"latin\.toml: cannot be read as TOML settings: .*utf-8"):
        load(SearchSettings(), section="search", path=tmp_path / "latin.toml")


def test_a_flag_out_of_its_range_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"flags\.alignment\.jump_penalty: expected 0 or more, got -1"):
        load(SearchSettings(), section="search", flags={"alignment.jump_penalty": -1})


def test_numbers_in_tuples_are_checked_and_truth_values_are_no_numbers() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Settings:
        sizes: tuple[int, ...] = (1,)
        seed: int = 0
        whole: bool = False

        def __post_init__(self) -> None:
            require_positive(self, or_zero=("seed",))

    assert Settings(sizes=()).sizes == ()
    with pytest.raises(ValueError, match=r"sizes: expected more than 0, got \(4, 0\)"):
        Settings(sizes=(4, 0))
    with pytest.raises(ValueError, match="seed: expected 0 or more, got -1"):
        Settings(seed=-1)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml"):
        load(SearchSettings(), section="search", path=tmp_path / "none.toml")
