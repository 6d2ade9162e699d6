"""Types of the arguments of the programs that train."""

import argparse


def positive(text: str) -> int:
    """Returns the number in an argument. Raises ArgumentTypeError if it is not a whole number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, got {text!r}")
    return int(text)
