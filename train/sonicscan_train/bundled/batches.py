"""Training batches: both classes equal, generators and human sources balanced, the same for a given step.

A batch depends on the seed and the step alone, so a run that is interrupted goes on exactly as it would have.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sonicscan.spec import AudioSpec
from sonicscan_train.bundled.augment import TO_NEPER, Augmentation, augment
from sonicscan_train.bundled.corpus import Excerpt, Int16, excerpt_samples
from sonicscan_train.bundled.melcache import MelFrames, start_frames, window_decibels

# What people upload comes from these far more than from research models, so they weigh more. Each of
# our own decoders is one generator in many copies and weighs half.
BOOST = {"Suno": 2.0, "Suno(user)": 2.0, "ElevenLabs-Music": 2.0, "Udio": 1.5}
OWN_BOOST = 0.5
OWN = "own:"  # prefix of the sources that are made here


@dataclass(frozen=True)
class Pool:
    """Excerpts in one or several versions, with the same rows in `samples` and `decibels` for each version.

    A pool whose excerpts have another pool's paths as their groups holds partners: the same music, decoded.
    """

    excerpts: list[Excerpt]
    versions: list[tuple[Int16, Int16]]  # (samples, decibels); row i of every version is excerpts[i]


@dataclass(frozen=True)
class Sampling:
    """How batches are drawn.

    Attributes:
        batch: windows, half of each class.
        first_version: share of windows from version 0, the sound as it came.
        source_power: a source of n excerpts is drawn with weight n to this power, a group within it likewise.
        p_layer, layer_db: share of windows over which another of the same class is played, and by how much softer
            it is, in dB: two people's recordings at once are by people, and no track can be learnt by heart.
        p_mixup, mixup_alpha: share of windows whose images are averaged with any other of the batch, and the Beta
            of their shares.
        reference_boost: factor on people's sources that share a group with a generator: the same music with
            and without a decoder, and studio music, of which there is less than of game music.
        boost: factors on sources' weights.
        paired: a window by one of our own decoders comes with the same moment of what it was made from, in the
            other half of the batch: the decoder is then all there is to learn.
    """

    batch: int = 32
    first_version: float = 0.4
    source_power: float = 0.5
    p_layer: float = 0.25
    layer_db: tuple[float, float] = (-20.0, 0.0)
    p_mixup: float = 0.25
    mixup_alpha: float = 0.4
    reference_boost: float = 3.0
    boost: Mapping[str, float] = field(default_factory=lambda: dict(BOOST))
    paired: bool = False


def references(excerpts: list[Excerpt]) -> set[str]:
    """People's sources of which an excerpt has a partner that went through a generator or codec."""
    decoded = {e.group for e in excerpts if e.is_ai}
    return {e.source for e in excerpts if not e.is_ai and e.group in decoded}


def weights(excerpts: list[Excerpt], sampling: Sampling) -> npt.NDArray[np.float64]:
    """Probability of each excerpt: n^power for a source of n, the same for groups within it; classes equal."""
    sources = Counter((e.is_ai, e.source) for e in excerpts)
    groups = Counter((e.is_ai, e.source, e.group) for e in excerpts)
    within: defaultdict[tuple[bool, str], float] = defaultdict(float)
    for (is_ai, source, _), n in groups.items():
        within[is_ai, source] += n**sampling.source_power
    raw = np.array(
        [
            sampling.boost.get(e.source, 1.0)
            * sources[e.is_ai, e.source] ** sampling.source_power
            * groups[e.is_ai, e.source, e.group] ** (sampling.source_power - 1.0)
            / within[e.is_ai, e.source]
            for e in excerpts
        ]
    )
    ai = np.array([e.is_ai for e in excerpts])
    for side in (ai, ~ai):
        raw[side] /= 2.0 * raw[side].sum()
    return raw


