"""The demo's report: one HTML file that needs no other file and no network."""

import html
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.alignment import choose as backend
from engine.alignment.definition import local_costs
from engine.audio import FRAME_RATE, read_audio, spectrogram
from engine.collection import Collection
from engine.config import Alignment
from engine.score import numbered_pages
from engine.search.searcher import Searcher
from engine.values import Document, Match, NetworkIdentity
from indexer.demo import page, pictures
from indexer.demo.queries import DemoQuery, DemoResult

SHOWN_SYSTEMS = 4
"""Largest number of systems that the picture of a query shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Numbers of the run for the head of the report."""

    pieces: int
    pages: int
    minutes: float
    """Length of all recordings, in minutes."""
    snippets: int
    network: str
    stages_s: Mapping[str, float]
    """Time of each stage of the demo, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A query to show, and its best matches with their places."""

    result: DemoResult
    matches: tuple[Match, ...]


def facts(collection: Collection, network: NetworkIdentity, pieces: int, stages_s: Mapping[str, float]) -> Facts:
    """The facts of a run whose documents are in `collection`."""
    return Facts(
        pieces=pieces,
        pages=sum(document.pages for document in collection.of_kind("score")),
        minutes=sum(document.duration_s for document in collection.of_kind("recording")) / 60,
        snippets=collection.snippets,
        network=f"{network.name} {network.hash[:12]}",
        stages_s=stages_s,
    )


def example(searcher: Searcher, result: DemoResult) -> Example:
    """The result's query with its three best matches, searched again because the timed search does not locate."""
    query = result.query
    matches = searcher.query(query.sequence, query.among, result.method, 3).matches
    return Example(result=result, matches=matches)


