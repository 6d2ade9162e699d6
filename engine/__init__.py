"""Finds the sheet music of a recording, and the recordings of a page: everything that a query needs.

    import engine

    with engine.open("music.sf") as finder:
        for match in finder.query("take.flac").matches:
            print(match.rank, match.document.title, match.confidence, match.place.pages)

`finder.query_samples` and `finder.query_pages` take arrays; `finder.add` and `finder.remove` change the collection.
Importing this package loads none of its modules and no library. Each name below is loaded on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.collection import Collection, CollectionWriter
    from engine.config import Alignment, SearchSettings
    from engine.errors import EngineError
    from engine.finder import Engine, Finder, open
    from engine.search.searcher import Query, Searcher
    from engine.values import Answer, Document, Match, Place, Plan

__version__ = "0.1.0"

__all__ = [
    "Alignment",
    "Answer",
    "Collection",
    "CollectionWriter",
    "Document",
    "Engine",
    "EngineError",
    "Finder",
    "Match",
    "Place",
    "Plan",
    "Query",
    "SearchSettings",
    "Searcher",
    "__version__",
    "open",
]

_MODULES = {
    "collection": ("Collection", "CollectionWriter"),
    "config": ("Alignment", "SearchSettings"),
    "errors": ("EngineError",),
    "finder": ("Engine", "Finder", "open"),
    "search.searcher": ("Query", "Searcher"),
    "values": ("Answer", "Document", "Match", "Place", "Plan"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Loads a public name from its module when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Lists the public names, including those that are not loaded yet."""
    return sorted({*globals(), *__all__})
