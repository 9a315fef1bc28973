"""The commands `calibrate`, `evaluate` and `crossfit`."""

from __future__ import annotations

from pathlib import Path

import click

from sonicscan.cli.report_options import RATE
from sonicscan_train.cli.options import (
    FILE,
    bootstraps_option,
    clips_of,
    data_options,
    families_of,
    family_options,
    license_option,
    windows_option,
    workers_of,
    workers_option,
)


@click.command()
@click.argument("model", type=FILE, metavar="CHECKPOINT")
@click.option("--data", multiple=True, required=True, metavar="DATA", help="The split that the model was trained with.")
@data_options
@workers_option
@click.option("--part", help="Part of the split. [default: calibration, else valid]")
@windows_option
@click.option("--max-fpr", type=RATE, metavar="F", help="Fail unless this false-positive rate is certified.")
@click.option("--all-tracks", is_flag=True, help="Count every track by people, not one of each group.")
@click.option("--seed", default=0, show_default=True, help="Seed of the choice of one track of each group.")
@click.option("--out", type=FILE, help="The calibrated checkpoint. [default: CHECKPOINT itself]")
def calibrate(
    model: Path,
    data: tuple[str, ...],
    maps: tuple[str, ...],
    max_bad: str,
    workers: int | None,
    part: str | None,
    windows: str,
    max_fpr: float | None,
    all_tracks: bool,
    seed: int,
    out: Path | None,
) -> None:
    """Fit temperature and certified thresholds of CHECKPOINT.

    The tracks must not be training tracks of the checkpoint.
    """
    from sonicscan.audio.windows import WindowPlan
    from sonicscan_train.cli.calibrating import run_calibrate

    clips = clips_of(data, maps)
    plan = WindowPlan.parse(windows)
    run_calibrate(model, clips, out or model, part, plan, max_fpr, all_tracks, seed, max_bad, workers_of(workers))


@click.command()
@click.argument("model", type=FILE, metavar="CHECKPOINT|MODEL.onnx")
@click.option("--data", multiple=True, required=True, metavar="DATA", help="A split, or data that was not trained on.")
@data_options
@workers_option
@click.option("--part", "parts", multiple=True, help="Parts of the split. [default: test and holdout]")
@windows_option
@family_options
@click.option("--stress", is_flag=True, help="Evaluate also under codecs, filters, noise and so on.")
@click.option("--stress-tracks", default=200, show_default=True, help="Tracks of each part that --stress takes.")
@click.option("--stress-seconds", default=30.0, show_default=True, help="Seconds of each track that --stress takes.")
@bootstraps_option
@click.option("--out", type=FILE, required=True, help="Folder for evaluation.md, evaluation.json and pictures.")
def evaluate(
    model: Path,
    data: tuple[str, ...],
    maps: tuple[str, ...],
    max_bad: str,
    workers: int | None,
    parts: tuple[str, ...],
    windows: str,
    family: tuple[str, ...],
    families: str | None,
    stress: bool,
    stress_tracks: int,
    stress_seconds: float,
    bootstraps: int,
    out: Path,
) -> None:
    """Measure a model on tracks that it was not trained on.

    An ONNX model runs in the scanner.
    """
    from sonicscan.audio.windows import WindowPlan
    from sonicscan_train.cli.evaluating import EvaluateOptions, run_evaluate

    options = EvaluateOptions(
        parts=parts,
        plan=WindowPlan.parse(windows),
        families=families_of(family, families),
        stress=stress,
        stress_tracks=stress_tracks,
        stress_seconds=stress_seconds,
        bootstraps=bootstraps,
        max_bad=max_bad,
        workers=workers_of(workers),
    )
    run_evaluate(model, clips_of(data, maps), options, out)


@click.command()
@click.argument("members", nargs=-1, required=True, type=FILE, metavar="MEMBER...")
@click.option("--data", multiple=True, required=True, metavar="DATA", help="The data that the members were trained on.")
@click.option("--folds", type=FILE, required=True, metavar="CSV", help="Folds of the clips, from `folds`.")
@click.option(
    "--plan", default="small", show_default=True, metavar="NAME|FILE.toml", help="Plan whose [categories] are reported."
)
@click.option("--name", required=True, help="The model's name, such as sonic-small-v2.")
@family_options
@windows_option
@click.option("--shrink", type=click.FloatRange(0.0, 1000.0), help="Constant of the pooling. [default: fitted]")
@click.option("--rate", type=RATE, default=0.01, show_default=True, help="False-positive rate of the tables.")
@click.option("--stress-tracks", default=0, show_default=True, help="Tracks of the stress table; 0 leaves it out.")
@bootstraps_option
@license_option
@click.option("--card", default="", help="Address of the model card; stored in the model.")
@data_options
@workers_option
@click.option("--out", type=FILE, required=True, help="Folder of scores, contract, figures and card.")
def crossfit(
    members: tuple[Path, ...],
    data: tuple[str, ...],
    folds: Path,
    plan: str,
    family: tuple[str, ...],
    families: str | None,
    name: str,
    windows: str,
    shrink: float | None,
    rate: float,
    stress_tracks: int,
    bootstraps: int,
    license_note: str,
    maps: tuple[str, ...],
    card: str,
    max_bad: str,
    workers: int | None,
    out: Path,
) -> None:
    """Calibrate and evaluate the mean of several members.

    Each member scores the fold that it was not trained on.

    MEMBER is a checkpoint or an ONNX file, one for each fold, in the order of the folds. With fewer members, those
    folds alone are used that a member was trained without. `sonicscan-export MEMBER... --crossfit OUT` writes the
    model. Scores in OUT are used again where member, --windows and tracks are the same.
    """
    from sonicscan.audio.windows import WindowPlan
    from sonicscan_train.cli.crossfitting import CrossfitOptions, run_crossfit
    from sonicscan_train.data.folds import read_plan

    options = CrossfitOptions(
        name=name,
        folds=folds,
        plan=read_plan(plan),
        families=families_of(family, families),
        windows=WindowPlan.parse(windows),
        shrink=shrink,
        rate=rate,
        stress_tracks=stress_tracks,
        bootstraps=bootstraps,
        max_bad=max_bad,
        license_note=license_note,
        card=card,
        workers=workers_of(workers),
    )
    run_crossfit(members, clips_of(data, maps), options, out)
