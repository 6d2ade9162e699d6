"""Score file -> page images -> systems -> one strip -> snippets: what the rest of the project reads scores with."""

from engine.score.pages import normalise_grey, read_pages
from engine.score.strips import Score, cut_strip, read_score, score_of, snippets, straight_course, strip_scale
from engine.score.systems import Course, FoundSystem, find_systems

__all__ = [
    "Course",
    "FoundSystem",
    "Score",
    "cut_strip",
    "find_systems",
    "normalise_grey",
    "read_pages",
    "read_score",
    "score_of",
    "snippets",
    "straight_course",
    "strip_scale",
]
