"""Command line: `python -m sonicscan_train.bundled CORPUS --out DIR`."""

from __future__ import annotations

import dataclasses
import json
import platform
from pathlib import Path

import click
import torch

from sonicscan.spec import AudioSpec
from sonicscan_train.bundled.augment import Augmentation
from sonicscan_train.bundled.batches import Batches, Sampling
from sonicscan_train.bundled.evaluate import evaluation, finish, judging, stress_sample, stress_table
from sonicscan_train.bundled.fit import Schedule, fit
from sonicscan_train.bundled.members import DATA_SEED, MEMBERS
from sonicscan_train.bundled.network import ARCHITECTURE
from sonicscan_train.bundled.prepare import prepare, training_pools
from sonicscan_train.bundled.render import data_table, markdown
from sonicscan_train.bundled.split import Holdout

FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.argument("corpus", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", type=FOLDER, required=True, help="Run folder: checkpoint, logs, model, figures.")
@click.option("--cache", type=FOLDER, help="Folder of decoded sound and log-mel, some 4 GB. [default: OUT/cache]")
@click.option("--steps", type=click.IntRange(min=1), help="Of each member. [default: its own]")
@click.option("--copies", type=click.IntRange(min=0), default=3, show_default=True, help="Varied versions of a sound.")
@click.option("--member", type=click.IntRange(0, len(MEMBERS) - 1), help="Train this one only, beside another process.")
@click.option("--stress", type=click.IntRange(min=0), default=330, show_default=True, help="Excerpts of each class.")
def main(
    corpus: Path, out: Path, cache: Path | None, steps: int | None, copies: int, member: int | None, stress: int
) -> None:
    """Train, export, calibrate and evaluate the bundled model from CORPUS; goes on where it was interrupted.

    Its members train one after the other, or each in a process of its own with --member; the run without --member
    then takes up what they left.
    """
    spec = AudioSpec()
    cache = cache or out / "cache"
    out.mkdir(parents=True, exist_ok=True)
    prepared = prepare(corpus, cache, Holdout(), spec)
    (out / "data.md").write_text(data_table(prepared.excerpts, prepared.judges), encoding="utf-8")
    pools = training_pools(prepared, cache, copies, DATA_SEED, spec)
    say(f"{len(prepared.training_rows)} excerpts train, {sum(prepared.judges)} are left out")
    states, runs = [], []
    for i, planned in enumerate(MEMBERS):
        if member in (None, i):
            schedule = Schedule(steps=steps or planned.steps, seed=planned.seed)
            sampling = Sampling(paired=planned.paired)
            batches = Batches(pools, spec, sampling, Augmentation(), planned.seed)
            states.append(fit(batches, schedule, planned.whiten, out / f"member_{i}", say))
            runs.append({"whiten": planned.whiten, **dataclasses.asdict(schedule), **dataclasses.asdict(sampling)})
    if member is not None:
        return
    model = out / f"{ARCHITECTURE}.onnx"
    run = {
        "members": runs,
        "copies": copies,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
    contract, scored = finish(states, prepared, corpus, model, run)
    say(str(contract.metrics["summary"]))
    figures = evaluation(contract, scored, prepared, cache)
    write(out, figures)
    if stress:
        sample = stress_sample(judging(prepared), stress, DATA_SEED)
        figures["stress"] = stress_table(contract, model, corpus, sample, cache / "stress", say)
        write(out, figures)


def say(line: str) -> None:
    """A message on stderr."""
    click.echo(line, err=True)


def write(out: Path, figures: dict[str, object]) -> None:
    """`evaluation.json` and `evaluation.md`."""
    (out / "evaluation.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
    (out / "evaluation.md").write_text(markdown(figures), encoding="utf-8")


if __name__ == "__main__":
    main()
