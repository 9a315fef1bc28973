"""The `sonicscan-train` program."""

from sonicscan_train.cli.program import main

__all__ = ["main"]
