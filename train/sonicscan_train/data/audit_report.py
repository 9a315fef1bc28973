"""An audit as a table for people, JSON for programs, and a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sonicscan.files import write_whole
from sonicscan.text import printable
from sonicscan_train.data.audit import Audit, Balance
from sonicscan_train.data.baselines import Baseline
from sonicscan_train.pictures import draw_baselines

_MOST_SOURCES = 40


def print_audit(result: Audit, console: Console) -> None:
    """The tables, and what was found, on `console`."""
    _print_baselines("measured in the files", result.measured, result.limit, console)
    if result.declared:
        _print_baselines("columns of the manifest (not an input of a model)", result.declared, result.limit, console)
    for title, rows in (("labels", result.labels), ("parts", result.parts), ("sources", result.sources)):
        _print_balance(title, rows, console)
    if result.skipped:
        console.print(f"{len(result.skipped)} files could not be read", markup=False, highlight=False)
    for note in result.notes:
        console.print(f"note: {printable(note)}", markup=False, highlight=False, soft_wrap=True)
    for finding in result.findings:
        console.print(f"FOUND: {printable(finding)}", markup=False, highlight=False, soft_wrap=True)
    verdict = "passed" if result.passed else f"failed: {len(result.findings)} finding{'s' * (len(result.findings) > 1)}"
    console.print(f"audit of {result.clips} files: {verdict}", markup=False, highlight=False)


def _print_baselines(title: str, rows: Sequence[Baseline], limit: float, console: Console) -> None:
    table = Table("one feature alone", "AUC", "95% interval", "accuracy", "", title=title, title_justify="left")
    for row in rows:
        table.add_row(
            printable(row.feature),
            f"{row.auc:.3f}",
            f"{row.low:.2f} to {row.high:.2f}",
            f"{row.accuracy:.3f}",
            "separates" if row.separates(limit) else "",
        )
    console.print(table)


def _print_balance(title: str, rows: Sequence[Balance], console: Console) -> None:
    table = Table(title, "clips", "groups", "labels")
    for row in rows[:_MOST_SOURCES]:
        labels = ", ".join(f"{label} {n}" for label, n in sorted(row.labels.items()))
        table.add_row(printable(row.name), str(row.clips), str(row.groups), printable(labels))
    console.print(table)
    if len(rows) > _MOST_SOURCES:
        console.print(f"and {len(rows) - _MOST_SOURCES} smaller {title}", markup=False, highlight=False)


def write_audit(result: Audit, folder: Path) -> None:
    """`audit.json` and `audit.png` in `folder`."""
    write_whole(folder / "audit.json", json.dumps(result.to_dict(), indent=1) + "\n")
    _draw(result, folder / "audit.png")


def _draw(result: Audit, path: Path) -> None:
    rows = [*result.measured, *result.declared]
    names = [row.feature for row in result.measured] + [f"{row.feature} (manifest)" for row in result.declared]
    bars = [(row.auc, row.low, row.high, row.separates(result.limit)) for row in rows]
    draw_baselines(dict(zip(names, bars, strict=True)), result.limit, path)
