import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from bench import embedding
from bench.lib import pairs
from engine.config import FrontEnd
from fake_encoder import FakeEncoder
from indexer.training.material import Print, Rendition, Take, save
from small_scores import write_kern


def take(piece: str, seed: int) -> Take:
    """Noise seen and heard, of 40 onsets."""
    rng = np.random.default_rng(seed)
    return Take(
        piece=piece,
        quarters=np.arange(40.0),
        strip=rng.integers(0, 256, (88, 900), dtype=np.uint8),
        columns=np.linspace(100, 800, 40).astype(np.float32),
        spectrogram=rng.random((92, 500), dtype=np.float32),
        frames=np.linspace(50, 450, 40).astype(np.float32),
    )


def test_a_network_has_a_row_a_direction_with_intervals() -> None:
    window = FakeEncoder.identity.front_end
    materials = [embedding.taken(take(name, seed)) for seed, name in enumerate("abc")]
    cut = pairs.cut(materials, pairs.pick(materials, window, 60), window)
    rows = embedding.rows_of(FakeEncoder(), "synthetic", cut)
    name = "fake 00000000"
    assert [(row["network"], row["direction"], row["n"]) for row in rows] == [(name, "A2S", 60), (name, "S2A", 60)]
    assert {"R@1", "R@5", "R@25", "MRR", "MRR 95%", "MR", "near R@1", "near MRR"} <= rows[0].keys()
    assert rows[0]["near MRR"] >= rows[0]["MRR"]


def test_the_bench_measures_the_takes_it_is_given_and_says_what_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = take("a", 0)
    printed = Print(piece="a", quarters=made.quarters, strip=made.strip, columns=made.columns)
    played = Rendition(
        piece="a",
        beat_quarter=made.quarters,
        beat_frame=made.frames,
        published=np.random.default_rng(1).integers(0, 256, (92, 500), np.uint8),
        quarter_tone=np.empty((184, 0), np.uint8),
    )
    save(printed, tmp_path / "corpus" / "val" / "prints" / "a.0.npz")
    save(played, tmp_path / "corpus" / "val" / "recordings" / "a.0.npz")
    folders = {name: str(tmp_path / name) for name in ("data", "corpus", "work")}
    options = [part for name, folder in folders.items() for part in (f"--{name}", folder)]
    embedding.main([*options, "--json", str(tmp_path / "out.json")])
    assert "joplin: its data is not in" in capsys.readouterr().out
    out = json.loads((tmp_path / "out.json").read_text())
    assert out["sets"]["synthetic"]["pairs"] == 40
    assert {row["set"] for row in out["rows"]} == {"synthetic"}


def test_without_a_corpus_validation_takes_are_made_and_no_others(tmp_path: Path) -> None:
    data, work = tmp_path / "data", tmp_path / "work"
    for name in ("train_lieder_piano", "train_polish_kern", "train_mutopia_ly"):
        (data / name).mkdir(parents=True)
        (data / name / "manifest.csv").write_text("id,path\n")
    (data / "train_polish_kern" / "manifest.csv").write_text("id,path\none,one.krn\ntwo,two.krn\n")
    (data / "splits.csv").write_text("id,split\none,train\ntwo,val\n")
    for seed, name in enumerate(("one", "two")):
        write_kern(data / f"{name}.krn", seed, bars=24)
    options = argparse.Namespace(data=data, corpus=tmp_path / "absent", work=work, quick=False)
    materials, _ = embedding.SETS["synthetic"](options, FrontEnd())
    assert [made.piece for made in materials] == ["two"]
    assert [path.name for path in (work / "corpus").iterdir()] == ["val"]


def test_the_speed_of_a_network_is_told_for_both_kinds() -> None:
    row = embedding.speed(FakeEncoder())
    assert row["network"] == "fake 00000000"
    assert row["snippets/s"] > 0
    assert row["excerpts/s"] > 0
