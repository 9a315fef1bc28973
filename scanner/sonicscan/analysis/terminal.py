"""Figures and rows as text on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sonicscan.analysis.declarations import declaration_sentences
from sonicscan.analysis.diff import Change, Difference
from sonicscan.analysis.groups import Group
from sonicscan.analysis.listening import ListenedEstimates
from sonicscan.analysis.sentences import findings, listened
from sonicscan.analysis.statistics import Estimate
from sonicscan.analysis.summary import Summary
from sonicscan.analysis.suppliers import SupplierCounts
from sonicscan.analysis.trend import Month
from sonicscan.analysis.words import LIMITS, percent
from sonicscan.provenance.words import described
from sonicscan.report.row import FileResult
from sonicscan.text import printable

_UNWRAPPED = 100_000  # columns
_STYLES = {"flagged": "bold red", "review": "yellow", "clear": "green"}


def safe(text: str | None, style: str = "") -> Text:
    """Text from a file: escaped, and never read as rich's markup."""
    return Text("-" if text is None else printable(text), style=style, overflow="fold")


def _table(*columns: str, numbers: Sequence[str] = ()) -> Table:
    """A table without lines; the columns in `numbers` are flush right."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left")
    return table


def _verdict(verdict: str | None) -> Text:
    return safe(verdict or None, style=_STYLES.get(verdict or "", ""))


def _score(score: float | None) -> str:
    return "-" if score is None else f"{score:.4f}"


def print_rows(rows: Iterable[FileResult]) -> None:
    """The plain table: score, verdict, status, path; and what files declare, where one does."""
    rows = list(rows)
    declared = {row.path: described(row.provenance) for row in rows}
    shown = any(declared.values())
    table = _table("score", "verdict", "status", "path", *(("origin",) if shown else ()), numbers=("score",))
    for row in rows:
        status = safe(row.status, "" if row.status == "ok" else "magenta")
        origin = (safe(declared[row.path] or ""),) if shown else ()
        table.add_row(_score(row.score), _verdict(row.verdict), status, safe(row.path), *origin)
    Console().print(table)


def print_summary(summary: Summary, top: int) -> None:
    """Print all figures; at most `top` folders and artists."""
    console = Console(highlight=False)
    console.print(safe(summary.report, "bold"), "·", safe(summary.model), "·", safe(summary.finished or "no date"))
    console.print(f"{summary.tracks:,} tracks, {summary.assessed:,} assessed, {summary.hours:,.1f} hours of sound\n")
    _print_counts(console, summary)
    for sentence in findings(summary):
        console.print(safe(sentence))
    console.print()
    print_declarations(console, summary)
    _print_reviewed(console, summary)
    _print_groups(console, "folder", summary.folders, top)
    if len(summary.artists) > 1:
        _print_groups(console, "artist", summary.artists, top)
    table = _table("status", "tracks", "not assessed", "first reason", numbers=("tracks", "not assessed"))
    for status, found in summary.statuses.items():
        table.add_row(safe(status), f"{found.tracks:,}", f"{found.not_assessed:,}", safe(found.reason))
    console.print(table, "")
    console.print(safe(LIMITS[0] + " " + LIMITS[2], "dim"))


def print_declarations(console: Console, summary: Summary) -> None:
    """Print declarations of tracks about their own origin, and suppliers' declarations."""
    if summary.declarations is not None:
        for sentence in declaration_sentences(summary.declarations):
            console.print(safe(sentence))
        found = summary.declarations
        if found.generated:
            table = _table("declared", "flagged", "not flagged", numbers=("flagged", "not flagged"))
            table.add_row("generated", f"{found.generated_flagged:,}", f"{found.generated_unflagged:,}")
            table.add_row("not generated", f"{found.silent_flagged:,}", f"{found.silent_unflagged:,}")
            console.print(table)
        console.print()
    if summary.supplier is not None:
        _print_supplier(console, summary.supplier)


