"""The tags of a file: ID3, Vorbis comments, MP4 atoms, RIFF INFO, by tinytag."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass

from sonicscan.audio.sources import open_regular
from sonicscan.errors import AudioError
from sonicscan.library.ranges import RemoteFile
from sonicscan.provenance.statements import shortened

_MAX_TAG = 2000  # characters
_MAX_FIELDS = 500


@dataclass(frozen=True)
class Tags:
    """What a file's tags say; None for what they do not say.

    Attributes:
        fields: every text, as (name in lower case, text).
    """

    title: str | None = None
    artist: str | None = None
    album: str | None = None
    isrc: str | None = None
    fields: tuple[tuple[str, str], ...] = ()


def read_tags(name: bytes, path: bytes | RemoteFile) -> Tags:
    """Read the tags of a file; none where they are malformed.

    Args:
        name: the file's name, which tells tinytag the format where the content does not.
        path: what is opened: the file's name or an open remote file.

    Raises:
        AudioError, OSError: the file cannot be read.
        MemoryError: its tags take too much memory.
    """
    from tinytag import TinyTag, TinyTagException

    try:
        with open_regular(path) as file, io.BufferedReader(file) as buffered:
            tag = TinyTag.get(filename=os.fsdecode(name), file_obj=buffered, duration=False)
    except TinyTagException:
        return Tags()
    except (AudioError, OSError, MemoryError):
        raise
    except Exception:  # noqa: BLE001 - a malformed tag costs the tags, not the track
        return Tags()
    fields = tuple(_fields(tag.as_dict()))
    first: dict[str, str] = {}
    for field, text in fields:
        first.setdefault(field, text)
    return Tags(first.get("title"), first.get("artist"), first.get("album"), first.get("isrc"), fields)


def _fields(tags: Mapping[str, object]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, values in tags.items():
        # tinytag puts `_` before a free field whose name is that of a common one.
        field = name.lower().lstrip("_")
        for value in values if isinstance(values, list | tuple) else (values,):
            text = shortened(value, _MAX_TAG) if isinstance(value, str) else ""
            if text and field != "filename" and len(found) < _MAX_FIELDS:
                found.append((field, text))
    return found
