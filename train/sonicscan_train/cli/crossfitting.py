"""Implements `sonicscan-train crossfit`: scores each fold by its own member, calibrates, evaluates, stresses,
writes."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

import sonicscan
from sonicscan.audio.windows import WindowPlan
from sonicscan.errors import InputError
from sonicscan.model.loading import load_model
from sonicscan.scoring.thresholds import tracks_needed
from sonicscan.spec import ModelSpec
from sonicscan_train.cli.calibrating import on_best_device, say_skipped
from sonicscan_train.cli.display import counting, say
from sonicscan_train.cli.evaluating import EvaluateOptions, stress_rows
from sonicscan_train.data.clips import CODEC, Clip, check_binary, data_digest, independent_groups
from sonicscan_train.data.datasets import skip_unreadable
from sonicscan_train.data.folds import FoldPlan, read_folds
from sonicscan_train.folders import make_folder
from sonicscan_train.judge.card import Findings, write_findings
from sonicscan_train.judge.crossfit import (
    CrossFit,
    by_category,
    by_window_count,
    cross_fitted,
    own_threshold,
)
from sonicscan_train.judge.evaluation import Row, evaluate
from sonicscan_train.judge.evaluation_report import write_evaluation
from sonicscan_train.judge.fold_scores import score_fold
from sonicscan_train.judge.members import member_of, write_fit
from sonicscan_train.judge.scoring import Forward, ScoredTrack, scored
from sonicscan_train.nets import checkpoint

PLENTY = 6  # windows of a track from which the pooling's constant can be fitted


@dataclass(frozen=True)
class CrossfitOptions:
    """The command's options, except members, data and folder.

    `shrink` None fits the constant; `stress_tracks` 0 leaves the stress table out.
    """

    name: str
    folds: Path
    plan: FoldPlan
    windows: WindowPlan
    families: Mapping[str, str] = field(default_factory=dict)
    shrink: float | None = None
    rate: float = 0.01
    stress_tracks: int = 0
    bootstraps: int = 1000
    max_bad: str = "1%"
    license_note: str = ""
    card: str = ""
    commands: str = "See docs/training.md."
    workers: int = 1

    def __post_init__(self) -> None:
        if self.stress_tracks < 0 or self.stress_tracks == 1:
            raise InputError("--stress-tracks must be 2 or more, or 0 for no stress table.")


def run_crossfit(members: Sequence[Path], clips: Sequence[Clip], options: CrossfitOptions, out: Path) -> None:
    """Calibrate and evaluate the mean of several members, each on tracks that it was not trained on.

    Tracks of folds that no member left out are not used.

    Raises:
        InputError: folds that are not the members', members of different inputs or classes, a label other than human,
            ai and codec, or a fold without a class.
        ModelError: a member that cannot be read.
    """
    check_binary(clips, apart=(CODEC,))
    clips = skip_unreadable(clips, options.max_bad, say)
    folds = read_folds(options.folds, clips)
    specs = [_spec(member) for member in members]
    for member, spec in zip(members, specs, strict=True):
        if spec.classes != specs[0].classes:
            raise InputError(f"{member} has other classes than {members[0]}: {', '.join(spec.classes)}.")
        if spec.audio != specs[0].audio:
            raise InputError(f"{member} has another AudioSpec than {members[0]}, so no image suits both.")
    own_folds = _own_folds(members, specs, sorted(set(folds)), options.folds)
    pairs = [(clip, fold) for clip, fold in zip(clips, folds, strict=True) if fold in own_folds]
    clips, folds = [clip for clip, _ in pairs], [own_folds.index(fold) for _, fold in pairs]
    make_folder(out)
    by_fold = []
    with counting("scoring", len(clips)) as done:
        for k, member in enumerate(members):
            own = [clip for clip, fold in zip(clips, folds, strict=True) if fold == k]
            table = out / f"fold-{own_folds[k]}.csv"
            by_fold.append(
                score_fold(member, own, options.windows, table, _forward_of, options.workers, say_skipped, done)
            )
    contract = ModelSpec(
        architecture=options.name,
        classes=specs[0].classes,
        audio=specs[0].audio,
        data_digest=data_digest(clips),
        tool_version=sonicscan.__version__,
        license_note=options.license_note or "; ".join(dict.fromkeys(s.license_note for s in specs if s.license_note)),
        card=options.card,
    )
    scored_people = [track.clip for tracks in by_fold for track in tracks if track.clip.human]
    groups = len(set(independent_groups(scored_people)))
    longest = max(len(track.logits) for tracks in by_fold for track in tracks)
    if options.shrink is None and longest < PLENTY:
        say(
            f"the constant of the pooling is fitted on tracks of at most {longest} windows, and whole tracks may need "
            "another one. They may be flagged more rarely than certified, and AI may be missed; --shrink sets it."
        )
    unseen = (
        f"each scored by the one of {len(members)} members that was not trained on its fold"
        if len(members) > 1
        else f"none of them in training (fold {own_folds[0]})"
    )
    data = f"{groups} groups of music by people, one excerpt of each, at most {longest} windows; {unseen}"
    fit = cross_fitted(
        by_fold,
        contract,
        plan=options.windows,
        data=data,
        shrink=options.shrink,
        categories=options.plan.categories,
        families=options.families,
    )
    scores = [scored(track, fit.spec) for track in fit.tracks]
    section = evaluate("left-out", scores, fit.spec, families=options.families, bootstraps=options.bootstraps)
    stress: dict[str, Row] = {}
    if options.stress_tracks:
        stress = _stressed(members, clips, folds, fit, options)
    certified = fit.spec.calibration.n >= tracks_needed(options.rate)
    findings = Findings(
        section=section,
        rate=options.rate,
        by_windows=by_window_count(fit, options.rate) if certified else [],
        by_category=by_category(fit, options.plan.categories, options.rate) if certified else [],
        own_thresholds={
            name: row
            for name, patterns in options.plan.categories.items()
            if (row := own_threshold(fit, patterns, options.rate)) is not None
        },
        stress=stress,
    )
    fit = dataclasses.replace(fit, spec=dataclasses.replace(fit.spec, metrics=findings.metrics(fit.spec)))
    write_fit(fit.spec, [member_of(*scored) for scored in zip(members, specs, fit.scales, strict=True)], out)
    about = "; ".join(_about(spec) for spec in specs)
    write_findings(findings, fit, scores, about, options.commands, out)
    lines = write_evaluation(
        Path(options.name), fit.spec, str(options.windows), [section], {"left-out": scores},
        {"left-out": stress} if stress else {}, out,
    )  # fmt: skip
    for k, scale in enumerate(fit.scales):
        click.echo(f"member {k}\ttemperature {scale.temperature:.4f}\toffset {scale.offset:.4f}")
    click.echo(f"shrink\t{fit.spec.shrink:.4f}")
    for line in [*lines, str(fit.spec.metrics["summary"])]:
        click.echo(line)


def _own_folds(members: Sequence[Path], specs: Sequence[ModelSpec], folds: Sequence[int], path: Path) -> list[int]:
    """The fold that each member was trained without.

    Args:
        members, specs: in the order of their folds.
        folds: all folds, ascending.
        path: the file of the folds.

    Raises:
        InputError: members that do not say it where folds are missing, or in another order, or of other folds.
    """
    known = [spec.provenance.get("fold") for spec in specs]
    if folds == list(range(len(members))):
        known = [fold if mine is None else mine for mine, fold in zip(known, folds, strict=True)]
    found = [fold for fold in known if isinstance(fold, int) and fold in folds]
    if len(found) < len(members):
        raise InputError(
            f"{path} has the folds {folds}; give one member for each, in order, or members whose contract names the "
            "fold that they were trained without."
        )
    for member, (before, fold) in zip(members[1:], itertools.pairwise(found), strict=True):
        if fold <= before:
            raise InputError(f"{member} was trained without fold {fold}; order the members by fold.")
    return found


def _spec(member: Path) -> ModelSpec:
    return checkpoint.load_spec(member) if member.is_dir() else load_model(member).spec


def _about(spec: ModelSpec) -> str:
    """A member in words."""
    made = {name: spec.provenance[name] for name in ("recipe", "steps", "seed") if name in spec.provenance}
    return ", ".join([spec.architecture, *(f"{name} {value}" for name, value in made.items())])


def _forward_of(member: Path) -> tuple[Forward, ModelSpec]:
    detector, spec = checkpoint.load(member)
    return on_best_device(detector), spec


def _stressed(
    members: Sequence[Path], clips: Sequence[Clip], folds: Sequence[int], fit: CrossFit, options: CrossfitOptions
) -> dict[str, Row]:
    """The stress table: each track under each condition, by the member that was not trained on its fold."""
    fold_of = {clip.path: fold for clip, fold in zip(clips, folds, strict=True)}
    marked = [dataclasses.replace(c, extra={**c.extra, "fold": str(fold_of[c.path])}) for c in clips]

    def score(some: Sequence[Clip], done: Callable[[], None]) -> list[ScoredTrack]:
        found: list[ScoredTrack] = []
        for k, member in enumerate(members):
            own = [clip for clip in some if clip.extra["fold"] == str(k)]
            raw = score_fold(member, own, options.windows, None, _forward_of, options.workers, say_skipped, done)
            found += [scored(fit.scales[k].apply(track), fit.spec) for track in raw]
        return found

    with_score = {track.clip.path for track in fit.tracks}
    plain = [clip for clip in marked if clip.label != CODEC and clip.path in with_score]
    asked = EvaluateOptions(stress_tracks=options.stress_tracks, workers=options.workers)
    return stress_rows("left-out", plain, score, asked)
