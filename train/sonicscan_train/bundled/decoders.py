"""Small convolutional autoencoders: people's music beside the same music through a generator's kind of decoder.

Where a pair differs in nothing but the decoder, the decoder is all there is to learn. Upsampling
by transposed convolutions leaves traces that depend on the strides (Odena, Dumoulin, Olah, "Deconvolution
and checkerboard artifacts", 2016; Afchar et al., "AI-generated music detection and its challenges", 2025), so each
set of strides is one more generator, and each is heard at several sampling rates. The autoencoders are
trained here, on the people's training excerpts alone, with a loss on spectra at several resolutions.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr
import torch
from torch import Tensor, nn

from sonicscan.spec import AudioSpec
from sonicscan_train.bundled.corpus import Int16, to_int16, to_length

Float32 = npt.NDArray[np.float32]

STRIDES = ((8, 5, 4, 2), (2, 4, 8, 8), (4, 4, 4, 4), (8, 8, 4, 2))
RATES = (16000, 22050, 24000, 32000)
WIDTHS = (16, 32, 64, 96, 128)
LATENT = 64
SPECTRA = (256, 1024, 2048)
STEPS, BATCH, CROP, LEARNING_RATE = 600, 8, 15360, 2e-3


class Residual(nn.Module):
    """x + conv(conv(x)), the first convolution dilated."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ELU(),
            nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation),
            nn.ELU(),
            nn.Conv1d(width, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[n, width, samples] to the same shape."""
        y: Tensor = x + self.layers(x)
        return y


class Autoencoder(nn.Module):
    """[n, 1, samples] through `LATENT` channels at 1 / prod(strides) of the rate and back."""

    def __init__(self, strides: tuple[int, ...]) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(WIDTHS))
        down: list[nn.Module] = [nn.Conv1d(1, WIDTHS[0], 7, padding=3)]
        for (inputs, outputs), stride in zip(pairs, reversed(strides), strict=True):
            down += [Residual(inputs, 1), nn.ELU()]
            down += [nn.Conv1d(inputs, outputs, 2 * stride, stride, padding=(stride + 1) // 2)]
        self.encoder = nn.Sequential(*down, nn.ELU(), nn.Conv1d(WIDTHS[-1], LATENT, 3, padding=1))
        up: list[nn.Module] = [nn.Conv1d(LATENT, WIDTHS[-1], 7, padding=3)]
        for (outputs, inputs), stride in zip(reversed(pairs), strides, strict=True):
            up += [nn.ELU(), nn.ConvTranspose1d(inputs, outputs, 2 * stride, stride, padding=(stride + 1) // 2)]
            up += [Residual(outputs, 1), Residual(outputs, 3)]
        self.decoder = nn.Sequential(*up, nn.ELU(), nn.Conv1d(WIDTHS[0], 1, 7, padding=3))

    def forward(self, x: Tensor) -> Tensor:
        """float32 of the same shape, or a few samples off it."""
        latent = torch.tanh(self.encoder(x))
        if self.training:
            latent = latent + 0.05 * torch.randn_like(latent)  # coarse, as if it were quantised
        y: Tensor = self.decoder(latent)
        return nn.functional.pad(y, (0, x.shape[-1] - y.shape[-1]))


def spectral_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """Mean difference of magnitudes and of their logarithms, over the resolutions of `SPECTRA`."""
    total = torch.zeros(())
    for n_fft in SPECTRA:
        window = torch.hann_window(n_fft)
        a, b = (
            torch.stft(x[:, 0], n_fft, n_fft // 4, window=window, return_complex=True).abs() for x in (made, wanted)
        )
        total = total + (a - b).norm() / b.norm().clamp_min(1e-6)
        total = total + ((a + 1e-3).log() - (b + 1e-3).log()).abs().mean()
    return total / len(SPECTRA)


def train_decoder(
    audio: Int16, strides: tuple[int, ...], seed: int, say: Callable[[str], None], steps: int = STEPS
) -> Autoencoder:
    """An autoencoder of crops of `audio` [n, samples]; the samples' rate plays no part."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = Autoencoder(strides)
    optimiser = torch.optim.AdamW(network.parameters(), LEARNING_RATE)
    network.train()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / 50, (steps - step) / (0.5 * steps))
        rows = rng.integers(len(audio), size=BATCH)
        starts = rng.integers(audio.shape[1] - CROP, size=BATCH)
        crops = np.stack([audio[r, s : s + CROP] for r, s in zip(rows, starts, strict=True)])
        x = torch.from_numpy(crops.astype(np.float32) / 32768.0)[:, None]
        with torch.autocast("cpu", torch.bfloat16):
            made = network(x)
        loss = spectral_loss(made.float(), x) + 2.0 * (made.float() - x).abs().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        if (step + 1) % 100 == 0:
            say(f"decoder {strides} step {step + 1} loss {loss.item():.3f}")
    return network.eval()


@torch.no_grad()
def decoded(network: Autoencoder, sound: Int16, rate: int, played: int) -> Int16:
    """`sound` (at `rate`) through the autoencoder as if it ran at `played` samples a second; same length."""
    samples = sound.astype(np.float32) / 32768.0
    at_rate = soxr.resample(samples, rate, played) if played != rate else samples
    made = network(torch.from_numpy(at_rate)[None, None])[0, 0].numpy()
    back = soxr.resample(made, played, rate) if played != rate else made
    return to_int16(to_length(back.astype(np.float32), len(sound)))


def cache_decoded(
    audio: Int16, rows: list[int], index: int, seed: int, out: Path, spec: AudioSpec, say: Callable[[str], None]
) -> Int16:
    """int16 [rows, samples]: `audio[rows]` through the autoencoder of `STRIDES[index]`, made on the first call."""
    path = out / f"decoder_{index}.npy"
    if not path.exists():
        network = train_decoder(audio[rows], STRIDES[index], seed + index, say)
        rng = np.random.default_rng([seed, index])
        made = np.zeros((len(rows), audio.shape[1]), np.int16)
        for i, row in enumerate(rows):
            made[i] = decoded(network, audio[row], spec.sample_rate, int(rng.choice(RATES)))
        temporary = path.with_suffix(".tmp.npy")
        np.save(temporary, made)
        temporary.replace(path)
    cached: Int16 = np.load(path, mmap_mode="r")
    return cached
