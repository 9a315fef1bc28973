"""An obvious script to compare with: librosa, and timm in eager PyTorch, 16 windows at a time.

    python benchmarks/obvious_script.py FOLDER

It scores the windows of `sonicscan --windows all`. The other benchmarks import it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import numpy.typing as npt

from sonicscan.spec import AudioSpec

Float32 = npt.NDArray[np.float32]

BATCH = 16


def log_mel(samples: Float32, spec: AudioSpec, top_db: float | None) -> Float32:
    """A window's mel decibels, float32 [n_mels, n_frames], by librosa alone."""
    power = librosa.feature.melspectrogram(
        y=samples,
        sr=spec.sample_rate,
        n_fft=spec.n_fft,
        hop_length=spec.hop_length,
        n_mels=spec.n_mels,
        fmin=spec.fmin,
        fmax=spec.fmax,
        pad_mode="constant",
    )
    decibels: Float32 = librosa.power_to_db(power, ref=1.0, amin=spec.db_floor, top_db=top_db)
    return decibels


def log_mel_image(samples: Float32, spec: AudioSpec) -> Float32:
    """The same, standardised, of a window that may end before its time."""
    decibels = log_mel(librosa.util.fix_length(samples, size=spec.window_samples), spec, spec.top_db)
    image: Float32 = (decibels - decibels.mean()) / (decibels.std() + 1e-6)
    return image


def images_of(path: Path, spec: AudioSpec) -> Iterator[Float32]:
    """Every whole window of a file."""
    sound, _ = librosa.load(path, sr=spec.sample_rate, mono=True)
    length = spec.window_samples
    for start in range(0, max(len(sound) - length, 0) + 1, length):
        yield log_mel_image(sound[start : start + length], spec)


def logits_of(path: Path, network: Any, spec: AudioSpec) -> Float32:
    """The network's logits for every window, float32 [windows, classes]."""
    import torch

    images = list(images_of(path, spec))
    logits = []
    with torch.inference_mode():
        for start in range(0, len(images), BATCH):
            batch = torch.from_numpy(np.stack(images[start : start + BATCH]))
            out: Any = network(batch[:, None].repeat(1, 3, 1, 1))
            logits.append((out[0] if isinstance(out, tuple) else out).numpy())
    return np.concatenate(logits)


def main(paths: Iterable[Path]) -> None:
    import timm

    network = timm.create_model("lambda_resnet26rpt_256", pretrained=False, num_classes=2).eval()
    for path in paths:
        print(f"{np.mean(logits_of(path, network, AudioSpec())[:, 1]):.4f}  {path}")


if __name__ == "__main__":
    main(sorted(path for path in Path(sys.argv[1]).rglob("*") if path.suffix in (".mp3", ".ogg", ".flac", ".wav")))
