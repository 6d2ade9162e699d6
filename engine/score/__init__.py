"""From a score file to snippets: file -> page images -> systems -> one strip -> snippets.

Each stage is a module. `pages` reads the page images of a file, by way of `pdf`, `images` and `tiff`. `layout` turns a
page image until it is upright and level, and divides it if it shows several pages; it asks `grain`, `clefs` and
`sheets`. `detection` finds the systems of an upright page; it runs `ink`, `lines`, `courses`, `staves` and `systems`
one after the other. `strips` cuts the systems into one strip, and the strip into snippets.
"""

from engine.score.detection import Explanation, compile_kernels, explain, find_systems
from engine.score.layout import PlacedSystem, placed_systems
from engine.score.levels import Grey, normalise_grey
from engine.score.pages import PageAddress, numbered_pages, page_addresses, pages_at, read_pages
from engine.score.rejection import Rejection
from engine.score.strips import (
    BLOCK,
    Score,
    ScorePart,
    SnippetBlock,
    cut_snippets,
    cut_strip,
    joined,
    part_of,
    places,
    read_score,
    score_of,
    snippet_blocks,
    snippet_count,
    snippets,
    straight_course,
    strip_scale,
    windows,
)
from engine.score.systems import FoundSystem, SystemCourse

__all__ = [
    "BLOCK",
    "Explanation",
    "FoundSystem",
    "Grey",
    "PageAddress",
    "PlacedSystem",
    "Rejection",
    "Score",
    "ScorePart",
    "SnippetBlock",
    "SystemCourse",
    "compile_kernels",
    "cut_snippets",
    "cut_strip",
    "explain",
    "find_systems",
    "joined",
    "normalise_grey",
    "numbered_pages",
    "page_addresses",
    "pages_at",
    "part_of",
    "placed_systems",
    "places",
    "read_pages",
    "read_score",
    "score_of",
    "snippet_blocks",
    "snippet_count",
    "snippets",
    "straight_course",
    "strip_scale",
    "windows",
]
