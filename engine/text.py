"""Text of others, made safe to show."""


def printable(text: str, keep: str = "") -> str:
    """Returns the text with everything that is not printable as an escape, such as \\x1b.

    A title or a file name may hold codes that clear a terminal, turn lines around, or forge lines of a log.

    keep: characters that stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode() for char in text
    )
