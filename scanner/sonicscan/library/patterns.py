"""Patterns of files and folders, in the syntax of .gitignore, and the number of files that each one matched."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from sonicscan.errors import InputError
from sonicscan.files import read_own, read_small
from sonicscan.library.lists import as_utf8

IGNORE_FILE = ".sonicscanignore"
_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Rule:
    """A pattern, and where it was given.

    Attributes:
        text: the pattern.
        origin: `--include`, `--exclude`, or the name of an ignore file.
    """

    text: str
    origin: str


@dataclass
class Matches:
    """How many files and folders each rule has matched; a folder stands for all that is below it."""

    files: Counter[Rule] = field(default_factory=Counter)
    folders: Counter[Rule] = field(default_factory=Counter)

    @property
    def rules(self) -> list[Rule]:
        """The rules that have matched, in order of text."""
        return sorted({*self.files, *self.folders}, key=lambda rule: (rule.origin, rule.text))

    def of(self, rule: Rule) -> int:
        """Files and folders that the rule has matched."""
        return self.files[rule] + self.folders[rule]


class Patterns:
    """Compares paths below one folder with patterns; where several match, the last one counts.

    Args:
        rules: the patterns. An absolute path below `root` is read as the path below it.
        root: the folder.
        matches: counts are added to it.

    Raises:
        InputError: a pattern that is not valid in .gitignore, or that leads out of the folder.
    """

    def __init__(self, rules: Iterable[Rule], root: bytes, matches: Matches) -> None:
        self._rules = [rule for rule in rules if rule.text.strip() and not _is_comment(rule)]
        self._matches = matches
        if self._rules:
            from pathspec import GitIgnoreSpec

            here = os.path.abspath(os.fsdecode(root)).rstrip("/")  # noqa: PTH100 - of a folder that may be gone
            for rule in self._rules:
                try:
                    GitIgnoreSpec.from_lines([_below(rule.text, here)])
                except (ValueError, re.error):
                    raise InputError(f"{rule.origin}: {rule.text!r} is not a pattern as in .gitignore.") from None
            self._spec = GitIgnoreSpec.from_lines([_below(rule.text, here) for rule in self._rules])

    def match(self, path: bytes) -> bool:
        """Whether a path below the folder is matched; the path of a folder ends in a slash."""
        if not self._rules:
            return False
        found = self._spec.check_file(os.fsdecode(path))
        if not found.include or found.index is None:
            return False
        counter = self._matches.folders if path.endswith(b"/") else self._matches.files
        counter[self._rules[found.index]] += 1
        return True


def options_rules(option: str, patterns: Iterable[str]) -> list[Rule]:
    """The rules of `--include` or `--exclude`.

    Raises:
        InputError: an empty pattern, or one that leads out of the folder.
    """
    rules = [Rule(pattern, option) for pattern in patterns]
    for rule in rules:
        if not rule.text.strip():
            raise InputError(f"{option} has an empty pattern.")
        if ".." in rule.text.split("/"):
            raise InputError(
                f"{option} {rule.text}: a pattern is compared with paths below PATHS; it cannot hold `..`."
            )
    return rules


def ignore_file(path: Path) -> list[Rule]:
    """The rules of an ignore file that the user names.

    Raises:
        InputError: it cannot be read.
    """
    return _rules_of(read_small(path, _MAX_BYTES, f"the ignore file {path}", InputError), path)


def ignore_file_of(root: bytes) -> list[Rule]:
    """The rules of the ignore file in a library's root folder; none where there is no such file.

    Raises:
        InputError: it cannot be read, or another user could have written it; it is then not used.
    """
    path = Path(os.fsdecode(root)) / IGNORE_FILE
    try:
        return _rules_of(read_own(path, _MAX_BYTES), path)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"the ignore file {path} is not used: {error.strerror}.") from error


def _rules_of(content: bytes, path: Path) -> list[Rule]:
    lines = os.fsdecode(as_utf8(content, f"the ignore file {path}")).splitlines()
    rules = [Rule(line, str(path)) for line in lines]
    return [rule for rule in rules if rule.text.strip() and not _is_comment(rule)]


def _is_comment(rule: Rule) -> bool:
    return rule.text.startswith("#") and not rule.origin.startswith("--")


def _below(text: str, root: str) -> str:
    """The pattern as .gitignore writes it, for paths below `root`."""
    negated, text = ("!", text[1:]) if text.startswith("!") else ("", text)
    if text.startswith("./"):
        text = text[1:]
    if text == root or text.startswith(root + "/"):
        text = text[len(root) :] or "/"
    if text.startswith("#"):
        text = "\\" + text
    return negated + text
