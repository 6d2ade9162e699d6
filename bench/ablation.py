"""What was each part of the training worth? One small network a row, trained with one thing changed.

    python -m bench.ablation --data DIR [--rows NAME ...] [--set TABLE.NAME=VALUE ...] [--quick] [--json FILE]

Each row is a training of indexer/training/ablation.toml with a few settings changed. The table names these settings;
`scorefind train indexer/training/ablation.toml --set ...` trains one row alone. A row that changes the corpus makes its
own corpus from the same training pieces, and is validated on the common corpus. A row whose weights exist is measured
without training.

Rows are measured as in bench.embedding, on validation sets only: unseen synthetic pieces and, if they are in DIR, real
scans with synthetic performances. A change that is worth little to a small network on few pieces may be worth more to
a large network.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import embedding
from bench.lib import pairs, passages, report
from bench.lib.pairs import Pairs
from engine import process
from engine.arguments import positive
from engine.config import Bands, FrontEnd
from engine.embedding.encoder import Encoder
from indexer.training import corpus, material
from indexer.training.configuration import Configuration, load_configuration
from indexer.training.corpus_settings import CorpusSettings
from indexer.training.train import train

CONFIG = Path(corpus.__file__).with_name("ablation.toml")

ROWS: dict[str, tuple[str, ...]] = {
    "as it is": (),
    "pages as engraved": ("corpus.page_damage=0.0",),
    "sound as synthesised": ("corpus.sound_damage=0.0",),
    "played by a machine": ("corpus.freedom=0.0",),
    "one SoundFont": ("corpus.instruments=",),
    "no recorded rooms": ("corpus.responses=", "corpus.noises="),
    "one recording a piece": ("corpus.recordings=1",),
    "two prints, four recordings": ("corpus.prints=2", "corpus.recordings=4"),
    "in two keys": ("corpus.keys=2",),
    "published bands": ("front_end.bands=published",),
    "nearly linear": ("front_end.compression=1.0",),
    "published front end": ("front_end.bands=published", "front_end.compression=1.0"),
    "stronger compression": ("front_end.compression=300.0",),
    "tempo as performed": ("augmentation.tempo=0.0",),
    "no light augmentation": tuple(
        f"augmentation.{name}=0" for name in ("shift_px", "contrast", "tempo", "equalisation", "noise")
    ),
    "ranking loss": ("training.loss=ranking",),
    "near-duplicates as negatives": ("training.mask_near_duplicates=false",),
    "no hard negatives": ("training.onsets_a_piece=1",),
    "2.1 s excerpts": ("front_end.excerpt_frames=42",),
    "no attention": ("architecture.attention=false",),
    "gain as recorded": ("front_end.gain=none",),
    "twice the channels": ("architecture.channels=[32, 64, 128, 256]",),
}

QUICK = ("corpus.train_pieces=4", "corpus.val_pieces=4", "training.steps=10", "training.validation_pairs=250")
QUICK_ROWS = ("as it is", "ranking loss")


def main(arguments: Sequence[str] | None = None) -> None:
    process.prepare()
    options = _options(arguments)
    environment = report.environment()
    print(report.heading(environment))
    common = (f"corpus.data={options.data}", *(QUICK if options.quick else ()), *options.set)
    held: dict[Bands, dict[str, Pairs]] = {}
    rows: list[dict[str, Any]] = []
    shared = configure("as it is", common).corpus
    for name in options.rows or (QUICK_ROWS if options.quick else ROWS):
        configuration = configure(name, common)
        weights, bands = trained(configuration, shared, options.jobs), configuration.front_end.bands
        if bands not in held:
            held[bands] = validation(options, shared, bands)
        found = [embedding.rows_of(Encoder.load(weights, threads=1), kind, cut) for kind, cut in held[bands].items()]
        rows.append(_row(name, [row for of_set in found for row in of_set]))
        print(report.table([report.with_intervals(rows[-1])]), flush=True)
    print("", report.table([report.with_intervals(row) for row in rows]), sep="\n")
    if options.json:
        report.save(options.json, environment=environment, common=common, rows=rows)


def configure(name: str, common: Sequence[str]) -> Configuration:
    """The training of a row, with its own run folder and, if the row changes the corpus, its own corpus folder."""
    configuration = load_configuration(CONFIG, [*common, *ROWS[name]])
    slug = name.replace(" ", "-")
    training = replace(configuration.training, name=slug, run=configuration.training.run / slug)
    made = configuration.corpus
    if any(setting.startswith("corpus.") for setting in ROWS[name]):
        made = replace(made, folder=made.folder.with_name(f"{made.folder.name}-{slug}"))
    return replace(configuration, training=training, corpus=made)


def trained(configuration: Configuration, shared: CorpusSettings, jobs: int) -> Path:
    """The weights file of a training, which runs unless the file exists. Its validation takes are those of `shared`."""
    weights = configuration.training.run / f"{configuration.training.name}.safetensors"
    if not weights.exists():
        folder = configuration.corpus.folder
        if folder != shared.folder:
            corpus.make(replace(shared, train_pieces=0), configuration.front_end, jobs)
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / "val").exists():
                (folder / "val").symlink_to((shared.folder / "val").resolve(), target_is_directory=True)
            corpus.make(replace(configuration.corpus, val_pieces=0), configuration.front_end, jobs)
        else:
            corpus.make(configuration.corpus, configuration.front_end, jobs)
        train(configuration)
    return weights


def validation(options: argparse.Namespace, shared: CorpusSettings, bands: Bands) -> dict[str, Pairs]:
    """The pairs that all rows are measured on: the validation pieces of the common corpus, and Joplin's scans."""
    count = embedding.QUICK_PAIRS if options.quick else embedding.PAIRS
    window = FrontEnd(bands=bands)
    sets = {"synthetic": [embedding.taken(take) for take in material.takes(shared.folder / "val", bands)]}
    if passages.present(options.data, "joplin"):
        every = 8 if options.quick else 1
        sets["joplin"], _ = passages.materials(options.data, "joplin", window, options.work, every)
    return {
        name: pairs.cut(materials, pairs.pick(materials, window, count), window) for name, materials in sets.items()
    }


def _row(name: str, measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The table row of a training: MRR of each set and direction, with intervals."""
    row: dict[str, Any] = {"row": name}
    for figures in measured:
        column = f"{figures['set']} {figures['direction']} MRR"
        row |= {"n": figures["n"], column: figures["MRR"], f"{column} 95%": figures["MRR 95%"]}
    return row | {"settings": " ".join(ROWS[name])}


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the unpacked data sets")
    parser.add_argument("--rows", nargs="+", choices=ROWS, help="rows to train and measure (default: all)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="TABLE.NAME=VALUE", help="setting that is changed in every row"
    )
    parser.add_argument("--jobs", type=positive, default=2, help="processes that make a corpus")
    parser.add_argument("--quick", action="store_true", help="two rows of ten steps on four pieces")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/embedding"), help="folder that keeps strips and spectrograms"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
