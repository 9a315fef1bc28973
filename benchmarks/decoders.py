"""What decoding costs: by reader, by size of block, by build of libsndfile, and with one resampler for all windows.

    python benchmarks/decoders.py [readers|blocks|builds|resampler] [--library FOLDER] [--rounds N] [--other FILE]

All times are processor time of tracks of three minutes, measured in turns; medians of the rounds. It prints:
    readers    Ogg Vorbis and Opus from start to end, by libsndfile and FFmpeg, and whether their samples agree
    blocks     preparing 12 windows and all windows with blocks of other sizes, by codec; without the bandwidth,
               which is measured once for each block of over a second
    builds     reading from start to end, by the libsndfile of soundfile's wheel and by another one
    resampler  making a resampler, and preparing with a new one for each window or one for all
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import contextlib
import functools
import importlib.util
import io
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TypeVar
from unittest import mock

import numpy as np
import soundfile
import soxr
from material import add_folders, library, quiet_decoders, sound_files, tracks
from paired import cpu, in_turns, machine, median, parser, ratio

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from sounds import encode

from sonicscan.audio import decode, facts
from sonicscan.audio.ffmpeg import AvSource
from sonicscan.audio.images import images_of
from sonicscan.audio.libsndfile import SndfileSource
from sonicscan.audio.sources import Source
from sonicscan.audio.windows import WindowPlan
from sonicscan.spec import AudioSpec

_Found = TypeVar("_Found")
Reader = Callable[[io.FileIO], Source]

READERS: dict[str, Reader] = {"libsndfile": SndfileSource, "FFmpeg": AvSource}
SUFFIXES = [".mp3", ".ogg", ".flac", ".wav", ".opus"]
BLOCKS = [8192, 16384, 32768, 65536, 131072, 262144]
PLANS = {"12 windows": WindowPlan(12), "all windows": WindowPlan.parse("all")}
SPEC = AudioSpec()


def readers(options: Namespace) -> None:
    for codec, suffix, paths in (
        ("Vorbis", ".ogg", tracks(options, [180.0] * 4, [".mp3", ".ogg"])[1::2]),
        ("Opus", ".opus", tracks(options, [180.0] * 2, [".opus"])),
    ):
        times = in_turns(
            *(functools.partial(_reading, reader, paths) for reader in READERS.values()), rounds=options.rounds or 5
        )
        short = [path for path in sound_files(library(options)) if path.suffix == suffix]
        pairs = [[_samples(reader, path) for reader in READERS.values()] for path in paths + short]
        windows = 180.0 * len(paths) / 5.0
        for k, name in enumerate(READERS):
            print(f"{codec}, {name}: {1000 * median(times, k) / windows:.2f} ms for five seconds")
        lengths = "equal" if all(len(a) == len(b) for a, b in pairs) else "differ"
        print(f"{codec}, {len(pairs)} files: lengths {lengths}, samples differ by at most {_gap(pairs):.1e}")


def _reading(reader: Reader, paths: Sequence[Path]) -> float:
    return cpu(lambda: [_samples(reader, path) for path in paths])


def _samples(reader: Reader, path: Path) -> np.ndarray:
    blocks = []
    with contextlib.closing(reader(io.FileIO(path))) as source:
        while len(block := source.read(65536)):
            blocks.append(block)
    return np.concatenate(blocks)


def _gap(pairs: Sequence[Sequence[np.ndarray]]) -> float:
    return max(float(np.abs(a[: len(b)] - b[: len(a)]).max()) for a, b in pairs)


@mock.patch.object(facts, "_BANDWIDTH_EVERY", 2**62)
def blocks(options: Namespace) -> None:
    now = BLOCKS.index(decode.BLOCK_FRAMES)
    for path in [*_one_of_each(options), _aac(options)]:
        for name, plan in PLANS.items():
            times = in_turns(
                *(functools.partial(_preparing, path, plan, frames) for frames in BLOCKS), rounds=options.rounds or 9
            )
            ratios = [f"{frames}: {ratio(times, k, now):.3f}" for k, frames in enumerate(BLOCKS)]
            print(f"{path.suffix[1:]}, {name}: {1000 * median(times, now):.0f} ms; by size", ", ".join(ratios))


def _preparing(path: Path, plan: WindowPlan, frames: int = decode.BLOCK_FRAMES) -> float:
    with mock.patch.object(decode, "BLOCK_FRAMES", frames):
        return cpu(lambda: images_of(bytes(path), SPEC, plan))


def _one_of_each(options: Namespace) -> list[Path]:
    return tracks(options, [180.0] * len(SUFFIXES), SUFFIXES)


def _aac(options: Namespace) -> Path:
    """The track in WAV, in MP4."""
    wav = _one_of_each(options)[SUFFIXES.index(".wav")]
    path = wav.with_suffix(".m4a")
    if not path.is_file():
        sound, rate = soundfile.read(wav, dtype="float32")
        part = path.with_name("part-" + path.name)
        encode(part, sound, rate, "aac", "ipod", bit_rate=192_000)
        part.rename(path)
    return path


def builds(options: Namespace) -> None:
    both = [soundfile, _soundfile_with(options.other)]
    print("libsndfile of the wheel and the other:", *(module.__libsndfile_version__ for module in both))
    for path in _one_of_each(options):
        times = in_turns(
            *(functools.partial(cpu, functools.partial(_through, module, path)) for module in both),
            rounds=options.rounds or 15,
        )
        gap = _gap([[module.read(path, dtype="float32")[0] for module in both]])
        print(
            f"{path.suffix[1:]}: {1000 * median(times, 0):.0f} and {1000 * median(times, 1):.0f} ms, "
            f"other / wheel {ratio(times, 1, 0):.3f}; samples differ by at most {gap:.1e}"
        )


def _soundfile_with(libsndfile: Path) -> ModuleType:
    """The module soundfile once more, without its wheel's libsndfile and so with the one that the system finds."""
    spec = importlib.util.find_spec("soundfile")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # By its path: a bare name would give the library of the same name that is loaded already.
    with (
        mock.patch.dict(sys.modules, {"_soundfile_data": None}),
        mock.patch("ctypes.util.find_library", return_value=str(libsndfile)),
    ):
        spec.loader.exec_module(module)
    return module


