"""Command line: `python -m sonicscan_train.bundled CORPUS --out DIR`."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from pathlib import Path

import click
import torch
from torch import Tensor

from sonicscan.files import write_whole
from sonicscan.spec import AudioSpec
from sonicscan_train.bundled.augment import Augmentation
from sonicscan_train.bundled.batches import Batches, Pool, Sampling
from sonicscan_train.bundled.evaluate import calibrate, evaluation, judging, stress_sample, stress_table
from sonicscan_train.bundled.export import bare_spec, export, read_members
from sonicscan_train.bundled.fit import Schedule, Teacher, fit
from sonicscan_train.bundled.members import DATA_SEED, LAMBDA, MEMBERS
from sonicscan_train.bundled.network import ARCHITECTURE, SonicNet, restored
from sonicscan_train.bundled.prepare import Prepared, prepare, training_pools
from sonicscan_train.bundled.render import data_table, markdown
from sonicscan_train.bundled.split import Holdout
from sonicscan_train.bundled.student import Pupil, save_checkpoint
from sonicscan_train.data.clips import Clip
from sonicscan_train.data.manifest import write_split

SPEC = AudioSpec()
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.argument("corpus", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", type=FOLDER, required=True, help="Run folder: checkpoints, logs, model, figures.")
@click.option("--cache", type=FOLDER, help="Folder of decoded sound and log-mel, some 4 GB. [default: OUT/cache]")
@click.option("--copies", type=click.IntRange(min=0), default=3, show_default=True, help="Varied versions of a sound.")
@click.option("--only", type=click.Choice([*map(str, range(len(MEMBERS))), "lambda"]), help="Train this one, no more.")
@click.option("--take", type=FILE, help="Bundled model of an earlier run: members that it has are not trained again.")
@click.option("--judge", type=FILE, help="Calibrate and evaluate this ONNX file, in place; train nothing.")
@click.option("--stress", type=click.IntRange(min=0), default=330, show_default=True, help="Excerpts of each class.")
def main(
    corpus: Path,
    out: Path,
    cache: Path | None,
    copies: int,
    only: str | None,
    take: Path | None,
    judge: Path | None,
    stress: int,
) -> None:
    """Train, export, calibrate and evaluate the bundled model from CORPUS; goes on where it was interrupted.

    Its members train one after the other and then Lambda, which learns from them; or each in a process of its own with
    --only, and the run without it takes up what they left. OUT/lambda is then a checkpoint for `sonicscan-export`, with
    OUT/split.csv as its --calibration-data, and --judge gives the file that comes of it its calibration and figures.
    """
    cache = cache or out / "cache"
    out.mkdir(parents=True, exist_ok=True)
    prepared = prepare(corpus, cache, Holdout(), SPEC)
    write_whole(out / "data.md", data_table(prepared.excerpts, prepared.judges))
    write_split(as_clips(prepared, corpus), out / "split.csv")
    if judge is None:
        pools = training_pools(prepared, cache, copies, DATA_SEED, SPEC)
        say(f"{len(prepared.training_rows)} excerpts train, {sum(prepared.judges)} are left out")
        taken = {} if take is None else read_members(take)
        shipped = [i for i, member in enumerate(MEMBERS) if member.ships]
        needed = {*shipped, *LAMBDA.teachers} if only is None else LAMBDA.teachers if only == "lambda" else {int(only)}
        for i in sorted(needed):
            if i not in taken:
                taken[i] = train_member(i, pools, out)
        if only in (None, "lambda"):
            save_checkpoint(train_lambda(taken, pools, out), out / "lambda")
        if only is not None:
            return
        judge = out / f"{ARCHITECTURE}.onnx"
        export({i: taken[i] for i in shipped}, bare_spec(SPEC, ARCHITECTURE), judge)
        run: dict[str, object] = {
            "copies": copies,
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
        }
    else:
        run = {}
    contract, scored = calibrate(judge, prepared, corpus, run)
    say(str(contract.metrics["summary"]))
    figures = evaluation(contract, scored, prepared, cache)
    write(out, judge.stem, figures)
    if stress:
        sample = stress_sample(judging(prepared), stress, DATA_SEED)
        figures["stress"] = stress_table(contract, judge, corpus, sample, cache / f"stress-{judge.stem}", say)
        write(out, judge.stem, figures)


def as_clips(prepared: Prepared, corpus: Path) -> list[Clip]:
    """The excerpts as `sonicscan-export` takes them: those that are left out calibrate."""
    parts = ["calibration" if judge else "train" for judge in prepared.judges]
    return [
        Clip(path=str(corpus / e.path), label=e.label, source=e.source, group=e.group, part=part)
        for e, part in zip(prepared.excerpts, parts, strict=True)
    ]


def train_member(i: int, pools: list[Pool], out: Path) -> dict[str, Tensor]:
    """Averaged weights of a member, trained or taken up in `out`."""
    member = MEMBERS[i]
    batches = Batches(pools, SPEC, Sampling(paired=member.paired), Augmentation(p_warp=member.p_warp), member.seed)
    schedule = Schedule(steps=member.steps, seed=member.seed)
    return fit(lambda: SonicNet(whiten=member.whiten), batches, schedule, out / f"member_{i}", say)


def train_lambda(members: Mapping[int, dict[str, Tensor]], pools: list[Pool], out: Path) -> dict[str, Tensor]:
    """Averaged weights of Lambda, taught by some of the members."""
    teacher = Teacher([restored(members[i], MEMBERS[i].whiten) for i in LAMBDA.teachers], LAMBDA.share)
    batches = Batches(pools, SPEC, Sampling(), Augmentation(p_warp=LAMBDA.p_warp), LAMBDA.seed)
    schedule = Schedule(
        steps=LAMBDA.steps,
        learning_rate=LAMBDA.learning_rate,
        average_decay=LAMBDA.average_decay,
        seed=LAMBDA.seed,
    )
    return fit(Pupil, batches, schedule, out / "student", say, teacher)


def say(line: str) -> None:
    """A message on stderr."""
    click.echo(line, err=True)


def write(out: Path, name: str, figures: dict[str, object]) -> None:
    """`NAME.json` and `NAME.md`."""
    write_whole(out / f"{name}.json", json.dumps(figures, indent=1))
    write_whole(out / f"{name}.md", markdown(figures))


if __name__ == "__main__":
    main()
