"""Skipped tests: with `--strict-skips`, a run fails if a test is skipped for another reason than those listed here."""

import re
from collections.abc import Iterator

import pytest

ALLOWED = (
    r"FAISS finds no GPU",
    r"CuPy cannot be imported|CuPy \S+ finds no GPU",
    r"torch finds no CUDA device",
    r"neither NVRTC nor nvcc is installed",
    r"the package for [\w, ]+ is not installed \(extra `peers`\)",
    r"the validator [\w-]+ is not installed \(extra `standards`\)",
    r"the package ray is not installed \(extra `cluster`\)",
    r"LilyPond is not installed",
    r"the ffmpeg program is not installed",
    r"this kernel has no Landlock",
    r"Chromium is not (installed|on the PATH)",
    r"the package playwright is not installed",
    r"Mirador is not installed",
    r"[Nn]ode(\.js)? is not (installed|on the PATH)",
)
"""Regular expressions: a GPU, packages of rivals, validators, Ray, LilyPond, ffmpeg, Chromium, Mirador, Node.js and
Landlock may be absent."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--strict-skips", action="store_true", help="fail if a test is skipped for an unknown reason")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if list(_unknown(session.config)) and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for reason in _unknown(config):
        terminalreporter.write_line(f"FAILED: a skip that tests/skips.py does not allow: {reason}", red=True)


def _unknown(config: pytest.Config) -> Iterator[str]:
    """Yields where and why tests were skipped, if they may not be."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if not config.getoption("strict_skips") or reporter is None:
        return
    for report in reporter.stats.get("skipped", []):
        path, line, reason = report.longrepr
        if not any(re.search(allowed, reason) for allowed in ALLOWED):
            yield f"{path}:{line}: {reason}"