def _through(module: ModuleType, path: Path) -> None:
    block = np.empty((decode.BLOCK_FRAMES, 2), dtype=np.float32)
    with module.SoundFile(path) as sound:
        while sound.buffer_read_into(block, dtype="float32"):
            pass


def resampler(options: Namespace) -> None:
    new, kept = soxr.ResampleStream, functools.cache(soxr.ResampleStream)

    def cleared(*arguments: object, **settings: object) -> soxr.ResampleStream:
        stream = kept(*arguments, **settings)
        stream.clear()
        return stream

    for rate in (44100, 48000, 32000):
        make = functools.partial(new, rate, SPEC.sample_rate, 1, dtype="float32", quality="HQ")
        times = in_turns(
            *(functools.partial(cpu, functools.partial(_hundred_times, call)) for call in (make, make().clear)),
            rounds=51,
        )
        made, cleared_in = (1e4 * median(times, k) for k in (0, 1))
        print(f"a resampler from {rate} to {SPEC.sample_rate} Hz: made in {made:.0f} us, cleared in {cleared_in:.0f}")

    def with_stream(stream: Callable[..., soxr.ResampleStream], function: Callable[[], _Found]) -> _Found:
        with mock.patch.object(soxr, "ResampleStream", stream):
            return function()

    for path in _one_of_each(options):
        for name, plan in PLANS.items():
            preparing = functools.partial(_preparing, path, plan)
            times = in_turns(
                *(functools.partial(with_stream, stream, preparing) for stream in (new, cleared)),
                rounds=options.rounds or 51,
            )
            images = functools.partial(images_of, bytes(path), SPEC, plan)
            same = np.array_equal(with_stream(new, images), with_stream(cleared, images))
            print(
                f"{path.suffix[1:]}, {name}: {1000 * median(times, 0):.1f} ms; one resampler / new ones "
                f"{ratio(times, 1, 0):.4f}; images {'equal' if same else 'differ'}"
            )


def _hundred_times(call: Callable[[], object]) -> None:
    for _ in range(100):
        call()


def main() -> None:
    arguments = parser(__doc__)
    measures = {measure.__name__: measure for measure in (readers, blocks, builds, resampler)}
    arguments.add_argument("what", choices=measures, nargs="?", default="readers")
    arguments.add_argument(
        "--other", type=Path, default=Path("/usr/lib/x86_64-linux-gnu/libsndfile.so.1"), help="another libsndfile"
    )
    add_folders(arguments, "library")
    options = arguments.parse_args()
    print(machine())
    with quiet_decoders():
        measures[options.what](options)


if __name__ == "__main__":
    main()
