"""Text in the cells of CSV files, escaped so that no spreadsheet reads it as a formula, and read back."""

from __future__ import annotations

import json
import re

# Where a spreadsheet begins a formula: at the start of a cell, and behind what another locale takes for a delimiter.
# The last four signs are full-width.
_BEFORE, _SIGN = r"(?:^|[,;|\t\r\n])[\s\"']*", r"[=+\-@\uff1d\uff0b\uff0d\uff20]"
_FORMULA = re.compile(f"({_BEFORE})(?={_SIGN})")
_ESCAPED = re.compile(f"({_BEFORE})'(?={_SIGN})")
_SKIPPED = re.compile("'*[\t\r]")  # spreadsheets skip these at the start of a cell, and read on
# JSON has a comma and a space before a negative number, which is no formula.
_INNER_FORMULA = re.compile(r"([,;|][\s\"']*)(?=[=+@\uff1d\uff0b\uff0d\uff20]|-(?!\d))")


def escaped(text: str) -> str:
    """Put an apostrophe before each sign that could begin a formula; `unescaped` removes them."""
    text = _FORMULA.sub(r"\1'", text)
    return "'" + text if _SKIPPED.match(text) else text


def unescaped(text: str) -> str:
    """The text of a cell that `escaped` wrote; text that needs no escape stays as it is."""
    text = text[1:] if text[:1] == "'" and _SKIPPED.match(text) else text
    return _ESCAPED.sub(r"\1", text)


def json_cell(value: object) -> str:
    """A value as JSON in a cell; strings in it are escaped too."""
    return _INNER_FORMULA.sub(r"\1'", json.dumps(value, ensure_ascii=False))
