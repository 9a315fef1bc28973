"""The networks whose mean the bundled model is, and what each was trained with."""

from __future__ import annotations

from dataclasses import dataclass

DATA_SEED = 20261122  # of the versions of the sound, which all members train on


@dataclass(frozen=True)
class Member:
    """One network.

    Attributes:
        whiten: mel rows over which the mean spectrum is smoothed that it does not see; 0: it sees all.
        steps: of its training.
        seed: of its weights and batches.
        paired: as in `Sampling`.
    """

    whiten: int
    steps: int
    seed: int
    paired: bool


# Differences between members, not their number, make a mean better than they are.
MEMBERS = (
    Member(whiten=0, steps=7000, seed=20261123, paired=False),
    Member(whiten=31, steps=7000, seed=20261124, paired=False),
    Member(whiten=31, steps=5000, seed=20261123, paired=True),
)
