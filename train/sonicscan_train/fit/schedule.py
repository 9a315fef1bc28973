"""The progress of a run, and the values that depend on it: learning rate, mean over epochs and end of the run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from sonicscan_train.fit.recipes import Recipe


@dataclass(frozen=True)
class Schedule:
    """Progress by steps, or by the clock where a run must end at a given time.

    Attributes:
        recipe: rates and shares.
        total: steps of the whole run; not used if `until` is given.
        began, until: seconds since 1970; the run ends at `until`. None counts steps.
        now: the clock.
    """

    recipe: Recipe
    total: int
    began: float = 0.0
    until: float | None = None
    now: Callable[[], float] = time.time

    def progress(self, step: int) -> float:
        """Share of the run that is done before the 0-based `step`; 1 and over is the end."""
        if self.until is None:
            return step / self.total
        return (self.now() - self.began) / max(self.until - self.began, 1e-9)

    def in_mean(self, steps: int) -> bool:
        """Whether the weights after `steps` steps of the run count for the mean over epochs."""
        return self.recipe.mean_from is not None and self.progress(steps) > self.recipe.mean_from

    def rate(self, step: int) -> float:
        """The learning rate of a step: linear warm-up, then constant or half a cosine to zero."""
        recipe = self.recipe
        warmup = recipe.warmup_steps or (round(recipe.warmup * self.total) if self.until is None else 0)
        rising = min(1.0, (step + 1) / warmup) if warmup else 1.0
        if recipe.schedule == "constant":
            return recipe.lr * rising
        begins = 0.0 if self.until is not None else warmup / self.total
        fallen = min(1.0, max(0.0, (self.progress(step) - begins) / max(1.0 - begins, 1e-9)))
        return recipe.lr * min(rising, 0.5 * (1.0 + math.cos(math.pi * fallen)))
