"""One name means one thing: a class that others can import has a name of its own in the whole tree."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent
SHARED = {"Encoder"}
"""The protocol in engine/embedding/documents.py, and the class with the network that fulfils it."""


def test_no_two_public_classes_have_the_same_name() -> None:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for package in ("engine", "indexer", "server", "bench"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    found[node.name].append(path.relative_to(ROOT).as_posix())
    assert {name: paths for name, paths in found.items() if len(paths) > 1 and name not in SHARED} == {}
