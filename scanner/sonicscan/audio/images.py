"""Turns a sound file into the log-mel images of its windows, for scans, training, export and evidence.

file -> read_windows -> silent? -> log-mel image
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from sonicscan.arrays import Float32
from sonicscan.audio.decode import read_windows
from sonicscan.audio.facts import AudioFacts
from sonicscan.audio.melspec import LogMel, log_mel
from sonicscan.audio.windows import WindowPlan
from sonicscan.library.ranges import OpenFile
from sonicscan.spec import AudioSpec


@dataclass(frozen=True)
class WindowImage:
    """One window of a track.

    Attributes:
        start_s: start of the window, seconds into the track.
        samples: mono float32 [window_samples] at the model's sample rate.
        image: log-mel image, float32 [n_mels, n_frames]; None where the window is silent, which is never scored.
    """

    start_s: float
    samples: Float32
    image: Float32 | None


def read_images(path: bytes | OpenFile, spec: AudioSpec, plan: WindowPlan) -> Generator[WindowImage, None, AudioFacts]:
    """Decode a track and make the log-mel images of its windows.

    Args:
        path: the file's name, as bytes, or an open remote file.
        spec: the preprocessing of the model.
        plan: which windows.

    Yields:
        windows by ascending start.

    Returns:
        the track's facts (as the generator's return value).

    Raises:
        AudioError: no sound could be read, or a remote file could not be fetched.
    """
    image_of = log_mel(spec)
    windows = read_windows(path, spec, plan)
    while True:
        try:
            window = next(windows)
        except StopIteration as end:
            facts: AudioFacts = end.value
            return facts
        if not isinstance(path, bytes):
            path.check()  # a decoder treats a network failure as the end of the file
        yield window_image(window.start_s, window.samples, image_of, window.silent)


def window_image(start_s: float, samples: Float32, image_of: LogMel, silent: bool) -> WindowImage:
    """The window with its image, if it is not silent."""
    return WindowImage(start_s, samples, None if silent else image_of(samples))


def images_of(path: bytes, spec: AudioSpec, plan: WindowPlan) -> list[Float32]:
    """The images of all windows that are not silent, float32 [n_mels, n_frames] each.

    Raises:
        AudioError: no sound could be read.
    """
    return [window.image for window in read_images(path, spec, plan) if window.image is not None]
