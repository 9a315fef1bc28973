"""The networks whose mean `sonicnet_s` is, Lambda, which learns from them, and what each was trained with."""

from __future__ import annotations

from dataclasses import dataclass

from sonicscan_train.bundled.network import WHITEN_ROWS

DATA_SEED = 20261122  # of the versions of the sound, which all members train on


@dataclass(frozen=True)
class Member:
    """One network.

    Attributes:
        whiten: mel rows over which the mean spectrum is smoothed that it does not see; 0: it sees all.
        steps: of its training.
        seed: of its weights and batches.
        paired: as in `Sampling`.
        p_warp: as in `Augmentation`.
        ships: whether it is part of the mean; one that is not teaches, or was the worse.
    """

    whiten: int
    steps: int
    seed: int
    paired: bool
    p_warp: float = 0.0
    ships: bool = True

    @property
    def name(self) -> str:
        """A for the first of `MEMBERS`, as the model card has them."""
        return chr(ord("A") + MEMBERS.index(self))


@dataclass(frozen=True)
class Student:
    """Lambda, in the image that the members see, taught by some of them.

    Attributes:
        steps, seed, p_warp: as a member's.
        learning_rate, average_decay: as in `Schedule`.
        teachers: which members.
        share: how much of its target is what they say.
    """

    steps: int
    seed: int
    p_warp: float
    learning_rate: float
    average_decay: float
    teachers: tuple[int, ...]
    share: float


# A to E. Differences between members, not their number, make a mean better than they are.
MEMBERS = (
    Member(whiten=0, steps=7000, seed=20261123, paired=False, ships=False),
    Member(whiten=WHITEN_ROWS, steps=7000, seed=20261124, paired=False),
    Member(whiten=WHITEN_ROWS, steps=5000, seed=20261123, paired=True, ships=False),
    Member(whiten=WHITEN_ROWS, steps=14000, seed=20261125, paired=False, p_warp=0.5),
    Member(whiten=0, steps=7000, seed=20261126, paired=False, p_warp=0.5),
)
LAMBDA = Student(
    steps=2400,
    seed=20261125,
    p_warp=0.5,
    learning_rate=1e-3,
    average_decay=0.997,
    teachers=(0, 1, 2),
    share=0.5,
)
