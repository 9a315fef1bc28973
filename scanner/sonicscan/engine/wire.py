"""Messages between the scanner and its workers: a JSON header and, behind it, raw float32 images.

Frames are `header length, payload length` (two little-endian uint32), the header, the payload. Nothing is pickled: a
worker that a hostile file controls can send only numbers and text. File names are sent with surrogate escapes, so that
every name is preserved.
"""

from __future__ import annotations

import dataclasses
import json
import math
import struct
from dataclasses import dataclass
from typing import IO, Any

import msgspec
import numpy as np
import numpy.typing as npt

from sonicscan.arrays import Float32
from sonicscan.audio.windows import WindowPlan
from sonicscan.spec import AudioSpec

READY: dict[str, object] = {"ready": True}  # the first message of a worker
CHUNK_WINDOWS = 8
MAX_SECONDS = 1e7  # more than three months
MAX_EXCERPT = 4_000_000  # samples
EXCERPT_RATE = 32000  # Hz: a rate of MP3, over twice the highest frequency of the default model
LARGEST_VALUE = 1e7  # limit on the values of an image or a sample; real values are far below it
_FRAME = struct.Struct("<II")
_MAX_HEADER = 16 << 20


@dataclass(frozen=True)
class Job:
    """The task of a worker for every file of a scan; its first message.

    Attributes:
        audio: the preprocessing.
        plan: which windows.
        hash: whether to compute the SHA-256 of the file's bytes.
        samples: whether to send the samples of every window, float32 [window_samples], instead of the images of windows
            that are not silent.
    """

    audio: AudioSpec
    plan: WindowPlan
    hash: bool = False
    samples: bool = False
    provenance: bool = False
    trust: str | None = None  # certificates of trusted roots, PEM

    def to_header(self) -> dict[str, Any]:
        return {
            "audio": dataclasses.asdict(self.audio),
            "plan": dataclasses.asdict(self.plan),
            "hash": self.hash,
            "samples": self.samples,
            "provenance": self.provenance,
            "trust": self.trust,
        }

    @classmethod
    def from_header(cls, header: dict[str, Any]) -> Job:
        plan = msgspec.convert(header["plan"], WindowPlan)
        audio = AudioSpec(**header["audio"])
        return cls(audio, plan, header["hash"], header["samples"], header["provenance"], header["trust"])

    def for_visit(self, part: tuple[int, int] | None, plan: WindowPlan | None = None) -> Job:
        """The job for one visit.

        Args:
            part: a further part of a track's windows; the hash and tags are not read again.
            plan: a window plan that replaces the job's.
        """
        job = self if plan is None else dataclasses.replace(self, plan=plan)
        if part is None:
            return job
        plan = dataclasses.replace(job.plan, part=part)
        return dataclasses.replace(job, plan=plan, hash=False, provenance=False)


@dataclass(frozen=True)
class Chunk:
    """The header of some windows of a file, whose images or samples follow as float32 of `shape` [n, ...]."""

    starts_s: list[float]
    shape: tuple[int, ...]

    @classmethod
    def from_message(
        cls, header: dict[str, Any], payload_bytes: int, job: Job, excerpts: bool = False
    ) -> Chunk | dict[str, Any]:
        """Checks a worker's message; returns a chunk, or the header itself where no values follow.

        Args:
            header, payload_bytes: as received.
            job: what the worker was asked for.
            excerpts: whether it was asked for stretches of sound, of any length up to `MAX_EXCERPT`.

        Raises:
            ValueError: the message does not fit its header or the job, or its values are impossible.
        """
        if not payload_bytes:
            return header
        starts = msgspec.convert(header.get("starts_s"), list[float])
        if not 1 <= len(starts) <= CHUNK_WINDOWS or not all(0.0 <= start <= MAX_SECONDS for start in starts):
            raise ValueError("a chunk with impossible starts")
        if excerpts:
            shape: tuple[int, ...] = (1, payload_bytes // 4)
            if len(starts) != 1 or payload_bytes > 4 * MAX_EXCERPT:
                raise ValueError("an excerpt that is too long")
        elif job.samples:
            shape = (len(starts), job.audio.window_samples)
        else:
            shape = (len(starts), job.audio.n_mels, job.audio.n_frames)
        if payload_bytes != 4 * math.prod(shape):
            raise ValueError(f"{payload_bytes} bytes of values for {len(starts)} windows")
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
    """Reads a header and the number of payload bytes behind it. Returns None where the other side has gone, or the
    header is invalid; nothing after an invalid header can be read.
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
    """Reads a payload straight into a new float32 array of `shape`. Returns None where the other side has gone, or a
    value is NaN or too large for an image or sound. Such a value would give infinite logits, which end a scan.
    """
    images = np.empty(shape, dtype=np.float32)
    view = images.data.cast("B")
    while view:
        n = stream.readinto(view)  # type: ignore[attr-defined]
        if not n:
            return None
        view = view[n:]
    largest = max(float(images.max()), -float(images.min()))
    return images if largest <= LARGEST_VALUE else None
