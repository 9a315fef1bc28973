"""Text that is safe to print."""

from __future__ import annotations


def harmless(text: str) -> str:
    """A message, on one line and harmless to a terminal: as `printable`, but backslashes stay."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def printable(text: str) -> str:
    """`text` on one line and harmless to a terminal or a tab-separated table.

    Backslashes, control, format (bidirectional and invisible) and unassigned characters are
    escaped; `codecs.decode(..., "unicode_escape")` understands the result.
    """
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode("ascii") for c in text)
