"""Score file -> page images -> systems -> one strip -> snippets.

A module a stage: `pages` (file -> page images), then `ink`, `lines`, `courses`, `staves` and `systems`, which
`detection` runs one after the other (page image -> systems), then `strips` (systems -> strip -> snippets).
"""

from engine.score.detection import Explanation, explain, find_systems
from engine.score.pages import Grey, normalise_grey, read_pages
from engine.score.rejection import Rejection
from engine.score.strips import Score, cut_strip, read_score, score_of, snippets, straight_course, strip_scale
from engine.score.systems import FoundSystem, SystemCourse

__all__ = [
    "Explanation",
    "FoundSystem",
    "Grey",
    "Rejection",
    "Score",
    "SystemCourse",
    "cut_strip",
    "explain",
    "find_systems",
    "normalise_grey",
    "read_pages",
    "read_score",
    "score_of",
    "snippets",
    "straight_course",
    "strip_scale",
]
