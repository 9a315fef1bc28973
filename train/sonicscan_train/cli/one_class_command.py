"""The command `one-class`."""

from __future__ import annotations

from pathlib import Path

import click

from sonicscan_train.cli.options import FILE, clips_of, data_options, workers_of, workers_option


@click.command("one-class")
@click.argument("model", type=FILE, metavar="CHECKPOINT")
@click.option("--data", multiple=True, required=True, metavar="DATA", help="The data that the model was trained with.")
@data_options
@workers_option
@click.option("--folds", type=FILE, metavar="CSV", help="Folds of the clips; needs --fold.")
@click.option("--fold", type=click.IntRange(min=0), metavar="K", help="The fold that the model was trained without.")
@click.option("--rank", type=click.IntRange(min=1), default=64, show_default=True, help="Principal components.")
@click.option(
    "--share",
    type=click.FloatRange(0.0, 1.0, min_open=True, max_open=True),
    default=0.2,
    show_default=True,
    help="Share of the term in the margin.",
)
@click.option("--windows", default="4", show_default=True, metavar="N|all", help="Windows of each track.")
@click.option("--out", type=FILE, required=True, help="The new checkpoint.")
def one_class(
    model: Path,
    data: tuple[str, ...],
    maps: tuple[str, ...],
    max_bad: str,
    workers: int | None,
    folds: Path | None,
    fold: int | None,
    rank: int,
    share: float,
    windows: str,
    out: Path,
) -> None:
    """Add a one-class term to CHECKPOINT.

    The term compares each window with the training windows by people. It needs no further training. The new checkpoint
    has no calibration.
    """
    from sonicscan.audio.windows import WindowPlan
    from sonicscan_train.cli.one_class import run_one_class

    clips = clips_of(data, maps)
    plan = WindowPlan.parse(windows)
    run_one_class(model, clips, out, (folds, fold), rank, share, plan, max_bad, workers_of(workers))
