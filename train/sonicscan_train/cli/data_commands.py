"""The commands `audit`, `split` and `folds`: data before any training."""

from __future__ import annotations

from pathlib import Path

import click

from sonicscan.cli.console import Ended
from sonicscan_train.cli.options import FILE, clips_of, data_options, map_option, workers_of, workers_option

_EXIT_FOUND = 1  # 2 is console.FatalError's


@click.command()
@click.argument("data", nargs=-1, required=True)
@data_options
@workers_option
@click.option(
    "--columns", multiple=True, metavar="NAME", help="Audit these columns of the manifest too, for example orig_*."
)
@click.option("--max-auc", default=0.65, show_default=True, help="Largest AUC allowed for one trivial feature.")
@click.option("--out", type=FILE, help="Folder for audit.json and audit.png.")
def audit(
    data: tuple[str, ...],
    maps: tuple[str, ...],
    max_bad: str,
    workers: int | None,
    columns: tuple[str, ...],
    max_auc: float,
    out: Path | None,
) -> None:
    """Find shortcuts in DATA before training.

    Exit code 0: nothing was found. 1: one feature of the files separates the classes, a sound is in two classes or
    parts, or a group or artist is in two parts. 2: usage error, or data that cannot be read.
    """
    from rich.console import Console

    from sonicscan_train.cli.display import counting, say
    from sonicscan_train.data.audit import audit as run
    from sonicscan_train.data.audit_report import print_audit, write_audit
    from sonicscan_train.folders import make_folder

    clips = clips_of(data, maps)
    if out is not None:
        make_folder(out)
    with counting("measuring", len(clips)) as done:
        result = run(clips, limit=max_auc, columns=columns, workers=workers_of(workers), max_bad=max_bad, done=done)
    for path, reason in result.skipped.items():
        say(f"left out: {path}: {reason}")
    print_audit(result, Console())
    if out is not None:
        write_audit(result, out)
    if not result.passed:
        raise Ended(_EXIT_FOUND)


@click.command()
@click.argument("data", nargs=-1, required=True)
@click.option("--out", type=FILE, required=True, help="The split: a CSV manifest with a column `split`.")
@map_option
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same split.")
@click.option("--valid", default=0.2, show_default=True, help="Share for the choice of the checkpoint.")
@click.option("--test", default=0.2, show_default=True, help="Share for the final evaluation.")
@click.option("--calibration", default=0.0, show_default=True, help="Share for calibration only.")
@click.option("--holdout-sources", default="", metavar="A,B", help="Generators and human sources to leave out whole.")
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
    """Divide DATA into parts for training and evaluation.

    No group and no artist is in two parts.
    """
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
    clips = run(clips_of(data, maps), plan)
    write_split(clips, out)
    for part, n, groups, people, sources in summary(clips):
        click.echo(f"{part}\t{n} clips\t{people} by people\t{groups} groups\t{sources} sources")


@click.command()
@click.argument("corpus", type=FILE)
@click.option("--plan", required=True, metavar="NAME|FILE.toml", help="small, or a plan of your own.")
@click.option("--out", type=FILE, required=True, help="The folds: a CSV file with columns path and fold.")
def folds(corpus: Path, plan: str, out: Path) -> None:
    """Assign the clips of CORPUS to folds for cross-fitting.

    CORPUS is a manifest, or a folder with manifest.csv.

    Clips that share a group, a source or a family stay in one fold.
    """
    from collections import Counter

    from sonicscan_train.data.folds import deal, read_plan, write_folds

    clips = clips_of((str(corpus),))
    dealt = deal(clips, read_plan(plan))
    write_folds(clips, dealt, corpus if corpus.is_dir() else corpus.parent, out)
    for fold in sorted(set(dealt)):
        counts = Counter(clip.label for clip, own in zip(clips, dealt, strict=True) if own == fold)
        click.echo(f"fold {fold}\t" + "\t".join(f"{n} {label}" for label, n in sorted(counts.items())))