def choose(results: Sequence[DemoResult]) -> list[DemoResult]:
    """Results of `refine` to show: up to six found at rank 1, and the two failures with the worst ranks, if any.

    The found results are picked at even distances, so they are not the best.
    """
    aligned = [result for result in results if result.method == "refine"]
    shown = []
    for direction, (length, count) in itertools.product(("A2S", "S2A"), (("20 s", 2), ("whole", 1))):
        found = [
            result
            for result in aligned
            if (result.query.direction, result.query.length) == (direction, length) and result.rank == 1
        ]
        places = dict.fromkeys(len(found) * (2 * i + 1) // (2 * count) for i in range(count))
        shown += [found[place] for place in places if found]
    failed = [result for result in aligned if result.rank > 1]
    return shown + sorted(failed, key=lambda result: result.rank)[-2:]


def write(
    path: Path,
    table: Sequence[Mapping[str, Any]],
    examples: Sequence[Example],
    facts: Facts,
    collection: Collection,
    alignment: Alignment,
) -> None:
    """Writes the report to `path`."""
    stages = (f"<li><b>{seconds:.0f} s</b> {html.escape(what)}</li>" for what, seconds in facts.stages_s.items())
    path.write_text(
        page.PAGE.format(
            style=page.STYLE,
            pieces=facts.pieces,
            pages=facts.pages,
            minutes=f"{facts.minutes:.0f}",
            snippets=f"{facts.snippets:,}",
            network=html.escape(facts.network),
            rows="\n".join(_row(row) for row in table),
            stages="".join(stages),
            total=f"{sum(facts.stages_s.values()):.0f}",
            examples="\n".join(_example(example, collection, alignment) for example in examples),
        ),
        encoding="utf-8",
    )


def _row(row: Mapping[str, Any]) -> str:
    """A row of the table as HTML."""
    rank = "–" if row["MR"] is None else f"{row['MR']:g}"
    low, high = row["MRR 95%"]
    cells = [
        f'<td><span class="tag {row["direction"].lower()}">{row["direction"]}</span></td>',
        f"<td>{row['query']}</td><td>{row['method']}</td><td class=n>{row['n']}</td>",
        f"<td class=n>{row['R@1']:.2f}</td><td class=n>{row['R@10']:.2f}</td>",
        f"<td class=n><b>{row['MRR']:.2f}</b> <small>{low:.2f}–{high:.2f}</small></td>",
        f'<td class=bar><i style="width:{100 * row["MRR"]:.0f}%"></i></td>',
        f"<td class=n>{rank}</td><td class=n>{1000 * row['seconds']:.0f} ms</td>",
    ]
    return f'<tr class="{row["method"]}">{"".join(cells)}</tr>'


def _example(example: Example, collection: Collection, alignment: Alignment) -> str:
    """The HTML of an example: query, best matches, and the query's path through the right document."""
    result, query = example.result, example.result.query
    hit = result.rank == 1
    return page.EXAMPLE.format(
        verdict="hit" if hit else "miss",
        tag=query.direction.lower(),
        direction=query.direction,
        name=_name(query.document),
        part=_part(query),
        rank="found first" if hit else f"missed: rank {result.rank:g} of {len(collection.of_kind(query.among))}",
        query=_query_picture(query),
        found="pages" if query.among == "score" else "recordings",
        matches="".join(_match(match, query.truth) for match in example.matches),
        matrix=_matrix(result, collection, alignment),
        down=f"the query, a {query.document.kind}",
        across=f"the right {query.among}",
    )


def _name(document: Document) -> str:
    """Composer, title and work of a document, as HTML."""
    work = f" <small>{html.escape(document.work)}</small>" if document.work else ""
    return f"{html.escape(document.composer)}, <em>{html.escape(document.title)}</em>{work}"


def _part(query: DemoQuery) -> str:
    """The part of the document that the query is, in words."""
    if query.document.kind == "recording":
        if query.length == "whole":
            return f"the whole recording, {clock(query.end_s)}"
        return f"{clock(query.start_s)}–{clock(query.end_s)} of {clock(query.document.duration_s)}"
    count, total = len(query.systems), len(query.document.systems)
    pages = f"{query.document.pages} page{'s' if query.document.pages > 1 else ''}"
    if query.length == "whole":
        return f"the whole score, {total} systems on {pages}"
    first, last = query.systems[0].number, query.systems[-1].number
    which = f"system {first}" if count == 1 else f"systems {first}–{last}"
    return f"{which} of {total}"


def _query_picture(query: DemoQuery) -> str:
    """The query as SVG: the spectrogram of its part, or its first systems on their first page."""
    source = Path(query.document.source)
    if query.document.kind == "recording":
        bands = spectrogram(read_audio(source))
        return pictures.spectrogram(bands[:, int(query.start_s * FRAME_RATE) : int(query.end_s * FRAME_RATE)])
    number = query.systems[0].page
    systems = [system for system in query.systems[:SHOWN_SYSTEMS] if system.page == number]
    return pictures.crop(dict(numbered_pages(source))[number], systems)


def _match(match: Match, truth: str) -> str:
    """The HTML of a match: its picture, rank, name, place, cost and confidence."""
    right = match.document.id == truth
    tone = "right" if right else "wrong"
    picture = _matched_page(match, tone) if match.document.kind == "score" else _matched_span(match, tone)
    return page.MATCH.format(
        tone=tone,
        rank=match.rank,
        name=_name(match.document),
        where=_where(match),
        cost="" if match.cost is None else f"{match.cost:.3f}",
        confidence="" if match.confidence is None else f" · confidence {match.confidence:.2f}",
        picture=picture,
    )


def _where(match: Match) -> str:
    """The place of a match, in words."""
    place = match.place
    if place.start_s is not None and place.end_s is not None:
        return f"{clock(place.start_s)}–{clock(place.end_s)}"
    if not place.systems:
        return ""
    numbers = [system.number for system in place.systems]
    low, high = min(numbers), max(numbers)
    pages = sorted(set(place.pages))
    which = f"system {low}" if low == high else f"systems {low}–{high}"
    return f"p. {pages[0]}{f'–{pages[-1]}' if len(pages) > 1 else ''}, {which}"


def _matched_page(match: Match, tone: str) -> str:
    """The page with most of the matched systems as SVG, these systems boxed."""
    numbers = [system.page for system in match.place.systems] or [1]
    number = max(set(numbers), key=numbers.count)
    image = dict(numbered_pages(Path(match.document.source)))[number]
    # A match that jumps back runs through a system more than once.
    systems = {system.number: system for system in match.place.systems if system.page == number}
    return pictures.page(image, list(systems.values()), tone)


def _matched_span(match: Match, tone: str) -> str:
    """The spectrogram of the matched recording as SVG, the matched part boxed."""
    bands = spectrogram(read_audio(Path(match.document.source)))
    length = max(1e-3, match.document.duration_s)
    return pictures.span(bands, (match.place.start_s or 0.0) / length, (match.place.end_s or 0.0) / length, tone)


def _matrix(result: DemoResult, collection: Collection, alignment: Alignment) -> str:
    """The cost matrix of the query and the right document as SVG, with the cheapest path."""
    query, document = result.query.sequence.embeddings, collection.sequence(result.query.truth)
    costs = local_costs(query, document.embeddings, document.bias, alignment)
    path = backend("cpu").path(query, document.embeddings, document.bias, alignment)
    return pictures.cost_matrix(costs, path)


def clock(seconds: float) -> str:
    """The time as minutes and seconds, for example `1:05`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"
