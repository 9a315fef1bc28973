"""Compares suppliers' declarations about their tracks with the findings of a scan.

The values follow the AI disclosure of DDEX: which contributions to a track AI made.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeGuard, get_args

from sonicscan.analysis.tables import csv_lines
from sonicscan.errors import InputError, ReportError
from sonicscan.provenance.words import CLAIM_WORDS
from sonicscan.report.row import FileResult
from sonicscan.text import bare_isrc, printable

Contribution = Literal["none", "composition", "lyrics", "vocals", "instrumental", "fully"]
CONTRIBUTIONS: tuple[Contribution, ...] = get_args(Contribution)
AUDIBLE: frozenset[Contribution] = frozenset({"vocals", "instrumental", "fully"})  # AI made sound of the recording
KEYS = ("path", "isrc", "content_hash")


@dataclass(frozen=True)
class Entry:
    """One line of a file of declarations.

    Attributes:
        names: names of the track, by key; a track matches if one of them is equal.
        contribution: the declared value.
    """

    names: Mapping[str, str]
    contribution: Contribution


@dataclass(frozen=True)
class Declared:
    """All declarations of a file."""

    entries: tuple[Entry, ...] = ()

    @functools.cached_property
    def _by(self) -> dict[tuple[str, str], set[Contribution]]:
        found: dict[tuple[str, str], set[Contribution]] = {}
        for entry in self.entries:
            for name in entry.names.items():
                found.setdefault(name, set()).add(entry.contribution)
        return found

    def of(self, row: FileResult) -> frozenset[Contribution]:
        """The declared values of a row; empty if there are none. `none` is ignored if there is another value."""
        found: set[Contribution] = set()
        for name in _names_of(row):
            found |= self._by.get(name, set())
        return frozenset(found - {"none"} if len(found) > 1 else found)


@dataclass(frozen=True)
class Agreement:
    """Tracks of one declared value.

    Attributes:
        tracks: tracks in the report for which it was declared.
        found: those that were flagged, or whose file declares the use of AI.
        not_found: all others with a verdict or a declaration.
    """

    tracks: int
    found: int
    not_found: int


@dataclass(frozen=True)
class Mismatch:
    """A track whose declaration contradicts the findings.

    Attributes:
        path: the track.
        declared: the declared values.
        found: what was found, in words.
    """

    path: str
    declared: tuple[Contribution, ...]
    found: str


@dataclass(frozen=True)
class SupplierCounts:
    """Declared against found.

    Attributes:
        table: by declared value; a track with several values counts in each.
        undeclared: tracks of the report about which nothing was declared.
        unmatched: declarations that name no track of the report.
        hidden: declared `none`, and found.
        unconfirmed: declared vocals, instrumental or fully by AI, and not found.
    """

    table: dict[Contribution, Agreement]
    undeclared: int
    unmatched: int
    hidden: tuple[Mismatch, ...]
    unconfirmed: tuple[Mismatch, ...]


def load_declared(path: Path) -> Declared:
    """Read a file of declarations: CSV in UTF-8, or Parquet, with the column `declared` and one or more of `KEYS`.

    Raises:
        InputError: the file is missing or of another kind, or a line is not valid; the message names the line.
    """
    lines = _parquet(path) if path.suffix == ".parquet" else _csv(path)
    entries = []
    for number, line in lines:
        value = (line.get("declared") or "").strip().lower()
        if not _is_contribution(value):
            known = ", ".join(CONTRIBUTIONS)
            raise InputError(f"{path}, line {number}: `declared` is {printable(value)!r}; it must be one of {known}.")
        names = {key: text for key in KEYS if (text := _key(key, line.get(key) or ""))}
        if not names:
            raise InputError(f"{path}, line {number}: neither path, isrc nor content_hash says which track is meant.")
        entries.append(Entry(names, value))
    return Declared(tuple(entries))


def compare_declared(rows: Iterable[FileResult], declared: Declared) -> SupplierCounts:
    """Compare what suppliers declared with what was found."""
    rows = list(rows)
    tracks, found_in, missed = dict.fromkeys(CONTRIBUTIONS, 0), dict.fromkeys(CONTRIBUTIONS, 0), 0
    not_found = dict.fromkeys(CONTRIBUTIONS, 0)
    hidden, unconfirmed = [], []
    for row in rows:
        values = declared.of(row)
        missed += not values
        words = _found(row)
        judged = row.verdict is not None or (row.provenance is not None and row.provenance.claim != "none")
        for value in values:
            tracks[value] += 1
            found_in[value] += bool(words)
            not_found[value] += judged and not words
        ordered = tuple(value for value in CONTRIBUTIONS if value in values)
        if values == {"none"} and words:
            hidden.append(Mismatch(row.path, ordered, words))
        elif values & AUDIBLE and judged and not words:
            unconfirmed.append(Mismatch(row.path, ordered, f"verdict {row.verdict or 'none'}"))
    table = {value: Agreement(tracks[value], found_in[value], not_found[value]) for value in CONTRIBUTIONS}
    return SupplierCounts(table, missed, _unmatched(rows, declared), tuple(hidden), tuple(unconfirmed))


def _found(row: FileResult) -> str:
    """The findings of AI in a track, in words; empty if there are none."""
    claim = None if row.provenance is None else row.provenance.claim
    words = ["flagged"] if row.verdict == "flagged" else []
    if claim in ("generated", "edited_with_ai", "conflicting"):
        words.append(CLAIM_WORDS[claim])
    return ", ".join(words)


def _unmatched(rows: Iterable[FileResult], declared: Declared) -> int:
    here = {name for row in rows for name in _names_of(row)}
    return sum(here.isdisjoint(entry.names.items()) for entry in declared.entries)


def _names_of(row: FileResult) -> list[tuple[str, str]]:
    return [(key, text) for key in KEYS if (text := _key(key, getattr(row, key) or ""))]


def _key(key: str, text: str) -> str:
    """A name as it is compared: bare ISRCs, hashes in lower case."""
    if key == "isrc":
        return bare_isrc(text)
    return text.strip().lower() if key == "content_hash" else text


def _is_contribution(text: str) -> TypeGuard[Contribution]:
    return text in CONTRIBUTIONS


def _csv(path: Path) -> Iterator[tuple[int, dict[str, str | None]]]:
    names, lines = csv_lines(path, "declarations")
    _check_columns(path, names)
    return lines


def _parquet(path: Path) -> Iterator[tuple[int, dict[str, str | None]]]:
    import pyarrow as pa

    from sonicscan.report.bounded import read_bounded, schema_of

    try:
        names = schema_of(path).names
        _check_columns(path, names)
        table = read_bounded(path, [name for name in (*KEYS, "declared") if name in names])
        texts = pa.schema([(name, pa.string()) for name in table.schema.names])
        yield from enumerate((line for batch in table.cast(texts).to_batches() for line in batch.to_pylist()), 2)
    except (OSError, pa.ArrowException, ReportError) as error:
        raise InputError(f"the declarations {path} cannot be read: {error}.") from error


def _check_columns(path: Path, names: Iterable[str]) -> None:
    if "declared" not in set(names) or not set(KEYS) & set(names):
        raise InputError(
            f"{path} is not a file of declarations: it needs the column declared and one of {', '.join(KEYS)}."
        )
