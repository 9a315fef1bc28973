"""The thresholds that a calibration certifies, by false-positive rate."""

from __future__ import annotations

from sonicscan.scoring.thresholds import CertifiedRate, Thresholds, certified_rates, certified_thresholds, tracks_needed
from sonicscan.spec import Calibration, ModelSpec

RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
NO_CALIBRATION = 0.5  # threshold for a model without calibration


def calibration_table(calibration: Calibration) -> list[CertifiedRate]:
    """Thresholds by false-positive rate."""
    return certified_rates(calibration, RATES)


def thresholds_of(spec: ModelSpec) -> Thresholds:
    """The thresholds to compare verdicts by: at 1%, or the lowest of `RATES` over it that is certified.

    A model that certifies none of them, or is untrained, is compared at a score of 0.5.
    """
    for rate in RATES if not spec.untrained else ():
        if rate >= 0.01 and spec.calibration.n >= tracks_needed(rate):
            return certified_thresholds(spec.calibration, rate)
    return Thresholds(NO_CALIBRATION)


def certified_from(calibration: Calibration) -> str:
    """One line about the false-positive rates that a calibration certifies."""
    certified = [row for row in calibration_table(calibration) if row.threshold is not None]
    if not certified:
        return "no calibration" if not calibration.n else f"{calibration.n} tracks by people, too few to certify a rate"
    return f"{calibration.n} tracks by people certify false-positive rates from {certified[0].max_fpr:.1%} on"
