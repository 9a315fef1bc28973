"""The error tree of sonicscan.

    SonicscanError
    ├── AudioError      one track cannot be scored; carries the status of its report row
    ├── ModelError      the model cannot be run, or gives invalid output
    ├── DeviceError     the requested execution provider does not start
    ├── ReportError     a report or journal cannot be read or written
    ├── SignatureError  a signature or key is missing, or does not match the file
    ├── RemoteError     a URL cannot be read, listed or written; carries a status as well
    └── InputError      paths, file lists or options are not valid

An `AudioError` affects one row. Each of the others ends the run with exit code 2. A message is one sentence: what
happened, to which file, and what to do.
"""

from __future__ import annotations

from typing import Literal, get_args

Status = Literal[
    "ok",
    "silent",
    "too_short",
    "truncated",
    "empty",
    "unsupported",
    "unreadable",
    "permission_denied",
    "vanished",
    "timeout",
    "crashed",
]
STATUSES: tuple[Status, ...] = get_args(Status)

# These statuses are failures. `silent` and `too_short` are results of a successful read.
FAILED_STATUSES: frozenset[Status] = frozenset(STATUSES) - {"ok", "silent", "too_short"}


class SonicscanError(Exception):
    """Base of every error that sonicscan raises on purpose."""


class AudioError(SonicscanError):
    """A track that cannot be scored, or only in part.

    Args:
        status: the report row's status, one of `STATUSES`.
        message: one sentence for the row's `error` column.
    """

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status: Status = status


class ModelError(SonicscanError):
    """A model file has no contract, is damaged, has another shape, or gives NaN."""


class DeviceError(SonicscanError):
    """The requested execution provider does not start."""


class ReportError(SonicscanError):
    """A report or journal cannot be read or written."""


class SignatureError(SonicscanError):
    """A key or signature cannot be read or written, or a signature does not match its file."""


class RemoteError(SonicscanError):
    """A URL cannot be read, listed or written; the message holds no credentials.

    Args:
        status: the status of the report row, if the URL is a track.
        message: one sentence.
    """

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status: Status = status


class InputError(SonicscanError):
    """Paths, file lists or options are not valid, or contradict each other."""
