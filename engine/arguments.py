"""Types of the arguments of programs."""

import argparse


def whole(text: str) -> int:
    """Returns the number in an argument. Raises ArgumentTypeError if it is no whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text[:20]!r}") from None


def positive(text: str) -> int:
    """Returns the number in an argument. Raises ArgumentTypeError if the number is below 1."""
    value = whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {value}")
    return value
