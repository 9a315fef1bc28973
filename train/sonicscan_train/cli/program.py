"""The `sonicscan-train` program. Heavy modules are imported inside the commands: `--help` is instant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

import sonicscan
from sonicscan.cli.console import clear_errors

if TYPE_CHECKING:
    from sonicscan_train.data.clips import Clip

EXIT_FOUND = 1  # 2 is console.FatalError's

_F = TypeVar("_F", bound=Callable[..., Any])
_FILE = click.Path(path_type=Path)


_map_option = click.option(
    "--map", "maps", multiple=True, metavar="LABEL=LABEL", help="Rename a label, or drop it: codec=drop."
)


def _data_options(command: _F) -> _F:
    """The options of every command that reads data sets."""
    for option in (
        click.option("--max-bad", default="1%", show_default=True, metavar="N|P%", help="Missing or unreadable files."),
        _map_option,
    ):
        command = option(command)
    return command


def _workers_option(command: _F) -> _F:
    return click.option("--workers", type=click.IntRange(0, 256), help="Processes that decode. [default: by machine]")(
        command
    )


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(sonicscan.__version__, prog_name="sonicscan-train")
def main() -> None:
    """Train detectors of AI-generated music, and find out how good they are.

    DATA is a manifest (CSV or Parquet with columns path and label), a folder with a folder for each class, or a
    folder with SONICS, FMA or FakeMusicCaps; KIND:DATA says which (manifest, folders, sonics, fma, fakemusiccaps).
    """


@main.command()
@click.argument("data", nargs=-1, required=True)
@_data_options
@_workers_option
@click.option("--columns", multiple=True, metavar="NAME", help="Audit these columns of the manifest too, as orig_*.")
@click.option("--max-auc", default=0.65, show_default=True, help="AUC that one trivial feature may reach.")
@click.option("--out", type=_FILE, help="Folder for audit.json and audit.png.")
def audit(
    data: tuple[str, ...],
    maps: tuple[str, ...],
    max_bad: str,
    workers: int | None,
    columns: tuple[str, ...],
    max_auc: float,
    out: Path | None,
) -> None:
    """Look for shortcuts in DATA before anything is trained on it.

    Exit code: 0 nothing was found; 1 a trivial feature tells the classes apart, or groups, artists or the same sound
    are on both sides; 2 usage, or data that cannot be read.
    """
    with clear_errors():
        from rich.console import Console

        from sonicscan_train.cli.display import counting, say
        from sonicscan_train.data.audit import audit as run
        from sonicscan_train.data.audit_report import print_audit, write_audit

        clips = _clips(data, maps)
        with counting("measuring", len(clips)) as done:
            result = run(clips, limit=max_auc, columns=columns, workers=_workers(workers), max_bad=max_bad, done=done)
        for path, reason in result.skipped.items():
            say(f"left out: {path}: {reason}")
        print_audit(result, Console())
        if out is not None:
            write_audit(result, out)
    raise SystemExit(0 if result.passed else EXIT_FOUND)


@main.command()
@click.argument("data", nargs=-1, required=True)
@click.option("--out", type=_FILE, required=True, help="The split: a CSV manifest with a column `split`.")
@_map_option
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same split.")
@click.option("--valid", default=0.2, show_default=True, help="Share that chooses the checkpoint.")
@click.option("--test", default=0.2, show_default=True, help="Share that judges.")
@click.option("--calibration", default=0.0, show_default=True, help="Share kept for calibration alone.")
@click.option("--holdout-sources", default="", metavar="A,B", help="Generators and human sources left out whole.")
@click.option("--official/--no-official", default=True, show_default=True, help="Keep the data sets' own splits.")
def split(
    data: tuple[str, ...],
    out: Path,
    maps: tuple[str, ...],
    seed: int,
    valid: float,
    test: float,
    calibration: float,
    holdout_sources: str,
    official: bool,
) -> None:
    """Divide DATA into parts; no group and no artist is ever in two of them."""
    with clear_errors():
        from sonicscan_train.data.manifest import write_split
        from sonicscan_train.data.splits import SplitPlan, summary
        from sonicscan_train.data.splits import split as run

        plan = SplitPlan(
            train=1.0 - valid - test - calibration,
            valid=valid,
            test=test,
            calibration=calibration,
            holdout_sources=tuple(name.strip() for name in holdout_sources.split(",") if name.strip()),
            official=official,
            seed=seed,
        )
        clips = run(_clips(data, maps), plan)
        write_split(clips, out)
        for part, n, groups, people, sources in summary(clips):
            click.echo(f"{part}\t{n} clips\t{people} by people\t{groups} groups\t{sources} sources")


@main.command()
@click.option("--data", multiple=True, required=True, metavar="DATA", help="A split, or data that is then split.")
@click.option("--out", type=_FILE, required=True, metavar="RUN", help="Folder of the run; RUN/best is the checkpoint.")
@click.option("--backbone", default="lambda", show_default=True, help="lambda, swin, or a name that timm knows.")
@click.option("--recipe", default="robust", show_default=True, help="robust, or seed: the published one.")
@click.option("--weights", default="pretrained", show_default=True, metavar="W", help="pretrained, none, or a file.")
@click.option("--classes", type=click.Choice(["binary", "source"]), default="binary", show_default=True)
@click.option("--family", "families", multiple=True, metavar="SOURCE=NAME", help="Rename a source as a class.")
@_data_options
@_workers_option
@click.option("--epochs", type=int, help="Instead of the recipe's.")
@click.option("--steps-per-epoch", type=int, help="Instead of one pass over the clips.")
@click.option("--batch-size", type=int, help="Windows a step, over all processes; instead of the recipe's.")
@click.option("--lr", type=float, help="Highest learning rate, instead of the recipe's.")
@click.option("--amp/--no-amp", default=None, help="Mixed precision on a GPU. [default: the recipe's]")
@click.option("--seed", default=0, show_default=True, help="Of everything random.")
@click.option("--license-note", default="", help="Terms of weights and data; stored in the model.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted run: the same command, to the same result.")
def fit(
    data: tuple[str, ...],
    out: Path,
    backbone: str,
    recipe: str,
    weights: str,
    classes: str,
    families: tuple[str, ...],
    maps: tuple[str, ...],
    max_bad: str,
    workers: int | None,
    epochs: int | None,
    steps_per_epoch: int | None,
    batch_size: int | None,
    lr: float | None,
    amp: bool | None,
    seed: int,
    license_note: str,
    resume: bool,
) -> None:
    """Train a detector. `accelerate launch -m sonicscan_train.cli fit ...` uses several GPUs or machines."""
    with clear_errors():
        from sonicscan_train.cli.fitting import FitOptions, run_fit

        overrides = {
            "epochs": epochs,
            "steps_per_epoch": steps_per_epoch,
            "batch_size": batch_size,
            "lr": lr,
            "amp": amp,
        }
        options = FitOptions(
            backbone=backbone,
            recipe=recipe,
            overrides={name: value for name, value in overrides.items() if value is not None},
            weights=weights,
            source_classes=classes == "source",
            families=families,
            max_bad=max_bad,
            seed=seed,
            license_note=license_note,
        )
        run_fit(_clips(data, maps), options, out, resume, _workers(workers))


@main.command()
@click.argument("model", type=_FILE, metavar="CHECKPOINT")
@click.option("--data", multiple=True, required=True, metavar="DATA", help="The split that the model was trained with.")
@_data_options
@_workers_option
@click.option("--part", help="Part of the split. [default: calibration, else valid]")
@click.option("--windows", default="12", show_default=True, metavar="N|all", help="Windows scored a track.")
@click.option("--max-fpr", type=float, metavar="F", help="Fail unless this false-positive rate is certified.")
@click.option("--all-tracks", is_flag=True, help="Count every track by people, not one of each group.")
@click.option("--seed", default=0, show_default=True, help="Of the choice of that one.")
@click.option("--out", type=_FILE, help="The calibrated checkpoint. [default: CHECKPOINT itself]")
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
    """Fit temperature and certified thresholds of CHECKPOINT on tracks that it was not trained on."""
    with clear_errors():
        from sonicscan.audio.windows import WindowPlan
        from sonicscan_train.cli.calibrating import run_calibrate

        clips = _clips(data, maps)
        plan = WindowPlan.parse(windows)
        run_calibrate(model, clips, out or model, part, plan, max_fpr, all_tracks, seed, max_bad, _workers(workers))


@main.command()
@click.argument("model", type=_FILE, metavar="CHECKPOINT|MODEL.onnx")
@click.option("--data", multiple=True, required=True, metavar="DATA", help="A split, or data that was not trained on.")
@_data_options
@_workers_option
@click.option("--part", "parts", multiple=True, help="Parts of the split. [default: test and holdout]")
@click.option("--windows", default="12", show_default=True, metavar="N|all", help="Windows scored a track.")
@click.option("--family", "families", multiple=True, metavar="SOURCE=NAME", help="As given to fit.")
@click.option("--stress", is_flag=True, help="The same figures under codecs, filters, noise and so on.")
@click.option("--stress-tracks", default=200, show_default=True, help="Tracks of each part that --stress takes.")
@click.option("--stress-seconds", default=30.0, show_default=True, help="Seconds of each that --stress takes.")
@click.option("--bootstraps", default=1000, show_default=True, help="Draws of the 95% intervals.")
@click.option("--out", type=_FILE, required=True, help="Folder for evaluation.md, evaluation.json and pictures.")
def evaluate(
    model: Path,
    data: tuple[str, ...],
    maps: tuple[str, ...],
    max_bad: str,
    workers: int | None,
    parts: tuple[str, ...],
    windows: str,
    families: tuple[str, ...],
    stress: bool,
    stress_tracks: int,
    stress_seconds: float,
    bootstraps: int,
    out: Path,
) -> None:
    """Say how good a model is on tracks that it was not trained on. An ONNX model runs in the scanner itself."""
    with clear_errors():
        from sonicscan.audio.windows import WindowPlan
        from sonicscan_train.cli.evaluating import EvaluateOptions, run_evaluate
        from sonicscan_train.data.clips import pairs

        options = EvaluateOptions(
            parts=parts,
            plan=WindowPlan.parse(windows),
            families=pairs(families, "family"),
            stress=stress,
            stress_tracks=stress_tracks,
            stress_seconds=stress_seconds,
            bootstraps=bootstraps,
            max_bad=max_bad,
            workers=_workers(workers),
        )
        run_evaluate(model, _clips(data, maps), options, out)


def _clips(data: tuple[str, ...], maps: tuple[str, ...]) -> list[Clip]:
    from sonicscan_train.data.clips import pairs, relabel
    from sonicscan_train.data.datasets import load

    return relabel(load(data), pairs(maps, "map"))


def _workers(workers: int | None) -> int:
    from sonicscan.machine import usable_cpus

    return min(8, usable_cpus()) if workers is None else workers
