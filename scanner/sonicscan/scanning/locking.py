"""Opens a journal for one process alone, and only if it is a regular file of this user."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

from sonicscan.errors import ReportError
from sonicscan.files import lock, open_to_append


def is_still(file: io.FileIO, path: Path) -> bool:
    """Whether `path` leads to the open `file`."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False


def open_locked(path: Path) -> io.FileIO:
    """Open for reading and appending, for this process alone until it ends."""
    while True:
        file = _locked(path)
        if is_still(file, path):  # or else the scan that held it has just finished and removed it
            return file
        file.close()


def _locked(path: Path) -> io.FileIO:
    file = _own_file(path)
    if lock(file.fileno()) is False:
        file.close()
        raise ReportError(f"another scan is writing {path}; wait for it, or choose another --out.")
    if not os.fstat(file.fileno()).st_nlink:  # the other scan ended and deleted it between the two calls
        file.close()
        return open_locked(path)
    return file


def _own_file(path: Path) -> io.FileIO:
    """The open journal, if it is a regular file of this user's under one name."""
    try:
        file = open_to_append(path)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EINVAL) and path.parent.is_dir():
            raise _refusal(path, "a symbolic link" if path.is_symlink() else "not a regular file") from error
        raise
    found = os.fstat(file.fileno())
    if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
        file.close()
        raise _refusal(path, "a file of another user")
    if found.st_nlink > 1:
        file.close()
        raise _refusal(path, "a file with a second name (a hard link)")
    return file


def _refusal(path: Path, what: str) -> ReportError:
    return ReportError(f"the journal {path} is {what}; remove it, or name another place with --journal.")
