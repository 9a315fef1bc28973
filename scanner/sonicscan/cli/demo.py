"""Synthesises short tracks in six formats, to try sonicscan without music.

python -m sonicscan.cli.demo FOLDER
"""

from __future__ import annotations

from pathlib import Path

import av
import click
import numpy as np
import soundfile

from sonicscan.arrays import Float32
from sonicscan.cli.console import Program
from sonicscan.cli.parameters import FileType
from sonicscan.errors import InputError
from sonicscan.files import replacing

SECONDS = 12.0
_RATE = 44100
_OPUS_RATE = 48000
_SCALE = (0, 2, 3, 5, 7, 8, 10)  # natural minor, semitones


def melody(seconds: float, sample_rate: int, seed: int) -> Float32:
    """Plucked notes with eight decaying harmonics each, in stereo; float32 [n, 2], peak 0.8."""
    random = np.random.default_rng(seed)
    sound = np.zeros((round(seconds * sample_rate), 2))
    step = round(0.25 * sample_rate)
    for start in range(0, len(sound), step):
        semitones = 12 * random.integers(0, 3) + _SCALE[random.integers(len(_SCALE))]
        pitch = 82.4 * 2.0 ** (semitones / 12)
        time = np.arange(min(4 * step, len(sound) - start)) / sample_rate
        note = sum(np.exp(-(2.0 + k) * time) * np.sin(2 * np.pi * k * pitch * time) / k for k in range(1, 9))
        left = random.uniform(0.2, 0.8)
        sound[start : start + len(time)] += np.outer(note, [left, 1.0 - left])
    sound *= 0.8 / np.abs(sound).max()
    return np.asarray(sound, dtype=np.float32)


def write_sound(path: Path, sound: Float32, sample_rate: int = _RATE) -> Path:
    """Write sound, float32 [n] or [n, channels], with libsndfile in the format of the suffix; returns the path."""
    kind = {"format": "OGG", "subtype": "OPUS"} if path.suffix == ".opus" else {"format": path.suffix[1:].upper()}
    channels = 1 if sound.ndim == 1 else sound.shape[1]
    with (
        replacing(path, sync=False) as file,
        soundfile.SoundFile(file, "w", sample_rate, channels, **kind) as encoded,
    ):
        for start in range(0, len(sound), sample_rate):  # libsndfile's Opus encoder crashes on long writes
            encoded.write(sound[start : start + sample_rate])
    return path


def make_library(folder: Path) -> list[Path]:
    """Write one track in each of wav, flac, ogg, opus, mp3 and m4a; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for seed, suffix in enumerate(("wav", "flac", "ogg", "opus", "mp3")):
        rate = _OPUS_RATE if suffix == "opus" else _RATE
        paths.append(write_sound(folder / f"melody {seed + 1}.{suffix}", melody(SECONDS, rate, seed), rate))
    paths.append(_write_m4a(folder / f"melody {len(paths) + 1}.m4a", melody(SECONDS, _RATE, len(paths))))
    return paths


def _write_m4a(path: Path, sound: Float32) -> Path:
    with replacing(path, sync=False) as file, av.open(file, "w", format="ipod") as container:
        stream = container.add_stream("aac", rate=_RATE, layout="stereo")
        frame_size = 1024
        for start in range(0, len(sound), frame_size):
            planes = np.ascontiguousarray(sound[start : start + frame_size].T)
            frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = _RATE, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@click.command(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", type=FileType())
def main(folder: Path) -> None:
    """Synthesise six short tracks into FOLDER, to try sonicscan without music."""
    try:
        make_library(folder)
    except OSError as error:
        raise InputError(f"the tracks cannot be written to {folder}: {error.strerror or error}.") from error


if __name__ == "__main__":
    main(prog_name="python -m sonicscan.cli.demo")
