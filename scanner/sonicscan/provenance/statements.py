"""The statements by which files say how they were made: `statements.toml`, and matching against it."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import resources

from sonicscan.provenance.record import Claim, Source

MAX_TEXT = 500  # characters of a statement in a report


@dataclass(frozen=True)
class Declaration:
    """One statement of a file about how it was made; fields as in `Provenance`."""

    claim: Claim
    source: Source
    statement: str
    generator: str | None = None
    generator_version: str | None = None


@dataclass(frozen=True)
class _TagStatement:
    claim: Claim
    fields: frozenset[str]
    pattern: re.Pattern[str]
    generator: str | None
    generator_pattern: re.Pattern[str] | None


@dataclass(frozen=True)
class _Statements:
    source_types: dict[str, Claim]
    tags: tuple[_TagStatement, ...]


@functools.cache
def _statements() -> _Statements:
    text = resources.files("sonicscan.provenance").joinpath("statements.toml").read_text(encoding="utf-8")
    found = tomllib.loads(text)
    types = {code.lower(): entry["claim"] for entry in found["source_type"] for code in entry["codes"]}
    tags = tuple(
        _TagStatement(
            entry["claim"],
            frozenset(entry["fields"]),
            re.compile(entry["pattern"], re.I | re.S),
            entry.get("generator"),
            re.compile(entry["generator_pattern"]) if "generator_pattern" in entry else None,
        )
        for entry in found["tag"]
    )
    return _Statements(types, tags)


def claim_of_source_type(digital_source_type: str) -> Claim:
    """The claim of a digitalSourceType; ignores the address of the vocabulary before the code."""
    code = re.split(r"[/#:]", digital_source_type.strip().rstrip("/"))[-1]
    return _statements().source_types.get(code.lower(), "none")


def declared_in_tags(fields: Iterable[tuple[str, str]]) -> Iterator[Declaration]:
    """The statements among tags.

    Args:
        fields: names of tags in lower case, and their texts.
    """
    for name, text in fields:
        if name.rpartition(":")[2] == "digitalsourcetype" and (claim := claim_of_source_type(text)) != "none":
            yield Declaration(claim, "tag", shortened(text.strip()))
        for known in _statements().tags:
            if name in known.fields and known.pattern.fullmatch(text.strip()):
                generator = known.generator
                if known.generator_pattern is not None and (match := known.generator_pattern.search(text)):
                    generator = match[1]
                yield Declaration(known.claim, "tag", shortened(text.strip()), generator)


def shortened(text: str, length: int = MAX_TEXT) -> str:
    """Text that a report can hold: valid UTF-8 without NUL, of at most `length` characters."""
    return text[:length].encode("utf-8", "replace").decode("utf-8").replace("\0", " ").strip()
