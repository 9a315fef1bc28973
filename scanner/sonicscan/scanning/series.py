"""The reports of a regular audit: `--out 'audits/{date}.parquet'`, one report a day.

    audits/2026-11-26.parquet         the report of that day
    audits/audit.parquet.journal      the rows of an unfinished scan of any day
    audits/audit.delivered.json       the flags that were delivered (analysis.delivered)
    audits/audit.lock                 locked by the running audit

A scan that was killed is resumed by the audit of a later day, because the journal's name holds no date.
Without `{date}` in its name, a series is one report that each audit replaces.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sonicscan.errors import InputError, ReportError
from sonicscan.files import lock, open_to_append, owned
from sonicscan.report.readers import SUCCESS, check_report
from sonicscan.scanning.journal import key_of_journal
from sonicscan.scanning.parts import keys_of_unfinished
from sonicscan.scanning.reportfile import journal_of

DATE = "{date}"
_STANDING = "audit"  # replaces the date in the names of files that all days share


@dataclass(frozen=True)
class Series:
    """All reports that one `--out` names.

    Attributes:
        folder: where they are.
        name: the name of each; `{date}` stands for the day on which its audit began.
        in_parts: whether each is a folder of parts.
    """

    folder: Path
    name: str
    in_parts: bool

    @classmethod
    def of(cls, out: str) -> Series:
        """From `--out`, which may hold `{date}` in its last part.

        Raises:
            InputError: `{date}` is elsewhere.
        """
        path = Path(out)
        if DATE in str(path.parent) or path.name.count(DATE) > 1:
            raise InputError(f"--out {out}: {DATE} may stand in it once, in the last part; move it there.")
        return cls(path.parent, path.name, out.endswith("/") or path.is_dir())

    @property
    def dated(self) -> bool:
        """Whether each day has its own report."""
        return DATE in self.name

    def report(self, day: dt.date) -> Path:
        """The report of a day."""
        return self.folder / self.name.replace(DATE, day.isoformat())

    @property
    def suffix(self) -> str:
        """The suffix of each report's name, with its dot."""
        return Path(self.name).suffix

    @property
    def journal(self) -> Path | None:
        """The journal of all days; None where the report's own journal serves: it has one name, or is a folder."""
        if self.in_parts or not self.dated:
            return None
        return journal_of(self.folder / self.name.replace(DATE, _STANDING))

    @property
    def record(self) -> Path:
        """The record of delivered flags."""
        return self.folder / f"{self._standing}.delivered.json"

    @property
    def _standing(self) -> str:
        return Path(self.name.replace(DATE, _STANDING)).stem

    def latest(self) -> tuple[Path | None, tuple[str, ...]]:
        """Returns the newest complete report, and messages about newer ones that cannot be reused."""
        notes = []
        for path in self._reports():
            if self.in_parts and not (path / SUCCESS).exists():
                continue
            if not owned(path.stat()):
                notes.append(f"{path} is not built on: another user owns it.")
                continue
            try:
                check_report(path)
            except ReportError as error:
                notes.append(f"{path} is not built on: {error}")
                continue
            return path, tuple(notes)
        return None, tuple(notes)

    def fits(self, today: Path, key: str, journal: Path | None) -> bool:
        """Whether the scan that `today` would resume is comparable with a scan of this key, or there is none.

        Args:
            today: the report.
            key: of the scan.
            journal: the journal that the scan uses; None for the report's own.
        """
        if not self.in_parts:
            return key_of_journal(journal or journal_of(today)) in (None, key)
        return keys_of_unfinished(today, journal) <= {key}

    def take_over(self, today: Path) -> Path | None:
        """Renames an unfinished report in parts from an earlier day to today's name; returns its earlier name.

        A folder of that name with other files in it stays.

        Raises:
            ReportError: it cannot be renamed.
        """
        if not (self.in_parts and self.dated) or today.exists():
            return None
        for path in self._reports():
            if owned(path.stat()) and keys_of_unfinished(path):
                try:
                    path.rename(today)
                    return path
                except OSError as error:
                    raise ReportError(f"{path} cannot be renamed to {today.name}: {error.strerror}.") from error
        return None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Prevents a second audit of this series from running at the same time.

        Raises:
            ReportError: one is running, or the lock cannot be made.
        """
        path = self.folder / f"{self._standing}.lock"
        try:
            file = open_to_append(path)
        except OSError as error:
            raise ReportError(f"the lock {path} cannot be made: {error.strerror}.") from error
        with file:
            if lock(file.fileno()) is False:
                raise ReportError(f"another audit holds {path}; wait for it, or choose another --out.")
            yield

    def _reports(self) -> list[Path]:
        if not self.dated:
            path = self.folder / self.name
            return [path] if path.exists() else []
        before, after = self.name.split(DATE)
        pattern = re.compile(re.escape(before) + r"(\d{4}-\d{2}-\d{2})" + re.escape(after))
        try:
            found = list(self.folder.iterdir())
        except OSError as error:
            raise ReportError(f"the folder {self.folder} cannot be read: {error.strerror}.") from error
        days = {match[1]: path for path in found if (match := pattern.fullmatch(path.name))}
        return [days[day] for day in sorted(days, reverse=True) if days[day].is_dir() == self.in_parts]
