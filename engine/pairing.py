"""A score and a recording of the same music, aligned as wholes: their time map, and their measures.

The recording runs through the score, wherever it begins and ends, with the jumps that a search allows. No collection is
needed, so there is no confidence: nothing tells how cheap other music is.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from engine.alignment import Backend
from engine.config import Alignment
from engine.embedding import documents
from engine.embedding.documents import Encoder, Medium
from engine.errors import MediaError
from engine.measures import PlayedMeasure, PrintedMeasure, played_measures, printed_measures
from engine.score import Score
from engine.search.answers import clock
from engine.search.location import Ruler
from engine.timemap import TimeMap, time_map
from engine.values import Document, Packed, SnippetSequence

DOUBTFUL_COST = 0.5
"""Cost above which a whole recording and a score are probably not the same music. Of 16 recordings of rags and 46
scores, the right pairs cost 0.43 at most, and the wrong ones 0.55 at least, with the snippets of a collection."""


FINER = 2
"""How many times as close snippets and excerpts lie where files are aligned. On four rags 2 % more of the time is in
the right measure. A jump costs as much more, since a second of music has more snippets: at its old price one rag had
jumps that nobody played."""


class FinerEncoder:
    """An encoder whose snippets and excerpts lie closer together than in a collection."""

    def __init__(self, encoder: Encoder) -> None:
        front_end = encoder.identity.front_end
        finer = replace(
            front_end,
            snippet_hop_px=front_end.snippet_hop_px // FINER,
            excerpt_hop_frames=front_end.excerpt_hop_frames // FINER,
        )
        self.identity = replace(encoder.identity, front_end=finer)
        self.device = encoder.device
        self.score, self.recording, self.bias = encoder.score, encoder.recording, encoder.bias


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedDocument:
    """A document with its snippets."""

    document: Document
    sequence: SnippetSequence


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignedPair:
    """A score and a recording with the time map between them."""

    score: Document
    recording: Document
    cost: float
    """Cost of the alignment for each snippet of the recording; lower is better."""
    time_map: TimeMap
    measures: tuple[PrintedMeasure, ...]
    """The measures of the score; empty if the pages were not read."""
    played: tuple[PlayedMeasure, ...]
    """The measures as the recording plays them; empty if there are no `measures`."""

    @property
    def is_doubtful(self) -> bool:
        """Returns whether the two are probably not the same music."""
        return self.cost > DOUBTFUL_COST

    def as_dict(self) -> dict[str, Any]:
        """Returns the pair as a map of plain values, as docs/protocol.md describes it."""
        return {
            "score": self.score.source,
            "recording": self.recording.source,
            "cost": round(self.cost, 4),
            "doubtful": self.is_doubtful,
            "duration_s": round(self.recording.duration_s, 3),
            "time_map": self.time_map.as_list(),
            "measures": [
                {
                    "measure": one.measure.number,
                    "page": one.measure.system.page,
                    "system": one.measure.system.number,
                    "x0": round(one.measure.x0, 5),
                    "x1": round(one.measure.x1, 5),
                    "start_s": round(one.start_s, 3),
                    "end_s": round(one.end_s, 3),
                }
                for one in self.played
            ],
        }

    def table(self) -> str:
        """Returns the systems and measures in the order of the recording, one line a stretch, for people."""
        lines = []
        for stretch in self.time_map.stretches:
            start_s, end_s = stretch.seconds[0], stretch.seconds[-1]
            numbers = [
                one.measure.number
                for one in self.played
                if one.measure.system == stretch.system and start_s <= one.start_s < end_s
            ]
            measures = f", measures {numbers[0]}-{numbers[-1]}" if numbers else ""
            back = "  (jump)" if stretch.jump else ""
            lines.append(
                f"{clock(start_s)}-{clock(end_s)}  p. {stretch.system.page}, system {stretch.system.number}"
                f"{measures}{back}"
            )
        return "\n".join(lines)


def align_files(score: Path, recording: Path, encoder: Encoder, backend: Backend, settings: Alignment) -> AlignedPair:
    """Returns the pair of a score file, or a folder of page images, and a recording.

    Snippets are `FINER` times as close as in a collection.

    Raises MediaError if one of them cannot be read, or the recording cannot be aligned with the score.
    """
    encoder, settings = FinerEncoder(encoder), replace(settings, jump_penalty=FINER * settings.jump_penalty)
    front_end = encoder.identity.front_end
    seen, heard = documents.read(score, "score", front_end), documents.read(recording, "recording", front_end)
    documents.warn_of_unread(score)
    of_score, of_recording = documents.sequences([seen, heard], encoder)
    measures = printed_measures(seen) if isinstance(seen, Score) else ()
    return align(
        _embedded(score, seen, of_score), _embedded(recording, heard, of_recording), backend, settings, measures
    )


def _embedded(path: Path, medium: Medium, sequence: SnippetSequence) -> EmbeddedDocument:
    """Returns the document in a file, with its snippets."""
    name = documents.name_of(path)
    document = Document(id=name, kind=sequence.kind, title=name, source=documents.source_of(path))
    return EmbeddedDocument(document=documents.described(document, medium, sequence), sequence=sequence)


def align(
    score: EmbeddedDocument,
    recording: EmbeddedDocument,
    backend: Backend,
    settings: Alignment,
    measures: tuple[PrintedMeasure, ...] = (),
) -> AlignedPair:
    """Returns the pair of two documents. measures: those of the score, if its pages were read.

    Raises MediaError if no path leads through the score, because one of them is too short.
    """
    seen, heard = score.sequence, recording.sequence
    offsets = np.array([0, len(seen)], np.int64)
    packed = Packed(embeddings=seen.embeddings, bias=seen.bias, offsets=offsets)
    cost = float(backend.align(heard.embeddings, packed, settings).costs[0])
    path = backend.path(heard.embeddings, seen.embeddings, seen.bias, settings)
    if len(path) == 0:
        raise MediaError(recording.document.source, "cannot be aligned with the score: one of both is too short")
    mapped = time_map(path, Ruler.of(heard), Ruler.of(seen, score.document.systems))
    return AlignedPair(
        score=score.document,
        recording=recording.document,
        cost=cost,
        time_map=mapped,
        measures=measures,
        played=played_measures(mapped, measures) if measures else (),
    )