class Batches:
    """Draws the batch of a step."""

    def __init__(
        self, pools: list[Pool], spec: AudioSpec, sampling: Sampling, augmentation: Augmentation, seed: int
    ) -> None:
        self._pools = pools
        self._owner = [(p, i) for p, pool in enumerate(pools) for i in range(len(pool.excerpts))]
        self.excerpts = [e for pool in pools for e in pool.excerpts]
        boosted = dict(sampling.boost) | dict.fromkeys(references(self.excerpts), sampling.reference_boost)
        boosted |= {e.source: OWN_BOOST for e in self.excerpts if e.source.startswith(OWN)}
        self._weights = weights(self.excerpts, dataclasses.replace(sampling, boost=boosted))
        self._ai = np.array([e.is_ai for e in self.excerpts])
        self._spec, self._sampling, self._augmentation, self._seed = spec, sampling, augmentation, seed
        self._mel = MelFrames(spec)
        self._samples = excerpt_samples(spec)
        originals = {e.path: i for i, e in enumerate(self.excerpts) if not e.is_ai}
        self._partner = [originals.get(e.group, -1) if e.is_ai else -1 for e in self.excerpts]

    def __call__(self, step: int, frames: int) -> tuple[Tensor, Tensor]:
        """Images float32 [batch, 1, 256, frames] and the probability of `ai` that each should get, [batch].

        `frames` under 256 gives random parts of the windows: the network pools over time, so it learns
        from half a window in half the time.
        """
        rng = np.random.default_rng([self._seed, step])
        half = self._sampling.batch // 2
        rows = np.concatenate(
            [rng.choice(np.flatnonzero(self._ai == label), half, p=2.0 * self._weights[self._ai == label])
             for label in (False, True)]
        )  # fmt: skip
        together = np.zeros(len(rows), dtype=bool)
        if self._sampling.paired:
            starts = self._starts(len(rows), rng)
            for i in range(half, len(rows)):
                partner = self._partner[rows[i]]
                if partner >= 0:
                    rows[i - half], starts[i - half], together[i - half] = partner, starts[i], True
            picks = rng.random((len(rows), 2))
        else:
            picks = rng.random((len(rows), 2))
            starts = self._starts(len(rows), rng)
        samples, decibels = [], []
        for row, (draw, pick), clean in zip(rows, picks, together, strict=True):
            pool_index, i = self._owner[row]
            versions = self._pools[pool_index].versions
            first = clean or draw < self._sampling.first_version or len(versions) == 1
            version = versions[0 if first else 1 + int(pick * (len(versions) - 1))]
            samples.append(version[0][i])
            decibels.append(version[1][i])
        images = torch.from_numpy(window_decibels(np.stack(decibels), np.stack(samples), starts, self._mel))
        part = int(rng.integers(images.shape[2] - frames + 1))
        images = self._layered(images[:, :, part : part + frames], half, rng)
        torch_rng = torch.Generator().manual_seed(int(rng.integers(2**62)))
        images = augment(images, self._augmentation, self._spec, torch_rng)
        target = torch.from_numpy(self._ai[rows].astype(np.float32))
        share = torch.from_numpy(rng.beta(self._sampling.mixup_alpha, self._sampling.mixup_alpha, len(rows))).float()
        mixed = torch.from_numpy(rng.random(len(rows)) < self._sampling.p_mixup)
        share = torch.where(mixed, share, torch.ones(1))
        other = torch.from_numpy(rng.permutation(len(rows)))
        images = images * share.view(-1, 1, 1) + images[other] * (1.0 - share).view(-1, 1, 1)
        images = images - images.mean(dim=(1, 2), keepdim=True)
        images = images / images.std(dim=(1, 2), keepdim=True).clamp_min(1e-3)
        return images[:, None], target * share + target[other] * (1.0 - share)

    def _starts(self, n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        return rng.integers(start_frames(self._samples, self._spec), size=n)

    def _layered(self, decibels: Tensor, half: int, rng: np.random.Generator) -> Tensor:
        """Some windows with another of their class played over them; the first `half` are one class."""
        decibels = decibels - decibels.amax(dim=(1, 2), keepdim=True)
        chosen = np.flatnonzero(rng.random(len(decibels)) < self._sampling.p_layer)
        over = np.array([rng.integers(half) + half * (i >= half) for i in chosen], dtype=np.int64)
        gain = torch.from_numpy(rng.uniform(*self._sampling.layer_db, size=len(chosen))).float().view(-1, 1, 1)
        layered = decibels.clone()
        if len(chosen):
            # Powers add: two sounds that know nothing of each other have no common phase.
            layered[chosen] = (
                torch.logaddexp(decibels[chosen] * TO_NEPER, (decibels[over] + gain) * TO_NEPER) / TO_NEPER
            )
        return layered
