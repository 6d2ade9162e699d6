"""The demo: makes scans and recordings of real pieces, adds them to a collection, searches each, and writes a report.

DIR/scores/ID.pdf           scan-like pages
DIR/recordings/ID.flac|mp3  expressive performances, synthesised
DIR/manifest.csv            their ids, titles, composers and works, as `scorefind add --manifest` reads them
DIR/collection/             the collection
DIR/results.json            the table
DIR/report.html             the table, and some queries with pictures
"""

import functools
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.stopwatch import Stopwatch
from indexer.demo.pieces import PIECES, DemoError, DemoPiece
from indexer.demo.pieces import corpus as installed_corpus

if TYPE_CHECKING:
    from indexer.demo.files import Files
    from indexer.ingest import LoadEncoder

logger = logging.getLogger(__name__)

Say = Callable[[str], None]
"""Shows a line of progress to the user."""


def run(
    out: Path,
    *,
    jobs: int = 2,
    pieces: Sequence[DemoPiece] = PIECES,
    corpus: Path | None = None,
    load_encoder: "LoadEncoder | None" = None,
    say: Say = print,
) -> list[dict[str, Any]]:
    """The rows of the results, after all files are written to `out`; scores and recordings that exist are kept.

    corpus: the folder with the pieces; music21's by default.
    load_encoder: loads the network; the shipped one by default.
    Raises DemoError if a package that the demo needs is missing, and the errors of `indexer.ingest.add`.
    """
    try:
        from indexer.demo.files import make, write_manifest
    except ImportError as exc:
        raise DemoError(f"the demo needs more packages ({exc}): pip install 'scorefind[demo]'") from exc
    if load_encoder is None:
        from engine.embedding.encoder import Encoder

        load_encoder = functools.partial(Encoder.load, None, threads=1)
    corpus = corpus or installed_corpus()
    stages = _Stages(say)
    with stages("making scans and recordings", f"Making {len(pieces)} pieces: PDF scans and recordings in {out}"):
        made = make(pieces, corpus, out, jobs=jobs)
        write_manifest(out / "manifest.csv", made)
    with stages("adding them", f"Adding {2 * len(made)} files to {out / 'collection'}"):
        _add(out, load_encoder, jobs)
    table = _query(out, made, load_encoder, jobs, stages)
    say(f"\n{_text(table)}\n\nresults {out / 'results.json'}\nreport  {(out / 'report.html').resolve().as_uri()}")
    return table


class _Stages:
    """Announces each stage, measures its time, and reports the time at its end."""

    def __init__(self, say: Say) -> None:
        self._stopwatch = Stopwatch()
        self._say = say

    @property
    def seconds(self) -> dict[str, float]:
        """Time of each stage that has ended."""
        return {name: took_ms / 1000 for name, took_ms in self._stopwatch.times_ms.items()}

    @contextmanager
    def __call__(self, name: str, announcement: str) -> Iterator[None]:
        """Measures the body of a `with` statement as the stage `name`."""
        self._say(announcement)
        with self._stopwatch(name):
            yield
        self._say(f"  {self.seconds[name]:.1f} s")


def _add(out: Path, load_encoder: "LoadEncoder", jobs: int) -> None:
    """Adds the files of the manifest to the collection; rebuilds a collection that another network embedded."""
    from engine.errors import NetworkMismatchError
    from indexer.ingest import add
    from indexer.sources import discover

    sources = discover((), None, out / "manifest.csv").sources
    try:
        summary = add(out / "collection", sources, load_encoder, jobs=jobs)
    except NetworkMismatchError:
        logger.info("%s was embedded by another network; it is removed and built again", out / "collection")
        shutil.rmtree(out / "collection")
        summary = add(out / "collection", sources, load_encoder, jobs=jobs)
    for path, cause in summary.failed.items():
        logger.warning("%s was not added: %s", path, cause)


def _query(
    out: Path, made: "Sequence[Files]", load_encoder: "LoadEncoder", jobs: int, stages: _Stages
) -> list[dict[str, Any]]:
    """The rows of the results, after they and the report are written."""
    from engine.collection import Collection
    from engine.config import SearchSettings
    from engine.finder import Engine, Finder
    from indexer.demo import queries, report

    encoder = load_encoder()
    engine = Engine.load(settings=SearchSettings(threads=jobs), encoder=encoder)
    with Finder(out / "collection", engine) as finder, Collection.open(out / "collection") as collection:
        searcher = finder.searcher
        with stages("cutting fragments", "Cutting fragments of about 20 seconds"):
            cut = queries.queries(collection, made, encoder)
        if not cut:
            raise DemoError(f"{out / 'collection'} has no piece with both a score and a recording")
        for query in cut[:4]:  # one of each kind and length, untimed: compiles the kernels and loads the indexes
            queries.search(searcher, query, "refine")
        with stages("searching", f"Searching {len(cut)} queries, each with {' and '.join(queries.METHODS)}"):
            results = [queries.search(searcher, query, method) for query in cut for method in queries.METHODS]
        table = queries.rows(results)
        (out / "results.json").write_text(json.dumps({"rows": table}, indent=1) + "\n", encoding="utf-8")
        with stages("drawing", "Drawing the report"):
            examples = [report.example(searcher, result) for result in report.choose(results)]
            facts = report.facts(collection, encoder.identity, len(made), stages.seconds)
            report.write(out / "report.html", table, examples, facts, collection, engine.settings.alignment)
    return table


def _text(table: Sequence[dict[str, Any]]) -> str:
    """The table of the results as text."""
    lines = ["direction  query  method    n   R@1  R@10   MRR     MR  seconds"]
    for row in table:
        rank = "-" if row["MR"] is None else f"{row['MR']:.1f}"
        lines.append(
            f"{row['direction']:9}  {row['query']:5}  {row['method']:6}  {row['n']:3}  {row['R@1']:.2f}"
            f"  {row['R@10']:.2f}  {row['MRR']:.2f}  {rank:>5}  {row['seconds']:7.4f}"
        )
    return "\n".join(lines)
