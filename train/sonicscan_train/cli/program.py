"""The `sonicscan-train` program. Heavy modules are imported inside the commands: `--help` is instant."""

from __future__ import annotations

import click

import sonicscan
from sonicscan.cli.console import ProgramGroup
from sonicscan_train.cli.data_commands import audit, folds, split
from sonicscan_train.cli.fit_command import fit
from sonicscan_train.cli.judge_commands import calibrate, crossfit, evaluate


@click.group(cls=ProgramGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(sonicscan.__version__, prog_name="sonicscan-train")
def main() -> None:
    """Train detectors of AI-generated music and evaluate them.

    DATA is a manifest (CSV or Parquet with columns path and label), a folder with a folder for each class, or a
    folder with SONICS, FMA or FakeMusicCaps. The kind is detected. KIND:DATA sets it: manifest, folders, sonics,
    fma or fakemusiccaps.
    """


for command in (audit, split, folds, fit, calibrate, evaluate, crossfit):
    main.add_command(command)
