"""Text that is safe to print, and the first line of a message."""

from __future__ import annotations


def harmless(text: str) -> str:
    """Escape a message like `printable`, but keep its backslashes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def printable(text: str) -> str:
    """Escape `text` so that it is one line and safe for a terminal or a tab-separated table.

    Escapes backslashes, and control, format (bidirectional and invisible) and unassigned characters.
    `codecs.decode(..., "unicode_escape")` reads the result.
    """
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode("ascii") for c in text)


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, at most 300 characters and without a final stop; else its type."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300].rstrip(".")
