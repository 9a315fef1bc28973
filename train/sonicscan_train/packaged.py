"""TOML files that come with the package, such as recipes, or that a user writes in their place. `built` turns their
values into dataclasses.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from sonicscan.errors import InputError

T = TypeVar("T")

_PACKAGE = Path(__file__).parent


def packaged_files(folder: str) -> list[Path]:
    """The TOML files in a folder of the package, by name."""
    return sorted((_PACKAGE / folder).glob("*.toml"))


def read_packaged(name: str, folder: str, kind: str) -> tuple[Path, dict[str, Any]]:
    """A TOML file and what it holds.

    Args:
        name: a file that ends in `.toml`, or the name of one in `folder`.
        folder: a folder of the package, such as `recipes`.
        kind: what one such file is called in messages, such as `recipe`.

    Raises:
        InputError: there is no such file, or it is not TOML.
    """
    path = Path(name) if name.endswith(".toml") else _PACKAGE / folder / f"{name}.toml"
    try:
        return path, tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(file.stem for file in packaged_files(folder))
        raise InputError(f"there is no {kind} {name!r}; known: {known}, or give a .toml file.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"the {kind} {path} cannot be read: {error}.") from error


def built(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """A dataclass from TOML values, nested ones included; arrays become tuples.

    Args:
        cls: a dataclass whose fields are text, numbers, Literals, tuples, Mappings or dataclasses, or one of these and
            None.
        values: by name.
        where: the file, for messages.

    Raises:
        InputError: an unknown name, or a value of another type than the field's.
    """
    kinds = typing.get_type_hints(cls)
    given = {}
    for name, value in values.items():
        if name not in kinds:
            raise InputError(f"{where} has an unknown value {name!r} in {cls.__name__}.")
        if not _fits(value, kinds[name]):
            raise InputError(f"{where} has {name} = {value!r}, which must be {_in_words(kinds[name])}.")
        nested: Any = next((kind for kind in _alternatives(kinds[name]) if dataclasses.is_dataclass(kind)), None)
        given[name] = _frozen(value) if nested is None else built(nested, value, where)
    return cls(**given)


def _fits(value: Any, kind: Any) -> bool:
    """Whether a TOML value can be a field of that type."""
    parts = typing.get_args(kind)
    if isinstance(kind, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if typing.get_origin(kind) is Literal:
        return value in parts
    if typing.get_origin(kind) is tuple:
        several = parts[-1] is Ellipsis
        wanted = parts[:1] * len(value) if several and isinstance(value, list) else parts
        return isinstance(value, list) and len(value) == len(wanted) and all(map(_fits, value, wanted))
    if typing.get_origin(kind) is Mapping:
        return isinstance(value, dict) and all(_fits(found, parts[1]) for found in value.values())
    if dataclasses.is_dataclass(kind):
        return isinstance(value, dict)
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is kind


def _in_words(kind: Any) -> str:
    """What values of a type are, in words."""
    parts = typing.get_args(kind)
    if isinstance(kind, types.UnionType):
        return _in_words(parts[0])
    if typing.get_origin(kind) is Literal:
        return " or ".join(map(repr, parts))
    if typing.get_origin(kind) is tuple:
        return f"a list, each value {_in_words(parts[0])}" if parts[-1] is Ellipsis else f"{len(parts)} numbers"
    if typing.get_origin(kind) is Mapping:
        return f"a table, each value {_in_words(parts[1])}"
    return {int: "a whole number", float: "a number", str: "text", bool: "true or false"}.get(kind, "a table")


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)


def _frozen(value: Any) -> Any:
    """A TOML value with tuples in place of arrays."""
    if isinstance(value, list):
        return tuple(map(_frozen, value))
    return {name: _frozen(found) for name, found in value.items()} if isinstance(value, dict) else value
