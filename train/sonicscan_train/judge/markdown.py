"""Figures and tables in Markdown, for the card and the evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sonicscan.text import printable


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table, an empty line before it."""
    return ["", line(header), line(["---"] * len(header)), *map(line, rows)]


def line(cells: Sequence[str]) -> str:
    """A row of a table; the cells may hold names from files."""
    return "| " + " | ".join(printable(cell).replace("|", "\\|") for cell in cells) + " |"


def share(value: float | None) -> str:
    """A share in percent; empty for None."""
    return "" if value is None else f"{value:.1%}"


def interval(figure: Mapping[str, float | None], digits: int = 3) -> str:
    """A figure of `metrics.quality_with_intervals` with its 95% interval; `none` where there is no figure."""
    value, low, high = figure["value"], figure["low"], figure["high"]
    if value is None:
        return "none"
    within = "" if low is None or high is None else f" ({low:.{digits}f} to {high:.{digits}f})"
    return f"{value:.{digits}f}{within}"
