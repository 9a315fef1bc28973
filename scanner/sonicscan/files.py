"""Writes files atomically and safely in folders that other users can write to; reads files up to a size; digests."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from sonicscan.errors import SonicscanError

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_BINARY = getattr(os, "O_BINARY", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)
_MAX_LINKS = 40  # as many as Linux follows
_STALE_S = 60.0
_TOKEN = r"[0-9a-f]{16}"


@contextlib.contextmanager
def replacing(path: Path, *, sync: bool = True, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """Open a new file beside `path` and rename it to `path` once it is complete.

    The new file has a random name and is created exclusively, so that no file or link of another user is written to. It
    gets the permissions, group and owner of the file that it replaces. If `path` is a symbolic link of this user, the
    link stays and its target is replaced. A link of another user is itself replaced.

    Args:
        path: the file to write.
        sync: wait until the file is on the disk before the rename. False suits files that are rewritten soon.
        mode: permissions of a file that replaces no other, less those that the umask takes away.

    Raises:
        OSError: the file cannot be written, or `path` is not a regular file. The earlier file stays.
    """
    target = _behind_own_links(path)
    earlier = _replaceable(target)
    _remove_stale(target)
    temporary = target.with_name(f".{target.name[:40]}.{secrets.token_hex(8)}.part")
    fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | _NO_FOLLOW | _BINARY, mode)
    try:
        with os.fdopen(fd, "w+b") as file:
            lock(file.fileno())
            if earlier is not None:
                _take_over(file.fileno(), earlier, target)
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        temporary.replace(target)
        if sync:
            _sync_folder(target.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file atomically with `replacing`; text is encoded as UTF-8.

    Raises:
        OSError: it cannot be written; the earlier file stays.
    """
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def open_to_append(path: Path) -> io.FileIO:
    """Open a regular file for reading and appending, without a buffer; only this user can read a new one.

    Raises:
        OSError: ELOOP for a symbolic link, EINVAL for anything else that is not a regular file; neither is opened.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | _NO_FOLLOW | _NO_WAIT | _BINARY
    fd = os.open(path, flags, 0o600)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _not_regular(path)
    return io.FileIO(fd, "a+")


def lock(fd: int, *, wait: bool = False) -> bool | None:
    """Lock an open file for this process until it is closed.

    Args:
        fd: the file.
        wait: wait until no other process holds the lock.

    Returns:
        False if another process holds the lock; None if the system has no advisory locks.
    """
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def only_users_own(path: Path) -> bool:
    """Whether `path` is a regular file, not a link, that belongs to this user and that nobody else can write to."""
    found = path.lstat()
    own = stat.S_ISREG(found.st_mode) and found.st_uid == _user(found)
    return own and not (os.name == "posix" and found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def same_place(a: Path, b: Path) -> bool:
    """Whether two names lead to one file or folder, which need not be there; symbolic links are followed."""
    return os.path.realpath(a) == os.path.realpath(b)


def owned(found: os.stat_result) -> bool:
    """Whether this user or root owns a file, so that no other user chose its content."""
    return found.st_uid in (_user(found), 0)


def read_own(path: Path, limit: int) -> bytes:
    """Read a file of at most `limit` bytes that only this user or root can write.

    For files that change what the program does, in folders where other users may put files.

    Raises:
        OSError: another user could have written the file (EPERM, with the reason), it is larger (EFBIG), or it cannot
            be read.
    """
    link = path.lstat()
    fd = os.open(path, os.O_RDONLY | _NO_WAIT | _BINARY)
    with os.fdopen(fd, "rb") as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise _not_regular(path)
        if not owned(link) or not owned(found):
            raise PermissionError(errno.EPERM, "it belongs to another user", str(path))
        if os.name == "posix" and found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError(errno.EPERM, "other users may write it; chmod go-w changes that", str(path))
        return read_at_most(file, limit)


def read_at_most(file: IO[bytes], limit: int) -> bytes:
    """Read a stream of at most `limit` bytes to its end.

    Raises:
        OSError: it holds more (EFBIG, with the reason), or it cannot be read.
    """
    content = file.read(limit + 1)
    if len(content) > limit:
        size = f"{limit >> 20} MiB" if limit >= 1 << 20 else f"{limit >> 10} KiB"
        raise OSError(errno.EFBIG, f"it is larger than {size}")
    return content


def read_small(path: Path, limit: int, name: str, error: type[SonicscanError]) -> bytes:
    """Read a file of at most `limit` bytes that a person named; a pipe too.

    Args:
        path: the file.
        limit: in bytes.
        name: what messages call the file.
        error: the class of the exceptions.

    Raises:
        SonicscanError: of the class `error`; the file cannot be read, or it is larger.
    """
    try:
        with path.open("rb") as file:
            return read_at_most(file, limit)
    except OSError as failed:
        raise error(f"{name} cannot be read: {failed.strerror or failed}.") from failed


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _behind_own_links(path: Path) -> Path:
    """Follow symbolic links of this user from `path`; stops at the first link of another user."""
    for _ in range(_MAX_LINKS):
        try:
            found = path.lstat()
            if not stat.S_ISLNK(found.st_mode) or found.st_uid != _user(found):
                return path
            path = path.parent / path.readlink()
        except FileNotFoundError:
            return path
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


def _replaceable(target: Path) -> os.stat_result | None:
    """The status of the regular file at `target`; None for a link of another user or for no file."""
    try:
        found = target.lstat()
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(found.st_mode):
        return None
    if not stat.S_ISREG(found.st_mode):
        raise _not_regular(target)
    return found


def _not_regular(path: Path) -> OSError:
    return OSError(errno.EINVAL, "it is not a regular file", str(path))


def _take_over(fd: int, earlier: os.stat_result, target: Path) -> None:
    """Give the open file the owner, group and permissions of `earlier`, unless another user may have chosen them."""
    if os.name != "posix":
        return
    shared = target.parent.stat().st_mode & stat.S_IWOTH
    if earlier.st_uid != os.geteuid() and (shared or os.geteuid() != 0):
        return  # another user made it: its permissions are not this user's choice
    mode = earlier.st_mode & 0o777
    try:
        os.fchown(fd, earlier.st_uid, earlier.st_gid)
    except OSError:  # the new file's group had no access to the earlier file
        mode = mode & ~0o070 | (mode & 0o007) << 3
    os.fchmod(fd, mode)


def _remove_stale(target: Path) -> None:
    """Remove files that killed processes left in `replacing`; a running process holds a lock on its file."""
    name = re.compile(rf"\.{re.escape(target.name[:40])}\.{_TOKEN}\.part")
    with contextlib.suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            if not name.fullmatch(entry.name) or not entry.is_file(follow_symlinks=False):
                continue
            found = entry.stat(follow_symlinks=False)
            if found.st_uid == _user(found) and found.st_mtime < time.time() - _STALE_S:
                with contextlib.suppress(OSError):
                    _remove_unlocked(Path(entry.path))


def _remove_unlocked(path: Path) -> None:
    fd = os.open(path, os.O_RDWR | _NO_FOLLOW | _NO_WAIT)
    try:
        if lock(fd):
            path.unlink()
    finally:
        os.close(fd)


def _user(found: os.stat_result) -> int:
    """This user's id; on systems without user ids, the owner id of the file."""
    return os.geteuid() if hasattr(os, "geteuid") else found.st_uid


def _sync_folder(folder: Path) -> None:
    """Flush the folder entry to the disk, so that a power cut leaves either the earlier file or the new one."""
    with contextlib.suppress(OSError):  # not every system opens folders
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
