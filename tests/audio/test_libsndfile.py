"""Reading by libsndfile: whatever the blocks and the seeks, the samples are those of the file read at once."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from synthesis import music

from sonicscan.audio.libsndfile import SndfileSource

SECONDS = 40

# Sample rate, channels, and how to write: at the lowest bit rates, an MP3 frame depends on many others.
LOW_MP3 = [
    (rate, channels, mode, level)
    for rate in (8000, 16000, 22050, 24000, 32000, 44100, 48000)
    for channels, mode, level in ((1, "VARIABLE", 0.99), (2, "VARIABLE", 0.99), (1, "CONSTANT", 0.9))
]


def rhythm(rate: int, channels: int) -> np.ndarray:
    """Notes with a burst of noise in every third second, so that frames differ in what they need."""
    rng = np.random.default_rng(rate)
    noise = 0.05 * rng.standard_normal((SECONDS * rate, channels))
    noise[np.arange(SECONDS * rate) // rate % 3 > 0] = 0.0
    return music(SECONDS, rate, channels) + noise.astype(np.float32)


def read_at_once(path: Path) -> np.ndarray:
    return np.asarray(soundfile.read(path, dtype="float32", always_2d=True)[0].mean(axis=1))


def largest_gap_of_blocks(path: Path, block: int) -> float:
    whole, at, gap = read_at_once(path), 0, 0.0
    with contextlib.closing(SndfileSource(io.FileIO(path))) as source:
        while len(part := source.read(block)):
            gap = max(gap, float(np.abs(part - whole[at : at + len(part)]).max()))
            at += len(part)
    assert at == len(whole)
    return gap


def largest_gap_of_seeks(path: Path, seed: int) -> float:
    """Of many short pieces, with a tenth of a second to several seconds between them."""
    whole, at, gap, pieces = read_at_once(path), 0, 0.0, 0
    rng = np.random.default_rng(seed)
    with contextlib.closing(SndfileSource(io.FileIO(path))) as source:
        while True:
            at += round(float(rng.exponential(1.5)) * source.sample_rate)
            n = int(rng.integers(100, source.sample_rate))
            if at + n > len(whole):
                break
            source.seek(at)
            part = np.concatenate([source.read(n // 2), source.read(n - n // 2)])
            assert len(part) == n
            gap = max(gap, float(np.abs(part - whole[at : at + n]).max()))
            at += n
            pieces += 1
    assert pieces >= 5
    return gap


@pytest.mark.parametrize(("rate", "channels", "mode", "level"), LOW_MP3)
def test_an_mp3_of_the_lowest_bit_rate_is_exact(
    rate: int, channels: int, mode: str, level: float, tmp_path: Path
) -> None:
    path = tmp_path / "low.mp3"
    with soundfile.SoundFile(path, "w", rate, channels, compression_level=level, bitrate_mode=mode) as file:
        file.write(rhythm(rate, channels))
    assert largest_gap_of_blocks(path, 4096) < 1e-6
    assert max(largest_gap_of_seeks(path, seed) for seed in range(5)) < 1e-6


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (16000, 1), (22050, 2), (44100, 2)])
def test_vorbis_is_exact(rate: int, channels: int, tmp_path: Path) -> None:
    path = tmp_path / "track.ogg"
    with soundfile.SoundFile(path, "w", rate, channels) as file:
        for second in np.split(rhythm(rate, channels), SECONDS):
            file.write(second)
    assert largest_gap_of_blocks(path, 4096) < 1e-6
    assert max(largest_gap_of_seeks(path, seed) for seed in range(5)) < 1e-6


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_the_end_of_vorbis_is_exact(rate: int, tmp_path: Path) -> None:
    """The position of the last page follows from the track's end, which cuts off the last block."""
    path = tmp_path / "track.ogg"
    with soundfile.SoundFile(path, "w", rate, 1) as file:
        file.write(rhythm(rate, 1)[: round(9.3 * rate)])
    whole = read_at_once(path)
    for seconds in np.arange(0.1, 5.0, 0.1):
        start = len(whole) - round(seconds * rate)
        with contextlib.closing(SndfileSource(io.FileIO(path))) as source:
            source.seek(start)
            assert np.abs(source.read(len(whole)) - whole[start:]).max() < 1e-6


@pytest.mark.parametrize("suffix", ["flac", "wav", "aiff"])
def test_lossless_files_are_exact(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"track.{suffix}"
    soundfile.write(path, rhythm(44100, 2), 44100)
    assert largest_gap_of_blocks(path, 4096) < 1e-6
    assert largest_gap_of_seeks(path, 0) < 1e-6


@pytest.mark.parametrize("suffix", ["wav", "aiff", "caf"])
@pytest.mark.parametrize(("subtype", "kind"), [("PCM_16", np.int16), ("PCM_32", np.int32)])
def test_integers_become_the_same_floats_as_in_libsndfile(
    suffix: str, subtype: str, kind: type[np.signedinteger], tmp_path: Path
) -> None:
    path, limits = tmp_path / f"track.{suffix}", np.iinfo(kind)
    values = np.linspace(limits.min, limits.max, 65536).astype(kind)  # all there are of 16 bits
    soundfile.write(path, values, 44100, subtype=subtype)
    with contextlib.closing(SndfileSource(io.FileIO(path))) as source:
        assert source.codec == subtype.lower()
        found = np.concatenate([source.read(50_000), source.read(50_000)])
        assert not len(source.read(1))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, soundfile.read(path, dtype="float32")[0])
