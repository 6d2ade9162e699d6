"""Imports flow one way: server -> indexer -> engine; heavy libraries stay where they are needed."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = {"engine", "indexer", "server", "bench", "scorefind"}
MAY_IMPORT = {"engine": {"engine"}, "indexer": {"engine", "indexer"}, "server": {"engine", "indexer", "server"}}
TORCH = ("engine/network.py", "engine/published.py", "engine/projection.py", "engine/encoder.py", "indexer/training/")
FILES = [path for package in MAY_IMPORT for path in sorted((ROOT / package).rglob("*.py"))]


def imports(node: ast.AST, at_import_time: bool = True) -> Iterator[tuple[str, bool]]:
    """Each imported top-level name below `node`, and whether importing the module imports it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name.split(".")[0], at_import_time) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield (child.module or "").split(".")[0], at_import_time
        inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from imports(child, at_import_time and not inside)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_its_place_allows(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    found = set(imports(ast.parse(path.read_text())))
    names = {module for module, _ in found}
    assert names & OURS <= MAY_IMPORT[name.split("/")[0]]
    assert "torch" not in names or name.startswith(TORCH)
    assert ("librosa", True) not in found
