"""Lists the files below a URL step by step: page by page from S3, folder by folder elsewhere.

A report row identifies a file by size and `mtime_ns`. Object stores give times in whole seconds, and identify content
by its ETag. So the fraction of the second is a digest of the ETag, and a change of either is detected.
"""

from __future__ import annotations

import contextlib
import datetime
import email.utils
import functools
import hashlib
import math
from collections.abc import Callable, Iterator
from typing import Any

from sonicscan.library import remote
from sonicscan.library.tracks import Track, int64
from sonicscan.library.urls import Url

_TIMES = ("LastModified", "mtime", "updated", "last_modified", "Last-Modified", "created")
_CONTENTS = ("ETag", "etag", "md5Hash", "generation", "blob_id", "Content-MD5", "sha")
_S = 1_000_000_000


def track_at(url: Url, info: dict[str, Any]) -> Track:
    """Returns the track of a file at `url`; `info` is fsspec's description of it."""
    size = info.get("size")
    public = str(url).encode("utf-8", "surrogateescape")
    whole = url.encoded()
    return Track(
        public, -1 if size is None else int64(int(size)), int64(_mtime_ns(info)), None if public == whole else whole
    )


def unseen(url: Url) -> Track:
    """Returns the track of a file whose size and time are unknown."""
    return track_at(url, {"size": -1})


def listed(
    url: Url, left_out: Callable[[bytes], bool], timeout_s: float | None = None
) -> Iterator[tuple[bytes, Track]]:
    """Yields the relative path and the `Track` of every file below a folder, as the listing arrives.

    Args:
        url: the folder.
        left_out: whether to skip a relative path: a file, or a folder (its path ends in a slash) with all its files.
        timeout_s: how long the server may take for each page or folder; None for as long as the library waits.

    Raises:
        RemoteError: the listing fails; tracks that were yielded before remain valid.
    """
    flat = url.protocol in ("s3", "s3a")
    pages = _s3_pages(url, timeout_s) if flat else _folders(url, left_out, timeout_s)
    base = url.address.rstrip("/") + "/"
    folder, excluded = b"", None
    for below, info in pages:
        path = below.encode("utf-8", "surrogateescape")
        if excluded is not None and path.startswith(excluded):
            continue
        above = path.rpartition(b"/")[0]
        if above != folder:
            folder, excluded = above, next(filter(left_out, _ancestors(above)), None)
        if excluded is None and not left_out(path):
            yield path, track_at(Url(base + below), info)


def _ancestors(folder: bytes) -> Iterator[bytes]:
    parts = folder.split(b"/") if folder else []
    return (b"/".join(parts[:n]) + b"/" for n in range(1, len(parts) + 1))


def _s3_pages(url: Url, timeout_s: float | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """One flat listing of all keys, page by page; s3fs' own `find` and `ls` return only after the last page."""
    files, path = remote.filesystem(url)
    bucket, _, prefix = path.partition("/")
    prefix = prefix and prefix.rstrip("/") + "/"
    request = {"Bucket": bucket, "Prefix": prefix}
    while True:
        with remote.reaching(url, "listed"):
            page = remote.within(timeout_s, functools.partial(files.call_s3, "list_objects_v2", **request), url)
        for found in page.get("Contents", []):
            if not found["Key"].endswith("/"):  # a placeholder for a folder
                yield found["Key"][len(prefix) :], {**found, "size": found["Size"]}
        if not page.get("IsTruncated"):
            return
        request["ContinuationToken"] = page["NextContinuationToken"]


def _folders(
    url: Url, left_out: Callable[[bytes], bool], timeout_s: float | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """A walk that keeps one folder's names at a time, and the folders still to be entered."""
    files, root = remote.filesystem(url)
    root = root.rstrip("/")
    stack = [root]
    while stack:
        here = stack.pop()
        with remote.reaching(url, "listed"):
            found = remote.within(timeout_s, functools.partial(files.ls, here, detail=True), url)
            entries = sorted(found, key=lambda entry: str(entry["name"]))
        folders = []
        for entry in entries:
            name = str(entry["name"]).rstrip("/")
            below = name[len(root) :].lstrip("/")
            if name == here or not below:
                continue
            if entry["type"] != "directory":
                yield below, entry
            elif not left_out(below.encode("utf-8", "surrogateescape") + b"/"):
                folders.append(name)
        stack.extend(reversed(folders))


def _mtime_ns(info: dict[str, Any]) -> int:
    changed = next((ns for name in _TIMES if (ns := _ns(info.get(name)))), 0)
    content = next((str(value) for name in _CONTENTS if (value := info.get(name))), "")
    if not content:
        return changed
    digest = hashlib.sha256(content.strip('"').encode()).digest()
    return changed // _S * _S + int.from_bytes(digest[:8], "big") % _S


def _ns(time: object) -> int:
    """Converts a time, in the formats of the various libraries, to nanoseconds since 1970; 0 where it is not a time."""
    if isinstance(time, str):
        time = _parsed(time)
    if isinstance(time, datetime.datetime):
        time = time.timestamp()
    return round(time * 1e6) * 1000 if isinstance(time, int | float) and math.isfinite(time) else 0


def _parsed(text: str) -> datetime.datetime | None:
    """Parses a time in the format of ISO 8601 or HTTP."""
    for parse in (datetime.datetime.fromisoformat, email.utils.parsedate_to_datetime):
        with contextlib.suppress(ValueError):
            return parse(text)
    return None
