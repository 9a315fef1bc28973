"""Files behind URLs: `s3://`, `gs://`, `hf://`, `https://` and all other protocols of fsspec.

fsspec and the libraries below it are imported when the first URL is used. These libraries find their credentials in the
environment and in their own files. Credentials in a URL are used and never shown: `str(url)` shows `***` for user and
password and `?…` for query and fragment. The messages of a `RemoteError` do the same (`library.redaction`).
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from sonicscan.calls import Call
from sonicscan.errors import RemoteError, Status
from sonicscan.extras import how_to_install
from sonicscan.library.redaction import scrubbed
from sonicscan.library.urls import WEB, Url

# Stores whose uploads are atomic; elsewhere a complete upload is renamed.
_ATOMIC = ("abfs", "az", "gcs", "gs", "hf", "s3", "s3a")
_BUCKETS = ("gcs", "gs", "s3", "s3a")
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "hf": "hf"}
_PACKAGES = dict.fromkeys(("abfs", "az"), "adlfs") | dict.fromkeys(("sftp", "ssh"), "paramiko")
_PACKAGES |= dict.fromkeys(WEB, "aiohttp")
_HTTP_GONE, _HTTP_DENIED = (404, 410), (401, 403, 407)


T = TypeVar("T")


def filesystem(url: Url) -> tuple[Any, str]:
    """The fsspec file system behind `url`, and the URL's path in it.

    Raises:
        RemoteError: no installed package supports the protocol.
    """
    with reaching(url, "opened"):
        import fsspec

        try:
            kind = fsspec.get_filesystem_class(url.protocol)
        except ImportError as error:
            raise RemoteError("unsupported", _what_to_install(url)) from error
        except ValueError:
            raise RemoteError("unsupported", f"{url}: there is no protocol {url.protocol}://.") from None
        # Not fsspec's own `url_to_fs`: it reads a name with `::` as two URLs.
        options = {**kind._get_kwargs_from_urls(url.address), "use_listings_cache": False}
        return fsspec.filesystem(url.protocol, **options), str(kind._strip_protocol(url.address))


def _what_to_install(url: Url) -> str:
    extra, package = _EXTRAS.get(url.protocol), _PACKAGES.get(url.protocol)
    what = package or f"the fsspec package for {url.protocol}://"
    command = how_to_install(extra) if extra else f"pip install {what}"
    return f"{url.protocol}:// needs a package that is not installed: {command}."


@contextlib.contextmanager
def reaching(url: Url, what: str) -> Iterator[None]:
    """Converts any exception of the libraries into a `RemoteError` without secrets.

    Args:
        url: what is reached for.
        what: "read", "written", "listed": a participle for the sentence.
    """
    try:
        yield
    except RemoteError:
        raise
    except Exception as error:  # noqa: BLE001 - the libraries' exceptions have no common base but Exception
        # Without its cause: a traceback would show the library's messages and addresses.
        raise _remote_error(url, what, error) from None


def _remote_error(url: Url, what: str, error: Exception) -> RemoteError:
    error = _real_error(url, error)
    code = getattr(error, "status", None)  # of HTTP
    status: Status = "unreadable"
    if isinstance(error, FileNotFoundError) or code in _HTTP_GONE:
        status, why = "vanished", "there is nothing of that name"
    elif isinstance(error, PermissionError) or code in _HTTP_DENIED or "Credentials" in type(error).__name__:
        status, why = "permission_denied", "access is denied; its credentials come from the environment or their files"
    elif isinstance(error, MemoryError):
        raise error
    else:
        lines = scrubbed(str(error), url).strip().splitlines()
        why = f"{type(error).__name__}: {lines[0][:300].rstrip('.')}" if lines else type(error).__name__
    return RemoteError(status, f"{url} cannot be {what} ({why}).")


def _real_error(url: Url, error: Exception) -> Exception:
    """fsspec raises `FileNotFoundError` for every failure of a web server; the failure itself is its cause."""
    hidden = url.protocol in WEB and isinstance(error, FileNotFoundError)
    return error.__cause__ if hidden and isinstance(error.__cause__, Exception) else error


def info(url: Url, timeout_s: float | None = None) -> dict[str, Any]:
    """Returns fsspec's description of a file or folder: `type`, `size` and more.

    Args:
        url: the file or folder.
        timeout_s: how long the answer may take; None for as long as the library waits.

    Raises:
        RemoteError: `vanished` where it does not exist, `timeout`, or the request failed.
    """

    def ask() -> dict[str, Any]:
        files, path = filesystem(url)
        with reaching(url, "read"):
            return dict(files.info(path))

    return within(timeout_s, ask, url)


def within(seconds: float | None, call: Callable[[], T], url: Url) -> T:
    """Returns the result of `call`, or raises `RemoteError` after `seconds`; the waiting thread is then abandoned.

    Args:
        seconds: the limit; None for none.
        call: sends the request.
        url: the address, for messages.

    Raises:
        RemoteError: `timeout`.
    """
    if seconds is None:
        return call()
    asking = Call(call, "sonicscan-ask")
    if not asking.wait(seconds):
        raise RemoteError("timeout", f"{url} did not answer within {seconds:g} s.")
    return asking.result()


def held_here(path: bytes) -> bytes | None:
    """The bytes of a `memory://` file, which no other process can read; None for every other file."""
    if not path.startswith(b"memory://"):
        return None
    url = Url(path.decode("utf-8", "surrogateescape"))
    files, name = filesystem(url)
    with contextlib.suppress(RemoteError), reaching(url, "read"):
        return bytes(files.cat_file(name))
    return None


def download(url: Url, target: Path, max_bytes: int | None = None) -> None:
    """Fetch a whole file into `target`.

    Args:
        url: the file.
        target: written as the bytes come in.
        max_bytes: a longer file is not fetched; None for no limit.

    Raises:
        RemoteError: it cannot be fetched, is too long, or its length differs from the server's figure.
    """
    files, path = filesystem(url)
    with reaching(url, "read"):
        size = files.info(path).get("size")
        if max_bytes is not None and size is not None and size > max_bytes:
            raise _too_long(url, max_bytes)
        files.get_file(path, str(target), callback=_counter(url, size if max_bytes is None else max_bytes))
    found = target.stat().st_size
    if size is not None and found != size:
        raise RemoteError("unreadable", f"{url} has {size} bytes, and {found} came; try again.")


def _counter(url: Url, max_bytes: int | None) -> Any:
    """An fsspec callback that ends a transfer of more than `max_bytes`, whatever length the server announced."""
    from fsspec.callbacks import Callback

    class Counter(Callback):  # type: ignore[misc]
        def call(self, *args: object, **kwargs: object) -> None:
            if max_bytes is not None and self.value > max_bytes:
                raise _too_long(url, max_bytes)

    return Counter()


def _too_long(url: Url, max_bytes: int) -> RemoteError:
    return RemoteError(
        "unreadable", f"{url} has more than the {max_bytes} bytes that are allowed, so it is not fetched."
    )


def upload(source: Path, url: Url) -> None:
    """Put a local file at `url`; it appears there whole or not at all."""
    files, path = filesystem(url)
    with reaching(url, "written"):
        if url.protocol in _ATOMIC:
            files.put_file(str(source), path)
            return
        temporary = filesystem(url.beside(f".{url.name[:40]}.{secrets.token_hex(8)}.part"))[1]
        files.put_file(str(source), temporary)
        files.mv(temporary, path)


def check_target(url: Url) -> None:
    """Raises `RemoteError` if `url` cannot be written, as far as this can be checked without writing."""
    if url.protocol in WEB:
        raise RemoteError("unsupported", f"{url} cannot be written: {url.protocol}:// is read-only.")
    if url.protocol not in _BUCKETS:
        filesystem(url)
        return
    bucket = Url("/".join(url.address.split("/")[:3]))
    try:
        info(bucket)
    except RemoteError as error:
        if error.status != "permission_denied":  # the user may have the right to write and not to list
            raise
