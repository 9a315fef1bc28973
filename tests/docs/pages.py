"""Finds what README and docs tell a reader to type.

A block is indented by four spaces or fenced as `sh`, `console`, `python` or `sql`. Lines of a block that begin with one
of `PROGRAMS` are commands. A trailing backslash continues a line, and `  # words` is a comment. If a line begins with
`$ `, only such lines are commands. In a table, code that begins with a program and has an option is a command too.
A line with `[--`, `...`, a choice `A|B` of files or a word in capitals is a synopsis: the reader fills it in.

A page leaves a command out by a comment before its block or table, with the reason:

    <!-- not run: REASON -->             the next block or table
    <!-- not run (TEXT): REASON -->      those commands of the next block or table that hold TEXT
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAMS = (
    "sonicscan",
    "sonicscan-report",
    "sonicscan-train",
    "sonicscan-export",
    "find",
    "openssl",
    "python",
    "make",
    "pip",
)
_MARK = re.compile(r"<!-- not run(?: \((.+?)\))?: (.+?) -->")
_COMMAND = re.compile(rf"(?:{'|'.join(map(re.escape, PROGRAMS))}) ")
_SYNOPSIS = re.compile(r"\[-|\.\.\.|\.\w+\|\w+\.|(?<=[ :/])[A-Z][A-Z]*\b(?![=.\w-])")
_FENCES = {"sh": "shell", "console": "shell", "python": "python", "sql": "sql"}


@dataclass(frozen=True)
class Snippet:
    """Something to run.

    Attributes:
        page: path below the repository.
        line: its line there, from 1.
        kind: `shell`, `python` or `sql`.
        text: as typed.
        skipped: why the page says that it is not run; empty where it is.
    """

    page: str
    line: int
    kind: str
    text: str
    skipped: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """README and everything below docs."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def snippets(page: Path) -> list[Snippet]:
    """All that a page tells to run, in order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    name = page.relative_to(ROOT).as_posix()
    found: list[Snippet] = []
    marks: list[tuple[str, str]] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        if match := _MARK.search(line):
            marks.append((match[1] or "", match[2]))
        elif line.startswith("```"):
            end = next(k for k in range(at + 1, len(lines)) if lines[k].startswith("```"))
            kind = _FENCES.get(line.strip("`").strip())
            if kind == "shell":
                found += _commands(name, at + 2, lines[at + 1 : end], marks)
            elif kind:
                text = "\n".join(lines[at + 1 : end])
                found.append(Snippet(name, at + 2, kind, text, _skipped(text, marks)))
            marks, at = [], end
        elif line.startswith("    ") and (at == 0 or not lines[at - 1].strip()):
            end = at
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            found += _commands(name, at + 1, [text[4:] for text in lines[at:end]], marks)
            marks, at = [], end - 1
        elif line.startswith("|"):
            end = at
            while end < len(lines) and lines[end].startswith("|"):
                found += _in_table(name, end + 1, lines[end], marks)
                end += 1
            marks, at = [], end - 1
        at += 1
    return found


def _commands(page: str, first: int, lines: list[str], marks: list[tuple[str, str]]) -> Iterator[Snippet]:
    prompted = any(line.startswith("$ ") for line in lines)
    whole, start = "", first
    for number, line in enumerate(lines, first):
        text = line.removeprefix("$ ") if line.startswith("$ ") else ("" if prompted and not whole else line)
        start = start if whole else number
        whole += text
        if whole.endswith("\\"):
            whole = whole[:-1]
            continue
        yield from _command(page, start, whole, lines, number - first, marks)
        whole = ""


def _command(
    page: str, line: int, text: str, lines: list[str], at: int, marks: list[tuple[str, str]]
) -> Iterator[Snippet]:
    text = re.sub(r"\s{2,}#.*", "", text).strip()
    continued = at + 1 < len(lines) and lines[at + 1].startswith("        ")  # only a synopsis continues like this
    if _COMMAND.match(text) and not _SYNOPSIS.search(text) and not continued:
        yield Snippet(page, line, "shell", re.sub(r" {2,}", " ", text), _skipped(text, marks))


def _in_table(page: str, line: int, text: str, marks: list[tuple[str, str]]) -> Iterator[Snippet]:
    for code in re.findall(r"`([^`]+)`", text):
        command = code.replace("\\|", "|")
        if _COMMAND.match(command) and " -" in command and not _SYNOPSIS.search(command):
            yield Snippet(page, line, "shell", command, _skipped(command, marks))


def _skipped(text: str, marks: list[tuple[str, str]]) -> str:
    return next((reason for holds, reason in marks if holds in text), "")
