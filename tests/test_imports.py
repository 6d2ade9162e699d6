"""Imports flow one way: indexer and server, which do not know each other, use engine; programs use all of them.

Heavy libraries are imported only where they are needed.
"""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("engine", "indexer", "server", "cluster", "bench")
MAY_IMPORT = {
    "engine": {"engine"},
    "indexer": {"engine", "indexer"},
    "server": {"engine", "server"},
    "cluster": {"cluster", "engine"},
    "bench": {*PACKAGES},
    "scorefind.py": {"cluster", "engine", "indexer", "server", "scorefind_options", "scorefind_segment"},
    "scorefind_options.py": {"engine", "server"},
    "scorefind_segment.py": {"engine", "server"},
}
TORCH = (
    "engine/embedding/network.py",
    "engine/embedding/projection.py",
    "engine/embedding/published.py",
    "engine/embedding/torch_network.py",
    "indexer/training/",
    "bench/",
)
RAY = (
    "cluster/bulk.py",
    "cluster/group.py",
    "cluster/inspection.py",
    "cluster/machines.py",
    "cluster/storage.py",
    "bench/",
)
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))] + [
    ROOT / "scorefind.py",
    ROOT / "scorefind_options.py",
    ROOT / "scorefind_segment.py",
]


def imports(node: ast.AST, at_import_time: bool = True) -> Iterator[tuple[str, bool]]:
    """Each dotted name that is imported below `node`, and whether importing the module imports it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name, at_import_time) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.module is not None
            assert child.level == 0
            yield from ((f"{child.module}.{alias.name}", at_import_time) for alias in child.names)
        inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or _is_for_types(child)
        yield from imports(child, at_import_time and not inside)


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_its_place_allows(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    found = {(module.split(".")[0], at_import_time) for module, at_import_time in imports(ast.parse(path.read_text()))}
    names = {module for module, _ in found}
    assert names & {*PACKAGES, "scorefind", "scorefind_options", "scorefind_segment"} <= MAY_IMPORT[name.split("/")[0]]
    assert "torch" not in names or name.startswith(TORCH)
    assert "ray" not in names or name.startswith(RAY)
    assert ("librosa", True) not in found or name.startswith("bench/")


@pytest.mark.parametrize("path", sorted((ROOT / "bench/lib").glob("*.py")), ids=lambda path: path.name)
def test_what_benches_share_imports_none_of_them(path: Path) -> None:
    names = [name for name, _ in imports(ast.parse(path.read_text())) if name.startswith("bench.")]
    assert [name for name in names if not name.startswith("bench.lib")] == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    modules = {module_name(path): ast.parse(path.read_text()) for path in FILES}

    def module_of(name: str) -> str:
        """The module that a dotted name lies in, or is; empty for the names of others."""
        return name if name in modules or not name else module_of(name.rpartition(".")[0])

    graph = {
        name: {module_of(other) for other, at_import_time in imports(tree) if at_import_time} - {""}
        for name, tree in modules.items()
    }
    TopologicalSorter(graph).prepare()
