"""Everything sonicscan raises on purpose.

    SonicscanError
    ├── AudioError      one track cannot be scored; carries the status its report row gets
    ├── ModelError      the model is not one this program can run, or it misbehaves
    ├── DeviceError     the execution provider that was asked for does not start
    ├── ReportError     a report or journal cannot be read or written
    ├── SignatureError  a signature or key is missing, or does not fit the file
    ├── RemoteError     a URL cannot be read, listed or written; carries a status as well
    └── InputError      paths, file lists or options that make no sense

An `AudioError` costs one row; each of the others ends the run with exit code 2. Messages are one
sentence that says what happened, to which file, and what to do.
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

# `silent` and `too_short` are answers about a sound file; these are failures to get one.
FAILED_STATUSES: frozenset[Status] = frozenset(STATUSES) - {"ok", "silent", "too_short"}


class SonicscanError(Exception):
    """Base of every error that sonicscan raises on purpose."""


class AudioError(SonicscanError):
    """A track that cannot be scored, or not as a whole.

    Args:
        status: the report row's status, one of `STATUSES`.
        message: one sentence for the row's `error` column.
    """

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status: Status = status


class ModelError(SonicscanError):
    """A model file without the contract, damaged, of another shape, or giving NaN."""


class DeviceError(SonicscanError):
    """An execution provider that was asked for and does not start."""


class ReportError(SonicscanError):
    """A report or journal that cannot be read or written."""


class SignatureError(SonicscanError):
    """A key or signature that cannot be read or written, or a signature that does not fit its file."""


class RemoteError(SonicscanError):
    """A URL that cannot be read, listed or written; the message holds no credentials.

    Args:
        status: what the report row of a track says that is behind it.
        message: one sentence.
    """

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status: Status = status


class InputError(SonicscanError):
    """Paths, file lists or options that make no sense together."""
