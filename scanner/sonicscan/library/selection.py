"""Which files of a library are wanted: patterns, links and shards."""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from sonicscan.errors import InputError
from sonicscan.library.patterns import Matches, Patterns, Rule, ignore_file, options_rules


@dataclass(frozen=True)
class Selection:
    """Which files of the folders are wanted.

    Attributes:
        include: patterns, one of which a file must match; empty for the suffixes of sound files.
        exclude: patterns that leave out a file, or a folder with all below it.
        follow_symlinks: whether linked folders are entered; each folder is entered once, under the first path found.
            Linked files are always listed.
        shard: (i, n): only the i-th of n parts (1 <= i <= n), by digest of the path below its root, or
            of the whole URL.
        ignore_files: files with further patterns of what is left out.
        ignore: whether the file .sonicscanignore in the root of a library counts.

    Patterns are those of .gitignore, compared with paths below the folder that was named.

    Raises:
        InputError: a shard or pattern that is not valid, or an ignore file that cannot be read.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    follow_symlinks: bool = False
    shard: tuple[int, int] | None = None
    ignore_files: tuple[Path, ...] = ()
    ignore: bool = True

    def __post_init__(self) -> None:
        if self.shard is not None and not 1 <= self.shard[0] <= self.shard[1]:
            raise InputError(f"--shard takes I/N with 1 <= I <= N, not {self.shard[0]}/{self.shard[1]}.")
        Patterns([*self.included, *self.excluded], b".", Matches())

    @functools.cached_property
    def included(self) -> tuple[Rule, ...]:
        """The rules of `include`."""
        return tuple(options_rules("--include", self.include))

    @functools.cached_property
    def excluded(self) -> tuple[Rule, ...]:
        """The rules of `exclude` and of `ignore_files`."""
        rules = options_rules("--exclude", self.exclude)
        return tuple(rules + [rule for path in self.ignore_files for rule in ignore_file(path)])


def parse_shard(text: str) -> tuple[int, int]:
    """(i, n) from the command line's `--shard I/N`."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match:
        raise InputError(f"--shard takes I/N such as 1/8, not {text!r}.")
    return int(match[1]), int(match[2])


def in_shard(below: bytes, shard: tuple[int, int] | None) -> bool:
    """Whether a path below its root is part of the shard; every path is part of None."""
    if shard is None:
        return True
    index, count = shard
    return int.from_bytes(hashlib.sha256(below).digest()[:8], "big") % count == index - 1
