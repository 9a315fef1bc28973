"""Text that is safe to print, the first line of a message, and ISRCs as they are compared."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable


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


def shell_line(words: Iterable[str]) -> str:
    """A command for a shell, as printable text without two spaces in a row.

    A word with other characters, or with bytes that are not UTF-8, is quoted as in $'a\\377'. POSIX specifies that
    since 2024; bash, zsh and ksh read it.
    """
    return " ".join(map(_shell_word, words))


def _shell_word(text: str) -> str:
    if text.isprintable() and "  " not in text:
        return shlex.quote(text)
    return "$'" + "".join(c if c.isprintable() and c not in " '\\" else _octal(c) for c in text) + "'"


def _octal(character: str) -> str:
    return "".join(f"\\{byte:03o}" for byte in os.fsencode(character))


def bare_isrc(text: str) -> str:
    """An ISRC as it is compared: without hyphens and spaces, in upper case."""
    return text.replace("-", "").replace(" ", "").upper()


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, at most 300 characters and without a final stop; else its type."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300].rstrip(".")
