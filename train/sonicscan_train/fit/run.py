"""A training run on disk: its configuration, its state and its results.

RUN/fit.json       the configuration; --resume needs an equal one, and only --until may differ
RUN/split.csv      the part of each clip
RUN/state.pt       the state after the last whole epoch, which --resume loads; tensors and plain values only
RUN/best/          the best checkpoint so far: model.safetensors and spec.json
RUN/metrics.jsonl  one line for each epoch
RUN/loss.png       losses and validation AUC by epoch
RUN/roc.png        ROC curve of the best checkpoint on the validation part
RUN/run.lock       locked while a process trains in the folder
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import torch

from sonicscan.errors import InputError
from sonicscan.files import lock, open_to_append, replacing, write_whole
from sonicscan.machine import hold_interrupts
from sonicscan_train.data.clips import ClassMode
from sonicscan_train.fit.recipes import Recipe
from sonicscan_train.folders import make_folder


@dataclass(frozen=True)
class FitConfig:
    """What a run was asked to do; with the same clips it gives the same result.

    Attributes:
        backbone: `lambda`, `swin`, or another name that `backbones.build` accepts.
        weights: `pretrained`, `none`, or a file.
        recipe: with any overrides.
        classes: `binary` or `source`.
        families: sources renamed for `classes="source"`.
        seed: of everything random.
        data_digest: of the clips and their parts.
        license_note: terms of weights and data, in words; goes into the contract.
        fold: the fold that was left out of the training clips; None without folds.
        teachers: checkpoints to learn from.
        until: when the run ends, seconds since 1970; None ends it after the recipe's epochs.
    """

    backbone: str
    weights: str
    recipe: Recipe
    classes: ClassMode = "binary"
    families: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    data_digest: str = ""
    license_note: str = ""
    fold: int | None = None
    teachers: tuple[str, ...] = ()
    until: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain


@dataclass
class TrainingProgress:
    """How far a run is.

    Attributes:
        epoch: whole epochs done.
        history: a row of figures for each.
        best: the row of the best epoch; None before the first.
        began: when the run began, seconds since 1970.
    """

    epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None
    began: float = 0.0


class RunFolder:
    """The files of one run.

    Args:
        path: the folder; made where it is missing.
        config: what the run is asked to do.
        resume: continue the existing run, whose configuration must be equal; only `until` may differ.

    Raises:
        InputError: there is a run and `resume` is false, or another one, or none.
    """

    def __init__(self, path: Path, config: FitConfig, *, resume: bool) -> None:
        self.path = path
        self.best = path / "best"
        self._state = path / "state.pt"
        self._config = path / "fit.json"
        self._lock: IO[bytes] | None = None
        asked = config.to_dict()
        if resume:
            self._check_same(asked)
        elif self._config.exists() or self._state.exists():
            raise InputError(f"there is a run in {path}: add --resume to continue it, or name another --out.")

    def begin(self, config: FitConfig) -> None:
        """Make the folder, lock it until `close`, and note the configuration.

        Raises:
            InputError: the folder cannot be written, or another process trains in it.
        """
        make_folder(self.path)
        try:
            self._lock = open_to_append(self.path / "run.lock")
            if lock(self._lock.fileno()) is False:
                raise InputError(f"another process is training in {self.path}; wait for it, or name another --out.")
            write_whole(self._config, json.dumps(config.to_dict(), indent=1) + "\n")
        except OSError as error:
            raise InputError(f"--out {self.path} cannot be written: {error.strerror or error}.") from error

    def close(self) -> None:
        """Let other processes train in the folder."""
        if self._lock is not None:
            self._lock.close()

    def _check_same(self, asked: dict[str, Any]) -> None:
        if not self._config.is_file():
            raise InputError(f"there is no run in {self.path} to resume.")
        try:
            was = _flat(json.loads(self._config.read_text(encoding="utf-8")))
        except ValueError as error:
            raise InputError(f"{self._config} is damaged ({error}); start again with another --out.") from error
        for name, value in _flat(asked).items():
            before = was.get(name)
            moved = name == "until" and before is not None and value is not None
            if before != value and not moved:
                raise InputError(
                    f"the run in {self.path} was asked for {name} = {before!r}, not {value!r}; "
                    "--resume needs the same command."
                )

    def write(self, progress: TrainingProgress, tensors: Mapping[str, Any]) -> None:
        """Note the end of an epoch; an interruption at any moment leaves the last state or this one.

        It waits until the state is written: torch would turn an interrupt into an error of its own.
        """
        state = {**tensors, "progress": json.dumps(dataclasses.asdict(progress))}
        lines = "".join(json.dumps(row) + "\n" for row in progress.history)
        with hold_interrupts():
            with replacing(self._state) as file:
                torch.save(state, file)
            write_whole(self.path / "metrics.jsonl", lines)

    def read(self) -> tuple[TrainingProgress, dict[str, Any]] | None:
        """What `write` wrote last; None before the end of the first epoch.

        Raises:
            InputError: the file is damaged.
        """
        if not self._state.exists():
            return None
        try:
            # Tensors and plain values only: nothing in the file is ever executed.
            state: dict[str, Any] = torch.load(self._state, map_location="cpu", weights_only=True)
            progress = TrainingProgress(**json.loads(state.pop("progress")))
        except Exception as error:  # a cut zip, a foreign pickle and a missing key all have their own
            what = type(error).__name__
            raise InputError(f"{self._state} is damaged ({what}); start again with another --out.") from error
        return progress, state


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            found |= _flat(inner, f"{prefix}{name}.")
        else:
            found[prefix + name] = inner
    return found
