"""Implements `sonicscan-train fit` around the training loop: data, split, recipe, progress, interruption."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from sonicscan.cli.console import Ended
from sonicscan.errors import InputError
from sonicscan.machine import on_interrupt
from sonicscan_train.cli.display import say, training
from sonicscan_train.data.clips import ClassMode, Clip, check_two_classes, class_names, data_digest, has_split
from sonicscan_train.data.datasets import skip_unreadable
from sonicscan_train.data.folds import read_folds
from sonicscan_train.data.splits import SplitPlan, split, split_by_files, summary
from sonicscan_train.fit.loop import Watcher, fit
from sonicscan_train.fit.memory import keep_freed_memory
from sonicscan_train.fit.recipes import Recipe, recipe_of
from sonicscan_train.fit.run import FitConfig
from sonicscan_train.nets.backbones import full_name

EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class FitOptions:
    """The command's options, except data, folder and machine; `overrides` replace fields of the recipe."""

    backbone: str = "lambda"
    recipe: str = "robust"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    weights: str = "pretrained"
    source_classes: bool = False
    families: Mapping[str, str] = field(default_factory=dict)
    max_bad: str = "1%"
    seed: int = 0
    license_note: str = ""
    folds: Path | None = None
    fold: int | None = None
    teachers: tuple[Path, ...] = ()
    until: float | None = None
    cache: Path | None = None

    def __post_init__(self) -> None:
        if (self.folds is None) != (self.fold is None):
            raise InputError("--folds FILE and --fold K go together.")


def run_fit(clips: Sequence[Clip], options: FitOptions, out: Path, resume: bool, workers: int) -> None:
    """Trains and prints progress; after Ctrl-C, `--resume` continues after the last whole epoch.

    Raises:
        InputError, ModelError: as `fit` does, and for data that cannot be split or read.
    """
    keep_freed_memory()
    recipe = dataclasses.replace(recipe_of(options.recipe, full_name(options.backbone)), **options.overrides)
    mode: ClassMode = "source" if options.source_classes else "binary"
    check_two_classes(clips, "training")
    class_names(clips, mode, options.families)  # report a wrong label before opening ten thousand files
    main = int(os.environ.get("RANK", "0")) == 0
    clips = skip_unreadable(clips, options.max_bad, say if main else lambda line: None)
    if options.folds is not None:
        folds = read_folds(options.folds, clips)
        if main and any(clip.part for clip in clips):
            say("--folds replaces the parts that the data comes with: all clips of the other folds are used.")
        left_out = [
            dataclasses.replace(c, part="holdout" if f == options.fold else "")
            for c, f in zip(clips, folds, strict=True)
        ]
        clips = _without_fold(left_out, recipe, options.seed, main)
    else:
        clips = _with_parts(clips, recipe, options.seed, main)
    config = FitConfig(
        backbone=options.backbone,
        weights=options.weights,
        recipe=recipe,
        classes=mode,
        families=options.families,
        seed=options.seed,
        data_digest=data_digest(clips),
        license_note=options.license_note,
        fold=options.fold,
        teachers=tuple(str(folder) for folder in options.teachers),
        until=options.until,
    )
    with contextlib.ExitStack() as stack:
        watcher = Watcher()
        if main:
            began, stepped, ended = stack.enter_context(training(recipe.epochs if options.until is None else None))
            watcher = Watcher(began, stepped, ended, skipped=say)
        try:
            stack.enter_context(_interruptible())
            progress = fit(clips, config, out, resume=resume, workers=workers, cache=options.cache, watcher=watcher)
        except KeyboardInterrupt:
            say(f"interrupted; add --resume to the same command to continue after the last whole epoch in {out}.")
            raise Ended(EXIT_INTERRUPTED) from None
    if main and progress.best:
        best = progress.best
        validated = (
            f"validation AUC {best['valid_auc']:.4f}, loss {best['valid_loss']:.4f}" if "valid_auc" in best else ""
        )
        which = f"best epoch {best['epoch']}: {validated}" if validated else f"last epoch {best['epoch']}"
        say(f"{which}; checkpoint {out / 'best'}")


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Makes SIGINT and SIGTERM end the run in the same way; clusters send SIGTERM at the time limit. SIGINT is set too,
    because background programs of a shell script start with SIGINT ignored.
    """

    def stop(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with on_interrupt(stop):
        yield


def _without_fold(clips: Sequence[Clip], recipe: Recipe, seed: int, main: bool) -> list[Clip]:
    """Returns the clips of the other folds as training clips; if the recipe validates, a part of them for
    validation."""
    if recipe.best == "last":
        return [dataclasses.replace(clip, part=clip.part or "train") for clip in clips]
    rest = _with_parts([clip for clip in clips if not clip.part], recipe, seed, main, test=False)
    return [*rest, *(clip for clip in clips if clip.part)]


def _with_parts(clips: Sequence[Clip], recipe: Recipe, seed: int, main: bool, *, test: bool = True) -> list[Clip]:
    """Returns the clips with their own split if they have one; otherwise with a new split of the recipe's kind.

    Without `test`, clips of the part test are for training: the left-out fold tests the network.
    """
    if has_split(clips):
        return list(clips)
    if recipe.best == "last":  # nothing is chosen by validation
        return [dataclasses.replace(clip, part="train") for clip in clips]
    by_files = recipe.split == "files"
    parts = split_by_files(clips) if by_files else split(clips, SplitPlan(seed=seed))
    if not test:
        parts = [dataclasses.replace(clip, part="train") if clip.part == "test" else clip for clip in parts]
    if main:
        sizes = ", ".join(f"{part} {n}" for part, n, *_ in summary(parts))
        say(f"the data has no split; divided by {'files, as the seed did' if by_files else 'groups'}: {sizes}")
    return parts
