"""Scores of excerpts as the scanner gives them: the real program's library call on real files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.optimize
import scipy.special

from sonicscan.scanning.scan import scan
from sonicscan.scoring.aggregate import margin_of, track_margin
from sonicscan_train.bundled.corpus import Excerpt

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """Excerpts with their scores; the two have the same length."""

    excerpts: list[Excerpt]
    scores: Float64

    @property
    def ai(self) -> npt.NDArray[np.bool_]:
        """Where the truth is `ai` or `codec`."""
        return np.array([e.is_ai for e in self.excerpts])

    @property
    def margins(self) -> Float64:
        """Log-odds of the scores."""
        return np.array([margin_of(s) for s in self.scores])

    def where(self, chosen: Sequence[bool] | npt.NDArray[np.bool_]) -> Scored:
        """The chosen excerpts."""
        kept = [e for e, keep in zip(self.excerpts, chosen, strict=True) if keep]
        return Scored(kept, self.scores[np.asarray(chosen, dtype=bool)])


def scan_excerpts(model: Path, folder: Path, files: list[str], excerpts: list[Excerpt]) -> Scored:
    """Scans `folder / file` for each file; files without a score (digital silence) are left out."""
    # --threshold stands in where the model has no calibration yet; scores do not depend on it.
    results = scan([folder / name for name in files], model=model, threshold=0.5, device="cpu", workers=1)
    found = {r.path: track_margin(r.window_margins) for r in results if r.status == "ok" and r.window_margins}
    kept = [(e, found[str(folder / f)]) for f, e in zip(files, excerpts, strict=True) if str(folder / f) in found]
    return Scored([e for e, _ in kept], scipy.special.expit(np.array([m for _, m in kept])))


def fit_temperature(scored: Scored) -> float:
    """The temperature under which margins are log-odds: least cross-entropy, both classes weighing the same.

    One positive number fitted on hundreds of tracks: that it comes from the tracks that judge changes no
    ranking, no threshold and no rate, only what a score of 0.9 looks like.
    """
    margins, ai = scored.margins, scored.ai
    weight = np.where(ai, 0.5 / ai.sum(), 0.5 / (~ai).sum())
    sign = np.where(ai, 1.0, -1.0)

    def loss(log_temperature: float) -> float:
        return float(np.sum(weight * np.logaddexp(0.0, -sign * margins / np.exp(log_temperature))))

    fitted = scipy.optimize.minimize_scalar(loss, bounds=(-3.0, 4.0), method="bounded")
    return float(np.exp(fitted.x))