def _print_supplier(console: Console, supplier: SupplierCounts) -> None:
    numbers = ("tracks", "AI found", "not found")
    table = _table("supplier declared", *numbers, numbers=numbers)
    for value, agreement in supplier.table.items():
        table.add_row(value, f"{agreement.tracks:,}", f"{agreement.found:,}", f"{agreement.not_found:,}")
    table.add_row("(nothing)", f"{supplier.undeclared:,}", "", "")
    console.print(table)
    if supplier.unmatched:
        console.print(f"{supplier.unmatched:,} declarations name no track of the report.")
    for title, mismatches in (
        ("declared to be without AI, but AI was found", supplier.hidden),
        ("declared to be by AI, but no AI was found", supplier.unconfirmed),
    ):
        console.print(f"{len(mismatches):,} {title}", style="bold")
        for mismatch in mismatches:
            console.print("  ", safe(f"{'+'.join(mismatch.declared)}: {mismatch.found}:"), safe(mismatch.path))
    console.print()


def _print_counts(console: Console, summary: Summary) -> None:
    table = _table("verdict", "tracks", "share", numbers=("tracks", "share"))
    judged = sum(summary.verdicts.values())
    for verdict, n in summary.verdicts.items() if judged else ():
        table.add_row(_verdict(verdict), f"{n:,}", percent(n / summary.assessed) if summary.assessed else "-")
    unjudged = summary.assessed - judged
    if unjudged:
        table.add_row("no verdict", f"{unjudged:,}", percent(unjudged / summary.assessed))
    if summary.tracks > summary.assessed:
        table.add_row(Text("not assessed", style="magenta"), f"{summary.tracks - summary.assessed:,}", "")
    console.print(table, "")


def _print_reviewed(console: Console, summary: Summary) -> None:
    counts = summary.reviewed
    if counts is None:
        return
    decided = ", ".join(f"{n:,} {kind}" for kind, n in counts.decided.items() if n) or "none"
    lapsed = ", ".join(f"{n:,} {reason}" for reason, n in counts.lapsed.items())
    console.print(
        f"Reviewed: {decided}. Still open: {counts.open_flagged:,} flagged, {counts.open_review:,} review."
        + (f" Decisions that no longer hold: {lapsed}." if lapsed else "")
    )
    if counts.unmatched:
        named = ", ".join(printable(name) for name in counts.unmatched[:3])
        more = f" and {len(counts.unmatched) - 3:,} more" if len(counts.unmatched) > 3 else ""
        console.print(
            safe(f"{len(counts.unmatched):,} decisions are about tracks that the report does not have: {named}{more}.")
        )
    console.print()


def _print_groups(console: Console, title: str, groups: Sequence[Group], top: int) -> None:
    numbers = ("tracks", "assessed", "flagged", "review", "share flagged", "e-value", "error at most")
    table = _table(title, *numbers, numbers=numbers)
    for group in groups[:top]:
        share = percent(group.share.value) if group.share else "-"
        counts = (group.tracks, group.assessed, group.flagged, group.review)
        e_value = "-" if group.e_value is None else f"{group.e_value:.2f}"
        error = "-" if group.error is None or group.error >= 1.0 else percent(group.error)
        style = "bold red" if group.reported else ""
        table.add_row(safe(group.name, style), *(f"{n:,}" for n in counts), share, e_value, error)
    console.print(table)
    if len(groups) > top:
        console.print(f"... and {len(groups) - top:,} more", style="dim")
    console.print()


def print_groups(
    groups: Sequence[Group],
    by: str,
    fdr: float,
    top: int,
    reservations: Iterable[str] = (),
    partial: Iterable[str] = (),
) -> None:
    """Print the groups of `summary --by`, and what their e-values mean.

    `reservations` say why e-values prove nothing, and `partial` what the report lacks of its library, in sentences.
    """
    console = Console(highlight=False)
    _print_notes(console, partial)
    _print_groups(console, by, groups, top)
    n = sum(group.reported for group in groups)
    console.print(
        f"{n:,} of {len(groups):,} can be reported. On average, at most {percent(fdr)} of the reported groups are "
        "wrong. The tracks of one group may be similar: e-values allow that."
    )
    console.print(
        "An e-value is evidence against all tracks of a group being by people. 1 or less is no evidence.", style="dim"
    )
    for sentence in reservations:
        console.print(safe(f"{sentence} The e-values then prove nothing.", "yellow"))


