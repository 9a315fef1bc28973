"""Implements `sonicscan-train evaluate`: scores each part by checkpoint or scanner, evaluates, stresses, writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from sonicscan.audio.windows import WindowPlan
from sonicscan.errors import InputError
from sonicscan.report.row import FileResult
from sonicscan.spec import ModelSpec
from sonicscan_train.cli.calibrating import on_best_device, say_skipped
from sonicscan_train.cli.display import counting, say
from sonicscan_train.data.clips import CODEC, Clip, check_two_classes, has_split
from sonicscan_train.data.datasets import skip_unreadable
from sonicscan_train.data.features import Features, measure_all
from sonicscan_train.folders import make_folder
from sonicscan_train.judge.evaluation import Row, Section, evaluate, stress_row
from sonicscan_train.judge.evaluation_report import write_evaluation
from sonicscan_train.judge.scanner import scan_clips
from sonicscan_train.judge.scoring import ScoredTrack, scored, track_logits
from sonicscan_train.sound.stress import CONDITIONS, sample, stressed

# Scores of the clips that have one, in any order; the second argument is called after each file.
Scorer = Callable[[Sequence[Clip], Callable[[], None]], list[ScoredTrack]]


@dataclass(frozen=True)
class EvaluateOptions:
    """The command's options, except model, data and folder."""

    parts: tuple[str, ...] = ()
    plan: WindowPlan = field(default_factory=WindowPlan)
    families: Mapping[str, str] = field(default_factory=dict)
    stress: bool = False
    stress_tracks: int = 200
    stress_seconds: float = 30.0
    bootstraps: int = 1000
    max_bad: str = "1%"
    workers: int = 1

    def __post_init__(self) -> None:
        if self.stress_tracks < 2 or not self.stress_seconds >= 1.0:
            raise InputError("--stress-tracks must be 2 or more, and --stress-seconds 1 or more.")


def run_evaluate(model: Path, clips: Sequence[Clip], options: EvaluateOptions, out: Path) -> None:
    """Evaluate a model and write `evaluation.md`, `evaluation.json` and pictures to `out`.

    Raises:
        InputError: a part that is not there, or one without both classes.
        ModelError: no checkpoint or model there.
    """
    scorer, spec = checkpoint_scorer(model, options) if model.is_dir() else scanner_scorer(model, options)
    chosen = _parts(clips, options.parts)
    make_folder(out)
    sections: list[Section] = []
    stress: dict[str, dict[str, Row]] = {}
    scores: dict[str, list[ScoredTrack]] = {}
    for name, (members, note) in chosen.items():
        readable = skip_unreadable(members, options.max_bad, say)
        check_two_classes([clip for clip in readable if clip.label != CODEC], f"the part {name}")
        with counting(f"scoring {name}", len(readable)) as done:
            tracks = scorer(readable, done)
        with counting(f"measuring {name}", len(readable)) as done:
            results = list(measure_all([clip.path for clip in readable], options.workers, done))
        features = {c.path: f for c, f in zip(readable, results, strict=True) if isinstance(f, Features)}
        scores[name] = tracks
        sections.append(
            evaluate(
                name,
                tracks,
                spec,
                note=note,
                features=features,
                families=options.families,
                bootstraps=options.bootstraps,
            )
        )
        if options.stress:
            with_score = {track.clip.path for track in tracks if track.clip.label != CODEC}
            plain = [clip for clip in readable if clip.path in with_score]
            stress[name] = stress_rows(name, plain, scorer, options)
    summary = write_evaluation(model, spec, str(options.plan), sections, scores, stress, out)
    for line in summary:
        click.echo(line)


