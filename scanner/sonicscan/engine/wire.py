"""Messages between the scanner and its workers: a JSON header and, behind it, raw float32 images.

Frames are `header length, payload length` (two little-endian uint32), the header, the payload.
Nothing is pickled: a worker that a hostile file has taken over can send nothing but numbers and text.
File names travel with surrogate escapes, so that every name survives.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from dataclasses import dataclass
from typing import IO, Any

import msgspec
import numpy as np
import numpy.typing as npt

from sonicscan.audio.windows import WindowPlan
from sonicscan.spec import AudioSpec

Float32 = npt.NDArray[np.float32]

READY: dict[str, object] = {"ready": True}  # a worker's first message
_FRAME = struct.Struct("<II")
_MAX_HEADER = 16 << 20


@dataclass(frozen=True)
class Job:
    """What a worker does with every file of a scan; the first message it gets."""

    audio: AudioSpec
    plan: WindowPlan
    hash: bool = False

    def to_header(self) -> dict[str, Any]:
        return {
            "audio": dataclasses.asdict(self.audio),
            "plan": dataclasses.asdict(self.plan),
            "hash": self.hash,
        }

    @classmethod
    def from_header(cls, header: dict[str, Any]) -> Job:
        plan = msgspec.convert(header["plan"], WindowPlan)
        return cls(AudioSpec(**header["audio"]), plan, header["hash"])

    def for_part(self, part: tuple[int, int] | None) -> Job:
        """The job for a further part of a track's windows: what the first visit has told is not asked again."""
        if part is None:
            return self
        return dataclasses.replace(self, plan=dataclasses.replace(self.plan, part=part), hash=False)


@dataclass(frozen=True)
class Chunk:
    """The header of some windows of a file, whose images follow: float32 of `shape` [n, n_mels, n_frames]."""

    starts_s: list[float]
    shape: tuple[int, int, int]

    @classmethod
    def from_message(cls, header: dict[str, Any], payload_bytes: int, audio: AudioSpec) -> Chunk | dict[str, Any]:
        """A worker's message: a chunk, or the header itself where no images follow.

        Raises:
            ValueError: the images that were announced do not fit the header.
        """
        if not payload_bytes:
            return header
        starts = msgspec.convert(header.get("starts_s"), list[float])
        shape = (len(starts), audio.n_mels, audio.n_frames)
        if not starts or payload_bytes != 4 * shape[0] * shape[1] * shape[2]:
            raise ValueError(f"{payload_bytes} bytes of images for {len(starts)} windows")
        return cls(starts, shape)


def send(stream: IO[bytes], header: dict[str, Any], images: Float32 | npt.NDArray[np.uint8] | None = None) -> None:
    """Write one message and flush it.

    Args:
        stream: a pipe.
        header: anything JSON holds.
        images: float32 array, contiguous; its shape belongs into the header. Or bytes of a file.
    """
    text = json.dumps(header).encode("ascii")
    stream.write(_FRAME.pack(len(text), 0 if images is None else images.nbytes) + text)
    if images is not None:
        stream.write(images.data.cast("B"))
    stream.flush()


def receive_header(stream: IO[bytes]) -> tuple[dict[str, Any], int] | None:
    """Read a header and the number of payload bytes behind it.

    None where the other side has gone, or speaks nonsense, after which nothing it sends can be read.
    """
    frame = stream.read(_FRAME.size)
    if len(frame) < _FRAME.size:
        return None
    header_bytes, payload_bytes = _FRAME.unpack(frame)
    if header_bytes > _MAX_HEADER:
        return None
    text = stream.read(header_bytes)
    try:
        header = json.loads(text) if len(text) == header_bytes else None
    except (ValueError, RecursionError):
        return None
    return (header, payload_bytes) if isinstance(header, dict) else None


def receive_images(stream: IO[bytes], shape: tuple[int, ...]) -> Float32 | None:
    """Read a payload straight into a new float32 array of `shape`; None where the other side has gone."""
    images = np.empty(shape, dtype=np.float32)
    view = images.data.cast("B")
    while view:
        n = stream.readinto(view)  # type: ignore[attr-defined]
        if not n:
            return None
        view = view[n:]
    return images
