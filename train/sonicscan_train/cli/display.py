"""Prints progress on stderr: bars on a terminal, otherwise a line a minute. stdout is for results."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import click

from sonicscan.text import printable

LINE_EVERY_S = 60.0


def say(text: str) -> None:
    """Prints one line on stderr, without control characters."""
    click.echo(printable(text), err=True)


@contextlib.contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Shows progress over `total` files; returns a function to call after each file."""
    with _Bar() as bar:
        bar.begin(what, total)
        yield lambda: bar.advance("")


Training = tuple[Callable[[int, int], None], Callable[[float], None], Callable[[Any], None]]


@contextlib.contextmanager
def training(epochs: int | None) -> Iterator[Training]:
    """Shows progress of a training run; returns functions to call before an epoch, after a step and after an epoch.

    Args:
        epochs: of the whole run; None where it ends by the clock.
    """
    of_all = "" if epochs is None else f"/{epochs}"
    with _Bar() as bar:

        def ended(row: Any) -> None:
            validated = (
                f"validation loss {row['valid_loss']:.4f}, AUC {row['valid_auc']:.4f}, " if "valid_loss" in row else ""
            )
            say(
                f"epoch {row['epoch']}{of_all}: loss {row['train_loss']:.4f}, {validated}"
                f"{row['windows_per_s']:.1f} windows/s, {row['seconds']:.0f} s"
            )

        yield (
            lambda epoch, steps: bar.begin(f"epoch {epoch}{of_all}", steps),
            lambda loss: bar.advance(f"loss {loss:.4f}"),
            ended,
        )


class _Bar:
    """A rich progress bar on a terminal, a line a minute elsewhere."""

    def __enter__(self) -> _Bar:
        self._progress: Any = None
        self._done, self._total, self._what, self._said = 0, 0, "", time.monotonic()
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
            )
            self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def begin(self, what: str, total: int) -> None:
        self._done, self._total, self._what = 0, total, what
        if self._progress is not None:
            for task in self._progress.task_ids:
                self._progress.remove_task(task)
            self._progress.add_task(what, total=total, note="")

    def advance(self, note: str) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[-1], advance=1, note=note)
        elif time.monotonic() - self._said > LINE_EVERY_S:
            self._said = time.monotonic()
            say(f"{self._what}: {self._done} of {self._total}{', ' * bool(note)}{note}")
