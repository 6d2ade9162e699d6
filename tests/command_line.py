"""The command line, called in the process of a test."""

import json
from typing import Any

import pytest

import scorefind


def printed_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """What a command that succeeds prints, which has to be one JSON object and nothing else."""
    capsys.readouterr()
    assert scorefind.main([str(argument) for argument in arguments]) == 0
    result = json.loads(capsys.readouterr().out)
    assert isinstance(result, dict)
    return result
