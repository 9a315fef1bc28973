"""Cached excerpts: their windows equal the scanner's, and a cache is never used for other clips."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from training_sound import write_data

from sonicscan.audio.melspec import LogMel
from sonicscan.errors import InputError
from sonicscan.spec import AudioSpec
from sonicscan_train.data.caches import MelFrames, SoundCache, to_float, window_decibels
from sonicscan_train.data.datasets import load
from sonicscan_train.sound.spectrogram import standardise

SPEC = AudioSpec()


def louder_where_human(
    samples: npt.NDArray[np.float32], human: bool, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """A variant that differs from the original, and between the classes."""
    return samples[::-1] if human else samples * rng.uniform(0.1, 0.2, len(samples)).astype(np.float32)


def test_windows_from_the_cache_equal_the_scanners() -> None:
    mel = MelFrames(SPEC)
    audio = (8000 * np.random.default_rng(1).uniform(-1, 1, (2, 7 * SPEC.sample_rate))).astype(np.int16)
    cached = np.stack([mel.of_excerpt(samples) for samples in audio])
    starts = np.array([0, 37])
    images = window_decibels(cached, audio, starts, mel)
    scanners = LogMel(SPEC)
    for i, start in enumerate(starts):
        window = to_float(audio[i, start * SPEC.hop_length :][: SPEC.window_samples])
        assert np.abs(scanners.decibels(window) - images[i]).max() < 0.005
        standard = standardise(torch.from_numpy(images[i : i + 1]), SPEC)[0].numpy()
        assert np.abs(scanners(window) - standard).max() < 1e-3


def test_a_cache_is_made_once_and_its_variants_follow_from_seed_and_key(tmp_path: Path) -> None:
    clips = load([str(write_data(tmp_path / "data", 2))])
    folder = tmp_path / "cache"
    made: list[None] = []
    clean = SoundCache(folder, clips, SPEC, 6.0).clean(1, lambda: made.append(None))
    assert len(made) == 4 and clean.audio.shape == (4, int(6.0 * SPEC.sample_rate))
    assert clean.mel.shape == (4, 256, 1 + clean.audio.shape[1] // SPEC.hop_length)
    assert np.abs(clean.audio).max(axis=1).tolist() == [16000] * 4  # loudness carries no label
    again = SoundCache(folder, clips, SPEC, 6.0)
    made.clear()
    first = again.variant("1-a", louder_where_human, [7, 1], 1, lambda: made.append(None))
    assert len(made) == 4  # the clean version is there
    assert np.array_equal(first.audio[0], clean.audio[0][::-1])
    assert not np.array_equal(first.audio[2], clean.audio[2])
    assert np.array_equal(again.variant("1-b", louder_where_human, [7, 1], 1).audio, first.audio)
    assert not np.array_equal(again.variant("2-a", louder_where_human, [7, 2], 1).audio, first.audio)
    with pytest.raises(InputError, match="is a cache of other clips"):
        SoundCache(folder, clips[:3], SPEC, 6.0)
    with pytest.raises(InputError, match="holds no window"):
        SoundCache(tmp_path / "short", clips, SPEC, 2.0)
    (Path(clips[0].path)).unlink()
    with pytest.raises(InputError, match="cannot be cached"):
        SoundCache(tmp_path / "other", clips, SPEC, 6.0).clean(1)


def test_a_cache_without_room_or_with_damage_is_one_sentence(tmp_path: Path) -> None:
    """A sparse file on a full disk would end the process with a bus error: its space is taken first."""
    clips = load([str(write_data(tmp_path / "data", 1))])
    folder = tmp_path / "cache"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"cannot be written: File too large. Each version .* takes 0\.0008\d GB"):
            SoundCache(folder, clips, SPEC, 6.0).clean(1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(path.name for path in folder.iterdir()) == ["cache.json", "cache.lock"]
    found = SoundCache(folder, clips, SPEC, 6.0).clean(1)
    blocks = (folder / "audio.npy").stat().st_blocks * 512
    assert blocks >= found.audio.nbytes
    for name, left in (("mel.npy", 1000), ("audio.npy", 0), ("cache.json", 5)):
        os.truncate(folder / name, left)
        with pytest.raises(InputError, match="is damaged"):
            SoundCache(folder, clips, SPEC, 6.0).clean(1)
    with pytest.raises(InputError, match=r"audio\.npy cannot be made: File exists"):
        SoundCache(folder / "audio.npy", clips, SPEC, 6.0)
