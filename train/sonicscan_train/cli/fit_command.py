"""The command `fit`."""

from __future__ import annotations

import datetime
from pathlib import Path

import click

from sonicscan_train.cli.options import (
    FILE,
    clips_of,
    data_options,
    families_of,
    family_options,
    license_option,
    workers_of,
    workers_option,
)

_TIMES = ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M"]


@click.command()
@click.option("--data", multiple=True, required=True, metavar="DATA", help="A split, or data to be split.")
@click.option("--out", type=FILE, required=True, metavar="RUN", help="Folder of the run; RUN/best is the checkpoint.")
@click.option("--backbone", default="lambda", show_default=True, help="lambda, swin, lite0, or a model name of timm.")
@click.option("--recipe", default="robust", show_default=True, help="robust, small, seed, or a .toml file.")
@click.option("--weights", default="pretrained", show_default=True, metavar="W", help="pretrained, none, or a file.")
@click.option("--classes", type=click.Choice(["binary", "source"]), default="binary", show_default=True)
@family_options
@data_options
@workers_option
@click.option("--epochs", type=int, help="Number of epochs, instead of the recipe's.")
@click.option("--steps-per-epoch", type=int, help="Steps in an epoch, instead of one pass over the clips.")
@click.option("--batch-size", type=int, help="Windows in a step, over all processes, instead of the recipe's.")
@click.option("--lr", type=float, help="Highest learning rate, instead of the recipe's.")
@click.option("--amp/--no-amp", default=None, help="Mixed precision on a GPU. [default: the recipe's]")
@click.option("--seed", default=0, show_default=True, help="Seed of all random choices.")
@click.option("--cache", type=FILE, help="Folder of decoded excerpts, for recipes with [cache]. [default: RUN/cache]")
@click.option("--folds", type=FILE, metavar="CSV", help="Folds of the clips; needs --fold.")
@click.option("--fold", type=click.IntRange(min=0), metavar="K", help="Train on all folds but this one.")
@click.option("--teacher", "teachers", multiple=True, type=FILE, help="A checkpoint to distil from; may be repeated.")
@click.option(
    "--until", type=click.DateTime(_TIMES), metavar="TIME", help="End the run at this time (UTC), not after epochs."
)
@license_option
@click.option("--resume", is_flag=True, help="Resume an interrupted run; needs the same command, but for --until TIME.")
def fit(
    data: tuple[str, ...],
    out: Path,
    backbone: str,
    recipe: str,
    weights: str,
    classes: str,
    family: tuple[str, ...],
    families: str | None,
    maps: tuple[str, ...],
    max_bad: str,
    workers: int | None,
    epochs: int | None,
    steps_per_epoch: int | None,
    batch_size: int | None,
    lr: float | None,
    amp: bool | None,
    seed: int,
    cache: Path | None,
    folds: Path | None,
    fold: int | None,
    teachers: tuple[Path, ...],
    until: datetime.datetime | None,
    license_note: str,
    resume: bool,
) -> None:
    """Train a detector.

    `accelerate launch -m sonicscan_train.cli fit ...` uses several GPUs or machines.
    """
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
        families=families_of(family, families),
        max_bad=max_bad,
        seed=seed,
        license_note=license_note,
        folds=folds,
        fold=fold,
        teachers=teachers,
        until=None if until is None else until.replace(tzinfo=datetime.UTC).timestamp(),
        cache=cache,
    )
    run_fit(clips_of(data, maps), options, out, resume, workers_of(workers))
