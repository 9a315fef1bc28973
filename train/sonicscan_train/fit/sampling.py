"""Which clips are drawn, and how often."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sonicscan_train.data.clips import Clip, of_source
from sonicscan_train.fit.recipes import Sampling


def sampling_weights(clips: Sequence[Clip], sampling: Sampling) -> npt.NDArray[np.float64]:
    """Probability of each clip; people's music and the rest have half of it each."""
    sources = Counter((clip.human, clip.source) for clip in clips)
    groups = Counter((clip.human, clip.source, clip.group) for clip in clips)
    within: defaultdict[tuple[bool, str], float] = defaultdict(float)
    for (human, source, _), n in groups.items():
        within[human, source] += n**sampling.group_power
    also_people = references(clips)
    factors = {
        (human, source): of_source(source, sampling.boosts, 1.0)
        * (sampling.reference_boost if human and source in also_people else 1.0)
        for human, source in sources
    }
    weights = np.array(
        [
            factors[clip.human, clip.source]
            * sources[clip.human, clip.source] ** sampling.source_power
            * groups[clip.human, clip.source, clip.group] ** (sampling.group_power - 1.0)
            / within[clip.human, clip.source]
            for clip in clips
        ]
    )
    people = np.array([clip.human for clip in clips])
    for side in (people, ~people):
        weights[side] /= 2 * weights[side].sum()
    probabilities: npt.NDArray[np.float64] = weights / weights.sum()
    return probabilities


def references(clips: Sequence[Clip]) -> set[str]:
    """People's sources of which a clip shares its group with one that people did not make."""
    decoded = {clip.group for clip in clips if not clip.human}
    return {clip.source for clip in clips if clip.human and clip.group in decoded}