def print_difference(difference: Difference) -> None:
    """Print what changed, the newly flagged tracks first. If standard output is not a terminal, no line is wrapped."""
    console = _console()
    _print_notes(console, difference.notes)
    n = len(difference.newly_flagged)
    decided = f" ({difference.decided:,} more that people have decided about)" if difference.decided else ""
    console.print(f"{n:,} newly flagged{decided}", style="bold red" if n else "bold green")
    _print_changes(console, difference.newly_flagged)
    flagged = {change.path for change in difference.newly_flagged}
    others = [change for change in difference.verdict_changes if change.path not in flagged]
    console.print(f"{len(others):,} other changes of verdict or status", style="bold")
    _print_changes(console, others)
    console.print(f"{len(difference.drift):,} scores changed although model and file did not", style="bold")
    _print_changes(console, difference.drift)
    for title, paths in (
        ("new", difference.new_files),
        ("gone", difference.gone_files),
        ("changed", difference.changed_files),
        ("moved", [f"{old} -> {new}" for old, new in difference.moved_files]),
        ("newly declare themselves generated", difference.newly_declared),
    ):
        listed = [path for path in paths if path not in flagged]
        above = "" if len(listed) == len(paths) else f", {len(paths) - len(listed):,} of them listed as newly flagged"
        console.print(f"{len(paths):,} {title}{above}", style="bold")
        for path in listed:
            console.print("  ", safe(path))


def print_trend(months: Sequence[Month]) -> None:
    """Print a line for each month, then notes on changes that make months hard to compare."""
    console = _console()
    names = (
        "reports",
        "tracks",
        "assessed",
        "flagged",
        "review",
        "share flagged",
        "added",
        "flagged of added",
        "share",
    )
    table = _table("month", *names, "newly flagged", numbers=(*names, "newly flagged"))
    for month in months:
        counts = (month.reports, month.tracks, month.assessed, month.flagged, month.review)
        since = (month.added, month.added_flagged)
        table.add_row(
            month.month,
            *(f"{n:,}" for n in counts),
            _interval(month.share),
            *("-" if n is None else f"{n:,}" for n in since),
            _interval(month.added_share),
            "-" if month.newly_flagged is None else f"{month.newly_flagged:,}",
        )
    console.print(table, "")
    for month in months:
        for note in month.notes:
            console.print(safe(f"{month.month}: {note}", "yellow"))


def _interval(share: Estimate | None) -> str:
    return "-" if share is None else f"{percent(share.value)} ({percent(share.low)} to {percent(share.high)})"


def _console() -> Console:
    """Standard output; if it is not a terminal, no line is wrapped."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _UNWRAPPED)


def _print_notes(console: Console, notes: Iterable[str]) -> None:
    for note in notes:
        console.print(safe("Note: " + note, "yellow"))


def _print_changes(console: Console, changes: Iterable[Change]) -> None:
    table = _table("before", "after", "score before", "after ", "path", numbers=("score before", "after "))
    for change in changes:
        before = safe(change.before or change.file, style=_STYLES.get(change.before or "", ""))
        scores = (_score(change.score_before), _score(change.score_after))
        table.add_row(before, _verdict(change.after), *scores, safe(change.path))
    if table.row_count:
        console.print(table, "")


def print_listened(found: ListenedEstimates) -> None:
    """Print the estimates from a sample, and the counts behind them."""
    console = Console(highlight=False)
    table = _table("verdict", "tracks", "drawn", "decided", "AI", numbers=("tracks", "drawn", "decided", "AI"))
    for s in found.strata:
        table.add_row(_verdict(s.name), *(f"{n:,}" for n in (s.tracks, s.drawn, s.decided, s.ai)))
    console.print(table, "")
    for sentence in listened(found):
        console.print(safe(sentence))
