"""Models behind URLs, kept on this machine under the digest of their bytes.

    models/<SHA-256>/<name>.onnx      the model
    models/<SHA-256 of URL and version>   names the digest

The version is the size, time and ETag that the server gives. If it gives none, the model is fetched each time. The
digest of a cached file is checked before each use, and the file is fetched again if it has changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from pathlib import Path

import platformdirs

from sonicscan.errors import ModelError
from sonicscan.files import owned, sha256_of, write_whole
from sonicscan.library import objects, remote
from sonicscan.library.urls import Url
from sonicscan.model.loading import MAX_MODEL_BYTES

_DIGEST_LENGTH = 64


def fetched(url: Url, max_bytes: int = MAX_MODEL_BYTES) -> Path:
    """The model at `url` as a local file.

    Args:
        url: the model.
        max_bytes: a longer one is not fetched.

    Raises:
        RemoteError: it cannot be fetched.
        ModelError: it cannot be kept.
    """
    folder = platformdirs.user_cache_path("sonicscan") / "models"
    track = objects.track_at(url, remote.info(url))
    version = f"{url}\n{track.size}\n{track.mtime_ns}" if track.mtime_ns else ""
    entry = folder / hashlib.sha256(version.encode()).hexdigest()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        kept = _kept(entry, folder, url.name) if version else None
        return kept or _fetch(url, entry if version else None, folder, max_bytes)
    except OSError as error:
        raise ModelError(f"{url} cannot be kept in {folder}: {error.strerror or error}.") from error


def _kept(entry: Path, folder: Path, name: str) -> Path | None:
    """The model that an entry names; None where there is none, or another user made the entry."""
    with contextlib.suppress(FileNotFoundError):
        with entry.open("rb") as file:
            digest = file.read(_DIGEST_LENGTH + 1).decode("ascii", "replace")
            if not owned(os.fstat(file.fileno())) or not re.fullmatch("[0-9a-f]{64}", digest):
                return None
        model = folder / digest / name
        if sha256_of(model) == digest:
            return model
    return None


def _fetch(url: Url, entry: Path | None, folder: Path, max_bytes: int) -> Path:
    with tempfile.TemporaryDirectory(dir=folder) as mine:  # others may be fetching it at the same time
        new = Path(mine) / "model"
        remote.download(url, new, max_bytes)
        digest = sha256_of(new)
        model = folder / digest / url.name
        model.parent.mkdir(exist_ok=True)
        new.replace(model)
        if entry is not None:
            write_whole(entry, digest)
    return model
