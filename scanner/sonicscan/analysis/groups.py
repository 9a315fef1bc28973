"""Groups tracks by folder, artist, album or label, and computes the evidence about each group."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from sonicscan.analysis.catalogue import folder_of, identity
from sonicscan.analysis.copies import distinct
from sonicscan.analysis.statistics import Estimate, wilson
from sonicscan.report.row import FileResult
from sonicscan.scoring.evalues import certified_error, e_discoveries, group_e_value
from sonicscan.text import bare_isrc

By = Literal["folder", "artist", "album", "label"]
NO_NAME = {"artist": "(no artist tag)", "album": "(no album tag)", "label": "(no ISRC)"}
_REGISTRANT = 5  # first characters of an ISRC: country and registrant, who is a label or an artist


@dataclass(frozen=True)
class Group:
    """The tracks of one folder, artist, album or label.

    Attributes:
        name: the folder, relative to the common folder of all paths; or the artist, album or label.
        tracks: files found.
        assessed: tracks with a verdict.
        flagged: flagged ones, without those that people decided are by a human.
        review: tracks up for review, likewise.
        share: flagged among assessed, with Wilson's 95% interval; None where none was assessed, or for selected rows.
        e_value: evidence against the proposition that all tracks are by people; copies count once. None without
            p-values, for tracks without a name, for a group with a track that people decided is by a human, and for
            selected rows.
        error: the largest probability of such an e-value if all tracks are by people; None without `e_value`.
        reported: whether the group is among those that can be reported at the false-discovery rate asked for.
    """

    name: str
    tracks: int
    assessed: int
    flagged: int
    review: int
    share: Estimate | None
    e_value: float | None = None
    error: float | None = None
    reported: bool = False


def groups_of(
    rows: Sequence[FileResult],
    by: By,
    cleared: frozenset[bytes] = frozenset(),
    depth: int = 1,
    fdr: float = 0.05,
    selected: bool = False,
) -> tuple[Group, ...]:
    """All groups, those with most evidence or most flagged tracks first.

    Args:
        rows: of a report.
        by: what makes a group.
        cleared: identities of the tracks that people decided are by a human.
        depth: folder levels that form groups.
        fdr: false-discovery rate among the groups that are reported.
        selected: the rows were selected by score, verdict or decision; shares and e-values are then left out.
    """
    name_of = _names(rows, by, depth)
    members: dict[str, list[FileResult]] = {}
    for row in rows:
        members.setdefault(name_of(row), []).append(row)
    named = {} if selected else {name: group for name, group in members.items() if name != NO_NAME.get(by)}
    e_values = {name: _e_value(group, cleared) for name, group in named.items()}
    ranked = sorted((value for value in e_values.values() if value is not None), reverse=True)
    n = e_discoveries(ranked, fdr)
    least = ranked[n - 1] if n else float("inf")
    found = [_group(name, group, cleared, e_values.get(name), least) for name, group in members.items()]
    if selected:
        found = [dataclasses.replace(group, share=None) for group in found]
    return tuple(sorted(found, key=lambda g: (-g.flagged, -g.review, -(g.e_value or 0.0), -g.tracks, g.name)))


def _group(
    name: str, rows: Sequence[FileResult], cleared: frozenset[bytes], e_value: float | None, least: float
) -> Group:
    verdicts = Counter(row.verdict for row in rows if identity(row) not in cleared)
    assessed = sum(row.verdict is not None for row in rows)
    return Group(
        name=name,
        tracks=len(rows),
        assessed=assessed,
        flagged=verdicts["flagged"],
        review=verdicts["review"],
        share=wilson(verdicts["flagged"], assessed) if assessed else None,
        e_value=e_value,
        error=None if e_value is None else certified_error(e_value),
        reported=e_value is not None and e_value >= least,
    )


def _e_value(rows: Sequence[FileResult], cleared: frozenset[bytes]) -> float | None:
    """A group's e-value; None if a person decided on a track of it, since a decided track is not a random draw."""
    if any(identity(row) in cleared for row in rows):
        return None
    return group_e_value([row.p_value for row in distinct(rows) if row.p_value is not None])


def common_folder(rows: Sequence[FileResult]) -> str:
    """The common prefix of all paths, up to and including a `/`; empty if there is none."""
    # Compared as text, so that `./` and `s3://` stay. In sorted order, the first and last path share the common prefix.
    first, last = min((row.path for row in rows), default=""), max((row.path for row in rows), default="")
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[: first.rfind("/", 0, same) + 1]


def _names(rows: Sequence[FileResult], by: By, depth: int) -> Callable[[FileResult], str]:
    if by == "folder":
        return _folder_names(rows, depth)
    missing = NO_NAME[by]
    if by == "artist":
        return lambda row: row.artist or missing
    if by == "album":
        return lambda row: " / ".join(filter(None, (row.artist, row.album))) if row.album else missing
    return lambda row: bare_isrc(row.isrc)[:_REGISTRANT] if row.isrc else missing


def _folder_names(rows: Sequence[FileResult], depth: int) -> Callable[[FileResult], str]:
    """The display name of a file's folder: at most `depth` levels below the common folder."""
    common = len(PurePosixPath(common_folder(rows)).parts)

    def name(row: FileResult) -> str:
        parts = PurePosixPath(folder_of(row)).parts[common : common + depth]
        return "/".join(parts) or "."

    return name
