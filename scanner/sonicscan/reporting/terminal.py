"""Figures and rows as text on a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sonicscan.console import printable
from sonicscan.results import FileResult

_STYLES = {"flagged": "bold red", "review": "yellow", "clear": "green"}


def safe(text: str | None, style: str = "") -> Text:
    """Text from a file: escaped, and never read as rich's markup."""
    return Text("-" if text is None else printable(text), style=style, overflow="fold")


def plain_table(*columns: str, numbers: tuple[str, ...] = ()) -> Table:
    """A table with light lines; the columns in `numbers` are flush right."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left")
    return table


def print_rows(rows: Iterable[FileResult]) -> None:
    """The plain table: score, verdict, status, path."""
    table = plain_table("score", "verdict", "status", "path", numbers=("score",))
    for row in rows:
        table.add_row(
            "-" if row.score is None else f"{row.score:.4f}",
            Text(row.verdict or "-", style=_STYLES.get(row.verdict or "", "")),
            safe(row.status, "" if row.status == "ok" else "magenta"),
            safe(row.path),
        )
    Console().print(table)