def checkpoint_scorer(folder: Path, options: EvaluateOptions) -> tuple[Scorer, ModelSpec]:
    """Scores by a checkpoint, in torch, and its contract."""
    from sonicscan_train.nets import checkpoint

    detector, spec = checkpoint.load(folder)
    forward = on_best_device(detector)

    def score(clips: Sequence[Clip], done: Callable[[], None]) -> list[ScoredTrack]:
        tracks = track_logits(
            forward, clips, spec.audio, options.plan, workers=options.workers, skipped=say_skipped, done=done
        )
        return [scored(track, spec) for track in tracks]

    return score, spec


def scanner_scorer(path: Path, options: EvaluateOptions) -> tuple[Scorer, ModelSpec]:
    """Scores by an ONNX model, from `sonicscan.scan` itself, and its contract."""
    from sonicscan.model.loading import load_model

    spec = load_model(path).spec

    def score(clips: Sequence[Clip], done: Callable[[], None]) -> list[ScoredTrack]:
        rows = scan_clips(path, clips, options.plan, options.workers, say_skipped, done)
        return [_from_result(clip, row) for clip, row in rows]

    return score, spec


def _from_result(clip: Clip, result: FileResult) -> ScoredTrack:
    from sonicscan.scoring.aggregate import margin_of

    return ScoredTrack(
        clip,
        float(result.score or 0.0),
        margin_of(float(result.score or 0.0)),
        tuple(result.window_margins or ()),
        dict(result.class_scores or {}),
        f"{result.codec} {result.sample_rate}",
    )


def _parts(clips: Sequence[Clip], asked: Sequence[str]) -> dict[str, tuple[list[Clip], str]]:
    """The clips of each part to evaluate, and a note for the report."""
    if not has_split(clips):
        if asked:
            raise InputError(f"the data has no split, and so no part {asked[0]!r}.")
        say("the data has no split, so all of it is evaluated; the model must not have been trained on it.")
        return {"all": (list(clips), "")}
    by_part: dict[str, list[Clip]] = {}
    for clip in clips:
        by_part.setdefault(clip.part, []).append(clip)
    names = list(asked) or [name for name in ("test", "holdout") if name in by_part]
    missing = [name for name in names if name not in by_part]
    if missing or not names:
        has = ", ".join(sorted(by_part))
        raise InputError(f"the split has no part {missing[0] if missing else 'test'!r}; it has {has}.")
    chosen = {}
    for name in names:
        members, note = by_part[name], ""
        if name == "train":
            note = "the model was trained on these tracks: the figures do not hold for other tracks"
        if name == "holdout" and not any(clip.human for clip in members) and "test" in by_part:
            members = members + [clip for clip in by_part["test"] if clip.human]
            note = "no human source was left out, so people's tracks are those of the part test"
        chosen[name] = (members, note)
    return chosen


def stress_rows(name: str, clips: Sequence[Clip], scorer: Scorer, options: EvaluateOptions) -> dict[str, Row]:
    """A row for each condition, on the same sample of tracks."""
    chosen = sample(clips, options.stress_tracks)
    rows: dict[str, Row] = {}
    clean: dict[int, ScoredTrack] = {}
    with counting(f"stressing {name}", len(CONDITIONS) * len(chosen)) as done:
        for condition in CONDITIONS:
            found = _scored_under(condition, chosen, scorer, options, done)
            clean = clean or found
            both = sorted(clean.keys() & found.keys())
            rows[condition] = stress_row([clean[i] for i in both], [found[i] for i in both])
    return rows


def _scored_under(
    condition: str, clips: Sequence[Clip], scorer: Scorer, options: EvaluateOptions, done: Callable[[], None]
) -> dict[int, ScoredTrack]:
    """Scores under a condition, by the track's place in `clips`."""

    def skipped(clip: Clip, why: str) -> None:
        say(f"no stress condition: {clip.path}: {why}")

    with stressed(clips, condition, options.stress_seconds, options.workers, skipped) as made:
        place = {clip.path: i for i, clip in enumerate(made) if clip is not None}
        tracks = scorer([clip for clip in made if clip is not None], done)
        return {place[track.clip.path]: track for track in tracks}
