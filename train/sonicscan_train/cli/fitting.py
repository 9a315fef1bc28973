"""What `sonicscan-train fit` does around the training loop: data, split, recipe, progress, interruption."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from sonicscan_train.cli.display import say, training
from sonicscan_train.data.clips import ClassMode, Clip, check_two_classes, class_names, data_digest, pairs
from sonicscan_train.data.datasets import skip_unreadable
from sonicscan_train.data.splits import SplitPlan, split, split_by_files, summary
from sonicscan_train.fit.loop import Watcher, fit
from sonicscan_train.fit.recipes import Recipe, recipe_of
from sonicscan_train.fit.run import FitConfig
from sonicscan_train.nets.backbones import full_name

EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class FitOptions:
    """The command's options, but for data, folder and machine; `overrides` replace fields of the recipe."""

    backbone: str = "lambda"
    recipe: str = "robust"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    weights: str = "pretrained"
    source_classes: bool = False
    families: tuple[str, ...] = ()
    max_bad: str = "1%"
    seed: int = 0
    license_note: str = ""


def run_fit(clips: Sequence[Clip], options: FitOptions, out: Path, resume: bool, workers: int) -> None:
    """Train, and say how it goes; Ctrl-C leaves the last whole epoch to go on from.

    Raises:
        InputError, ModelError: as `fit` does, and for data that cannot be split or read.
    """
    recipe = dataclasses.replace(recipe_of(options.recipe, full_name(options.backbone)), **options.overrides)
    mode: ClassMode = "source" if options.source_classes else "binary"
    families = pairs(options.families, "family")
    check_two_classes(clips, "training")
    class_names(clips, mode, families)  # a wrong label is worth knowing before ten thousand files are opened
    main = int(os.environ.get("RANK", "0")) == 0
    clips = skip_unreadable(clips, options.max_bad, say if main else lambda line: None)
    clips = _with_parts(clips, recipe, options.seed, main)
    config = FitConfig(
        backbone=options.backbone,
        weights=options.weights,
        recipe=recipe,
        classes=mode,
        families=families,
        seed=options.seed,
        data_digest=data_digest(clips),
        license_note=options.license_note,
    )
    with contextlib.ExitStack() as stack:
        watcher = Watcher()
        if main:
            began, stepped, ended = stack.enter_context(training(recipe.epochs))
            watcher = Watcher(began, stepped, ended, skipped=say)
        try:
            stack.enter_context(_interruptible())
            progress = fit(clips, config, out, resume=resume, workers=workers, watcher=watcher)
        except KeyboardInterrupt:
            say(f"interrupted; the same command with --resume goes on after the last whole epoch in {out}.")
            raise SystemExit(EXIT_INTERRUPTED) from None
    if main and progress.best:
        best = progress.best
        say(
            f"best epoch {best['epoch']}: validation AUC {best['valid_auc']:.4f}, loss {best['valid_loss']:.4f}; "
            f"checkpoint {out / 'best'}"
        )


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGINT and SIGTERM (a cluster's way to say that time is up) end the run alike.

    Set here, because a program that a script starts in the background inherits that SIGINT is ignored.
    """

    def stop(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _with_parts(clips: Sequence[Clip], recipe: Recipe, seed: int, main: bool) -> list[Clip]:
    """The clips' own split where all have one; else a new one, of the recipe's kind."""
    if all(clip.part for clip in clips):
        return list(clips)
    by_files = recipe.split == "files"
    parts = split_by_files(clips) if by_files else split(clips, SplitPlan(seed=seed))
    if main:
        sizes = ", ".join(f"{part} {n}" for part, n, *_ in summary(parts))
        say(f"the data has no split; divided by {'files, as the seed did' if by_files else 'groups'}: {sizes}")
    return parts
