"""Addresses of files: a `Url` shows itself without its secrets, and `located` tells URLs from local names.

A URL's user and password show as `***`, its query and fragment as `?…`.
"""

from __future__ import annotations

import os
import re
import urllib.parse
from pathlib import Path, PurePosixPath

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_LOCAL = ("file", "local")
WEB = ("http", "https")
# The part before the `@` is a container there, not a user.
CONTAINERS = ("abfs", "abfss", "az", "wasb", "wasbs")
# In object stores `?` and `#` may be part of a name; a query contains `name=value`.
_QUERY = re.compile(r"[?#][^/?#]*=.*", re.DOTALL)
_WEB_QUERY = re.compile(r"[?#].*", re.DOTALL)
HIDDEN, LEFT_OUT = "***", "?…"


class Url:
    """The address of a remote file or folder.

    Attributes:
        address: as it was given; it may hold a password or a signature.
        protocol: what stands before `://`.
    """

    def __init__(self, address: str) -> None:
        match = _URL.match(address)
        if match is None:
            raise ValueError("not a URL")
        self.protocol = match[1].lower()
        self.address = self.protocol + address[match.end(1) :]

    def __str__(self) -> str:
        """The address without secrets."""
        scheme, rest = self.address.split("://", 1)
        host, slash, path = rest.partition("/")
        user, at, place = host.rpartition("@")
        if at and (":" in user or self.protocol not in CONTAINERS):
            host = f"{HIDDEN}@{place}"
        host = _WEB_QUERY.sub(LEFT_OUT, host)
        return f"{scheme}://{host}{slash}{self.query.sub(LEFT_OUT, path)}"

    @property
    def query(self) -> re.Pattern[str]:
        """The pattern of query and fragment in such a URL."""
        return _WEB_QUERY if self.protocol in WEB else _QUERY

    def __repr__(self) -> str:
        return f"Url({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Url) and other.address == self.address

    def __hash__(self) -> int:
        return hash(self.address)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return PurePosixPath(self.query.sub("", self.address.split("://", 1)[1])).name

    @property
    def suffix(self) -> str:
        """The name's suffix, with its dot."""
        return PurePosixPath(self.name).suffix

    def encoded(self) -> bytes:
        """The whole address, as `Listing` and the workers pass it on."""
        return self.address.encode("utf-8", "surrogateescape")

    def beside(self, name: str) -> Url:
        """Another file of the same folder."""
        return Url(self.address.rsplit("/", 1)[0] + "/" + name)


Location = Path | Url


def is_url(path: str | bytes | os.PathLike[str]) -> bool:
    """Whether this is a URL rather than the name of a local file."""
    return _URL.match(os.fsdecode(path)) is not None


def located(path: str | bytes | os.PathLike[str] | Url) -> Location:
    """A `Url`, or a `Path` for everything that is on this machine, `file://` too."""
    if isinstance(path, Url):
        return path
    text = os.fsdecode(path)
    match = _URL.match(text)
    if match is None:
        return Path(text)
    if match[1].lower() in _LOCAL:
        return Path(urllib.parse.unquote(text[match.end() :].removeprefix("localhost")))
    return Url(text)
