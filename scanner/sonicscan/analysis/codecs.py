"""The codec classes of a report: whether the false-positive rate is certified in each of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sonicscan.report.row import FileResult
from sonicscan.scoring.thresholds import Thresholds
from sonicscan.spec import ModelSpec, codec_class


@dataclass(frozen=True)
class CodecClass:
    """Whether the false-positive rate is certified for a codec class by itself.

    Attributes:
        name: of the class.
        tracks: of the report with a score.
        calibration_tracks: of this class, by people.
        flagged_from: the score from which a track of this class is flagged; None if the class has too few calibration
            tracks, so that the threshold of all tracks applies.
    """

    name: str
    tracks: int
    calibration_tracks: int
    flagged_from: float | None


def codec_classes(
    scored: Sequence[FileResult], spec: ModelSpec | None, limits: Thresholds | None
) -> tuple[CodecClass, ...]:
    """The codec classes of scored tracks, those with most tracks first; none if the calibration has none."""
    if spec is None or limits is None or not any(c.kind == "codec" for c in spec.calibration.categories):
        return ()
    known: Counter[str] = Counter()  # small classes are no categories, and only the material counts them
    for codec, n in spec.calibration.material.codecs.items() if spec.calibration.material is not None else ():
        known[codec_class(codec) or ""] += n
    known.update({c.name: c.n - known[c.name] for c in spec.calibration.categories if c.kind == "codec"})
    own = {found.name: found.flagged for found in limits.classes}
    counts = Counter(codec_class(row.codec) or "unknown codec" for row in scored)
    return tuple(CodecClass(name, n, known[name], own.get(name)) for name, n in counts.most_common())
