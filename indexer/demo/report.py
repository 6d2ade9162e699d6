"""The demo's report: one HTML file that needs nothing else."""

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
from engine.score import read_pages
from engine.values import Document, Match
from indexer.demo import page, pictures
from indexer.demo.queries import DemoQuery, DemoResult

SHOWN_MATCHES = 3
SHOWN_SYSTEMS = 4
"""Of a query, from its first on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the report says about the run."""

    pieces: int
    pages: int
    minutes: float
    """Of music."""
    snippets: int
    network: str
    stages_s: Mapping[str, float]
    """What was done, and how long it took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A query to show, and its best matches with where they lie."""

    asked: DemoResult
    matches: tuple[Match, ...]


def choose(answers: Sequence[DemoResult]) -> list[DemoResult]:
    """A handful to show, of those that were aligned: some that were found, and the two furthest off if any failed.

    What was found is taken from the middle of the answers' order, not the best of them.
    """
    aligned = [asked for asked in answers if asked.method == "refine"]
    shown = []
    for direction, (length, count) in itertools.product(("A2S", "S2A"), (("20 s", 2), ("whole", 1))):
        found = [
            asked
            for asked in aligned
            if (asked.query.direction, asked.query.length) == (direction, length) and asked.rank == 1
        ]
        places = dict.fromkeys(len(found) * (2 * i + 1) // (2 * count) for i in range(count))
        shown += [found[place] for place in places if found]
    failed = [asked for asked in aligned if asked.rank > 1]
    return shown + sorted(failed, key=lambda asked: asked.rank)[-2:]


def write(
    path: Path,
    table: Sequence[Mapping[str, Any]],
    examples: Sequence[Example],
    facts: Facts,
    collection: Collection,
    alignment: Alignment,
) -> None:
    """Writes the report."""
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
    """Query, best matches, and how the query runs through the document that was to be found."""
    asked, query = example.asked, example.asked.query
    hit = asked.rank == 1
    return page.EXAMPLE.format(
        verdict="hit" if hit else "miss",
        tag=query.direction.lower(),
        direction=query.direction,
        name=_name(query.document),
        part=_part(query),
        rank="found first" if hit else f"missed: rank {asked.rank:g} of {len(collection.of_kind(query.among))}",
        query=_query_picture(query),
        found="pages" if query.among == "score" else "recordings",
        matches="".join(_match(match, query.truth) for match in example.matches),
        matrix=_matrix(asked, collection, alignment),
        down=f"the query, a {query.document.kind}",
        across=f"the {query.among} that was to be found",
    )


def _name(document: Document) -> str:
    work = f" <small>{html.escape(document.work)}</small>" if document.work else ""
    return f"{html.escape(document.composer)}, <em>{html.escape(document.title)}</em>{work}"


def _part(query: DemoQuery) -> str:
    if query.document.kind == "recording":
        what = f"{clock(query.start_s)}–{clock(query.end_s)} of {clock(query.document.duration_s)}"
        return f"the whole recording, {clock(query.end_s)}" if query.length == "whole" else what
    count, total = len(query.systems), len(query.document.systems)
    pages = f"{query.document.pages} page{'s' if query.document.pages > 1 else ''}"
    if query.length == "whole":
        return f"the whole score, {total} systems on {pages}"
    numbers = [query.systems[0].number, query.systems[-1].number]
    which = f"system {numbers[0]}" if count == 1 else f"systems {numbers[0]}–{numbers[1]}"
    return f"{which} of {total}"


def _query_picture(query: DemoQuery) -> str:
    source = Path(query.document.source)
    if query.document.kind == "recording":
        bands = spectrogram(read_audio(source))
        return pictures.spectrogram(bands[:, int(query.start_s * FRAME_RATE) : int(query.end_s * FRAME_RATE)])
    number = query.systems[0].page
    systems = [system for system in query.systems[:SHOWN_SYSTEMS] if system.page == number]
    return pictures.crop(list(read_pages(source))[number - 1], systems)


def _match(match: Match, truth: str) -> str:
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
    """The page that holds most of the matched systems."""
    numbers = [system.page for system in match.place.systems] or [1]
    number = max(set(numbers), key=numbers.count)
    image = list(read_pages(Path(match.document.source)))[number - 1]
    # A match that jumps back runs through a system more than once.
    systems = {system.number: system for system in match.place.systems if system.page == number}
    return pictures.page(image, list(systems.values()), tone)


def _matched_span(match: Match, tone: str) -> str:
    bands = spectrogram(read_audio(Path(match.document.source)))
    length = max(1e-3, match.document.duration_s)
    return pictures.span(bands, (match.place.start_s or 0.0) / length, (match.place.end_s or 0.0) / length, tone)


def _matrix(asked: DemoResult, collection: Collection, alignment: Alignment) -> str:
    query, document = asked.query.sequence.embeddings, collection.sequence(asked.query.truth)
    costs = local_costs(query, document.embeddings, document.bias, alignment)
    path = backend("cpu").path(query, document.embeddings, document.bias, alignment)
    return pictures.cost_matrix(costs, path)


def clock(seconds: float) -> str:
    """Minutes and seconds, `1:05`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"
