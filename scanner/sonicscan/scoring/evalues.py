"""Evidence about a group of tracks (an artist, an album, a folder), valid under any dependence between its tracks.

The tracks of one album are similar, so their p-values must not be multiplied. If the sound of one studio scores high,
all of its tracks have small p-values. E-values can be averaged under any dependence (Vovk and Wang 2021, "E-values:
calibration, combination and applications"). If the tracks are by people, the expectation of each e-value is at most 1,
and so is that of their mean. By Markov's inequality, a group by people reaches an e-value of 1 / a in at most a share
`a` of all draws.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sonicscan.arrays import Float64


def calibrated_e_values(p_values: npt.ArrayLike) -> Float64:
    """E-values of p-values in (0, 1]: (1 - p + p ln p) / (p ln(p)^2), the mean of k p^(k-1) over k in 0..1.

    It needs no parameter, and no other calibrator is better everywhere (Vovk and Wang 2021, section 2).
    """
    p = np.clip(np.asarray(p_values, dtype=np.float64), 1e-300, 1.0)
    log = np.log(p)
    near = p > 0.999  # where the formula is 0 / 0; its limit at 1 is 1/2
    safe = np.where(near, 0.5, log)
    values: Float64 = np.where(near, 0.5, (1.0 - p + p * log) / (p * safe**2))
    return values


def group_e_value(p_values: Sequence[float]) -> float | None:
    """The e-value of a group: the mean of its tracks' e-values; None without tracks."""
    return float(calibrated_e_values(p_values).mean()) if len(p_values) else None


def certified_error(e_value: float) -> float:
    """The largest probability of an e-value at least this high where all of the group's tracks are by people."""
    return min(1.0, 1.0 / e_value) if e_value > 0.0 else 1.0


def e_discoveries(e_values: Sequence[float], fdr: float) -> int:
    """How many of the groups with the highest e-values can be reported at a false-discovery rate.

    The e-BH procedure (Wang and Ramdas 2022, "False discovery rate control with e-values"), under any dependence.
    """
    ordered = np.sort(np.asarray(e_values, dtype=np.float64))[::-1]
    passing = np.flatnonzero(ordered * np.arange(1, len(ordered) + 1) >= len(ordered) / fdr)
    return int(passing[-1]) + 1 if len(passing) else 0
