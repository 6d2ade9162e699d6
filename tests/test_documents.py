"""Documents say what the code does: links resolve, commands parse, and the modules and operations named exist."""

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from engine.config import SearchSettings, load
from scorefind_options import parsed
from server import errors, messages

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
ARCHITECTURE = ROOT / "ARCHITECTURE.md"
PROTOCOL = ROOT / "docs" / "protocol.md"
LOGS = {"LOG.md", "CHANGELOG.md"}
"""What these say of commands was true when it was written."""
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "bench/*.md", "indexer/**/*.md", "engine/**/*.md")
    for path in ROOT.glob(pattern)
)
CURRENT = [path for path in DOCUMENTS if path.name not in LOGS]

CLIENTS_OWN = {"address", "connection_lost"}
"""Codes that no reply has: the client raises these errors itself."""

MOST_LINES = 150
MOST_WORDS = 2200


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path) -> list[str]:
    """The indented code blocks of a document, without their indent."""
    found = re.findall(r"(?:^ {4}.*\n(?:\n(?= {4}))*)+", path.read_text(), re.MULTILINE)
    return [re.sub(r"^ {4}", "", block, flags=re.MULTILINE) for block in found]


def slugs(path: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(path: Path) -> Iterator[list[str]]:
    """The arguments of each `scorefind` command in a document's code blocks; comments and output are left out."""
    for block in blocks(path):
        for line in block.splitlines():
            for command in line.removeprefix("$ ").partition(" #")[0].split("&&"):
                words = shlex.split(command, posix=True)
                if words and words[0].removeprefix(".venv/bin/") == "scorefind":
                    yield words[1:]


def programs(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The module and the flags of each `python -m MODULE ...` in a document, for modules of this repository."""
    for command in re.findall(r"`python -m ([^`]+)`", path.read_text()):
        module, *words = command.split()
        if module.partition(".")[0] in ("bench", "indexer"):
            yield module, [word.partition("=")[0] for word in words if word.startswith("--")]


def tables(path: Path) -> dict[Path, set[Path]]:
    """What the tables under each heading `... (`folder/`)` name in their first column, by folder.

    Programs of `bench` are named without `.py`.
    """
    found: dict[Path, set[Path]] = {}
    folder = ROOT
    for line in path.read_text().splitlines():
        if heading := re.match(r"#+ .*\(`(.+)/`\)$", line):
            folder = ROOT / heading[1]
        elif line.startswith("| `"):
            names = re.findall(r"`([^`]+)`", line.split("|")[1])
            suffix = ".py" if folder == ROOT / "bench" else ""
            found.setdefault(folder, set()).update(folder / (name if "." in name else name + suffix) for name in names)
    return found


def test_the_readme_is_read_in_ten_minutes() -> None:
    text = README.read_text()
    assert len(text.splitlines()) <= MOST_LINES
    assert len(text.split()) <= MOST_WORDS


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file) if file else path
        assert target.exists(), link
        assert not anchor or anchor in slugs(target), link


def test_commands_in_the_readme_are_commands() -> None:
    found = list(commands(README))
    assert {words[0] for words in found} >= {"add", "query", "info", "remove", "check", "build", "serve", "train"}
    for words in found:
        parsed(words)


@pytest.mark.parametrize("path", CURRENT, ids=named)
def test_flags_are_flags_of_some_program(path: Path) -> None:
    """In running text, where the command that they belong to is not said."""
    sources = [ROOT / "scorefind_options.py", *(ROOT / "indexer").rglob("*.py"), *(ROOT / "bench").rglob("*.py")]
    known = set(re.findall(r'"(--[a-z][a-z-]*)"', "\n".join(source.read_text() for source in sources)))
    known |= {"--help", "--strict", "--no-deps"}
    told = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", "\n".join(re.findall(r"`[^`\n]+`", path.read_text()))))
    assert told <= known


@pytest.mark.parametrize("path", CURRENT, ids=named)
def test_programs_exist_and_take_these_flags(path: Path) -> None:
    shared = "\n".join(
        file.read_text() for file in [ROOT / "bench" / "report.py", *(ROOT / "bench").glob("lib/*.py")] if file.exists()
    )
    for module, flags in programs(path):
        file = ROOT / f"{module.replace('.', '/')}.py"
        assert file.exists(), module
        text = file.read_text() + shared
        assert [flag for flag in flags if f'"{flag}"' not in text] == [], module


def test_python_in_the_readme_imports_what_there_is() -> None:
    examples = [block for block in blocks(README) if block.startswith(("import ", "from "))]
    assert len(examples) >= 2
    for example in examples:
        tree = ast.parse(example)
        names: dict[str, ModuleType] = {}
        for statement in tree.body:
            if isinstance(statement, ast.Import):
                names |= {alias.name: importlib.import_module(alias.name) for alias in statement.names}
            elif isinstance(statement, ast.ImportFrom):
                module = importlib.import_module(str(statement.module))
                assert all(hasattr(module, alias.name) for alias in statement.names), statement.module
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names:
                assert hasattr(names[node.value.id], node.attr), f"{node.value.id}.{node.attr}"


def test_settings_in_the_readme_are_settings(tmp_path: Path) -> None:
    (settings,) = (block for block in blocks(README) if block.startswith("[search]"))
    file = tmp_path / "settings.toml"
    file.write_text(settings)
    assert load(SearchSettings(), section="search", path=file) != SearchSettings()


def test_modules_that_the_architecture_names_exist() -> None:
    told = [path for paths in tables(ARCHITECTURE).values() for path in sorted(paths)]
    assert len(told) > 50
    assert [named(path) for path in told if not path.exists()] == []


def test_the_architecture_names_every_module() -> None:
    """Or its folder, if that has no table of its own."""
    found = tables(ARCHITECTURE)
    told = set().union(*found.values())
    files = [file for package in ("engine", "indexer", "server") for file in (ROOT / package).rglob("*.py")]
    files += [file for file in (ROOT / "bench").glob("*.py") if "__main__" in file.read_text()]
    untold = [
        named(file)
        for file in sorted(files)
        if not file.name.startswith("__")
        and file not in told
        and not any(folder in told and folder not in found for folder in file.parents)
    ]
    assert untold == []


def test_the_protocol_names_every_operation_and_code() -> None:
    text = PROTOCOL.read_text()
    rows = set(re.findall(r"^\| `([a-z.]+)` \|", text.partition("| op |")[2].partition("Error codes")[0], re.MULTILINE))
    assert rows == set(messages._BODIES)
    codes = re.search(r"^Error codes: (.+)$", text, re.MULTILINE)
    assert codes is not None
    assert set(re.findall(r"`([a-z_]+)`", codes[1])) == set(errors.BY_CODE) - CLIENTS_OWN


def test_each_promise_has_its_test() -> None:
    section = ARCHITECTURE.read_text().partition("## What is promised")[2].partition("\n## ")[0]
    promises = re.findall(r"^\| .+ \| `([\w/]+\.py)(?:::(\w+))?` \|$", section, re.MULTILINE)
    assert len(promises) >= 24
    for file, name in promises:
        text = (ROOT / "tests" / file).read_text()
        assert f"def {name}(" in text if name else "def test_" in text
