"""Reads option values from the command line, SONICSCAN_* variables, `sonicscan.toml`, or an earlier report.

The command line takes precedence over variables, and variables over `sonicscan.toml`. `--replay REPORT` replaces both:
the values that decided the report's rows are taken from its metadata.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from sonicscan.errors import InputError
from sonicscan.files import read_own, read_small
from sonicscan.text import printable

if TYPE_CHECKING:
    from sonicscan.library.urls import Location

CONFIG_FILE = "sonicscan.toml"
PREFIX = "SONICSCAN"
# Options that decide the rows and verdicts of a report; the report's metadata holds them.
REPLAYED = (
    *("paths", "files_from", "null", "include", "exclude", "ignore_file", "no_ignore", "follow_symlinks", "shard"),
    *("model", "model_sha256", "windows", "max_fpr", "threshold", "max_errors", "hash", "timeout"),
    *("no_provenance", "c2pa_trust"),
)
_EXCLUSIVE = (("max_fpr", "threshold"),)
_MAX_BYTES = 1 << 20
_EITHER = "--replay takes its options from the report alone: give --replay or --config."
_ORIGIN, _REPLAYING = "sonicscan.origin", "sonicscan.replaying"  # in Context.meta


def use_file(ctx: click.Context, param: click.Parameter, value: Path | None) -> None:
    """The callback of --config: take values from that file, or from `sonicscan.toml` in the working folder."""
    if ctx.resilient_parsing:
        return
    if ctx.meta.get(_REPLAYING):
        if value is not None:
            raise click.UsageError(_EITHER)
        return
    path = Path(CONFIG_FILE) if value is None else value
    if value is not None:
        content = read_small(path, _MAX_BYTES, f"the configuration {path}", InputError)
    elif path.is_symlink() or path.exists():
        try:
            content = read_own(path, _MAX_BYTES)
        except OSError as error:
            click.echo(f"sonicscan: {path} is not used: {error.strerror}.", err=True)
            return
    else:
        return
    try:
        values = tomllib.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"the configuration {path} is not TOML in UTF-8: {printable(str(error))}.") from error
    ctx.default_map = _checked(values, ctx.command, f"the configuration {path}")
    ctx.meta[_ORIGIN] = str(path)


def use_report(ctx: click.Context, param: click.Parameter, value: Location | None) -> None:
    """The callback of --replay: take the values from a report's metadata and from no other source."""
    if value is None or ctx.resilient_parsing:
        return
    if ctx.get_parameter_source("config") is ParameterSource.COMMANDLINE:
        raise click.UsageError(_EITHER)
    from sonicscan.report.metadata import ReportMetadata
    from sonicscan.report.readers import read_report

    metadata = ReportMetadata.of(read_report(value).schema, value)
    if not metadata.command:
        raise InputError(
            f"{value} holds no command line to be repeated: it was merged, was written by an earlier version, or its "
            "list of files came from standard input."
        )
    foreign = sorted({name.replace("-", "_") for name in metadata.command} - set(REPLAYED))
    if foreign:
        raise InputError(f"the command line in {value} has options that are not replayed: {printable(foreign[0])}.")
    values = _checked(metadata.command, ctx.command, f"the command line in {value}")
    if metadata.model_digest:
        values["model_sha256"] = metadata.model_digest
    ctx.default_map, ctx.auto_envvar_prefix = values, None
    ctx.meta[_ORIGIN] = str(value)
    ctx.meta[_REPLAYING] = True


def resolve_exclusive(ctx: click.Context, given: dict[str, Any]) -> None:
    """Of two options that exclude each other, drop the one whose value has the weaker source."""
    for pair in _EXCLUSIVE:
        if all(given[name] is not None for name in pair):
            strength = [_RANK.get(ctx.get_parameter_source(name) or ParameterSource.DEFAULT, 0) for name in pair]
            if strength[0] != strength[1]:
                given[pair[strength[0] > strength[1]]] = None


_RANK = {ParameterSource.DEFAULT_MAP: 1, ParameterSource.ENVIRONMENT: 2, ParameterSource.COMMANDLINE: 3}


def unknown_variables(command: click.Command, names: Iterable[str]) -> Iterator[str]:
    """One sentence for each SONICSCAN_* variable in the environment that matches no option."""
    known = [str(param.name).upper() for param in _configurable(command) if isinstance(param, click.Option)]
    for name in sorted(names):
        own = name.removeprefix(PREFIX + "_")
        if own != name and own not in known:
            if own == "PATHS":
                yield f"the variable {PREFIX}_PATHS is not an option: name paths in the command or its configuration."
                continue
            near = difflib.get_close_matches(own, known, 1, 0.8)  # others may be of other programs
            if near:
                yield f"the variable {printable(name)} is not an option; the nearest is {PREFIX}_{near[0]}."


def shown(ctx: click.Context, given: Mapping[str, Any]) -> Iterator[str]:
    """The lines of --show-config: TOML that `--config` reads, with the source of each value."""
    lines = []
    for param in _configurable(ctx.command):
        name = str(param.name)
        value, key = plain(given[name]), name.replace("_", "-")
        source = _source(ctx, param)
        lines.append((f"# {key}" if value is None else f"{key} = {_toml(value)}", source))
    width = min(60, max(len(text) for text, _ in lines))
    yield from (f"{text:<{width}}  # {source}" for text, source in lines)


def command_of(given: Mapping[str, Any], default_max_fpr: float) -> dict[str, Any]:
    """The values that `--replay` takes from a report, as JSON values by option; empty if the list of files came from
    standard input, which cannot be repeated."""
    if given["files_from"] == "-":
        return {}
    values = {name.replace("_", "-"): plain(given[name]) for name in REPLAYED}
    if values["threshold"] is None and values["max-fpr"] is None:
        values["max-fpr"] = default_max_fpr
    return {name: value for name, value in values.items() if not (value is None or value is False or value == [])}


def plain(value: object) -> Any:
    """An option's value for JSON and TOML, without the secrets of URLs."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], bool):  # --max-errors
        return f"{value[0]:g}%" if value[1] else f"{value[0]:g}"
    if isinstance(value, frozenset):  # --fail-on
        return ",".join(sorted(value)) or None
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return str(value)


def _configurable(command: click.Command) -> list[click.Parameter]:
    return [param for param in command.params if param.expose_value and getattr(param, "allow_from_autoenv", True)]


def _source(ctx: click.Context, param: click.Parameter) -> str:
    source = ctx.get_parameter_source(str(param.name))
    if source is ParameterSource.COMMANDLINE:
        return "command line"
    if source is ParameterSource.ENVIRONMENT:
        return f"{PREFIX}_{str(param.name).upper()}"
    if source is ParameterSource.DEFAULT_MAP:
        return str(ctx.meta.get(_ORIGIN, "default"))
    return "default"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, str):
        return json.dumps(value.encode("utf-8", "backslashreplace").decode(), ensure_ascii=False).replace(
            "\x7f", "\\u007f"
        )
    return repr(value)


def _checked(values: Mapping[str, Any], command: click.Command, what: str) -> dict[str, Any]:
    """Values by parameter.

    Raises:
        InputError: an unknown key (the message names the nearest option), or a value of another type.
    """
    known = {str(param.name): param for param in _configurable(command)}
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.5)
            advice = f"; the nearest is {near[0].replace('_', '-')}" if near else ""
            raise InputError(f"{what} has the key {printable(key)}, which is not an option{advice}.")
        found[name] = _of_kind(known[name], value, f"{what}: {key}")
    return found


def _of_kind(param: click.Parameter, value: object, what: str) -> object:
    if getattr(param, "is_flag", False):
        if not isinstance(value, bool):
            raise InputError(f"{what} is true or false, not {printable(repr(value))}.")
        return value
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str | int | float) and not isinstance(item, bool) for item in items):
        raise InputError(f"{what} is a text or a number, not {printable(repr(value))}.")
    if any("\0" in str(item) for item in items):
        raise InputError(f"{what} has a NUL character, which no name can have.")
    if getattr(param, "multiple", False) or param.nargs == -1:
        return [str(item) for item in items]
    if isinstance(value, list):
        raise InputError(f"{what} takes one value, not a list.")
    if isinstance(param.type, click.types.IntParamType) and isinstance(value, float):
        raise InputError(f"{what} is a whole number, not {value}.")
    return value


def environment_notes(ctx: click.Context) -> None:
    """Warn about variables that resemble options but match none."""
    for note in unknown_variables(ctx.command, os.environ):
        click.echo(f"sonicscan: {note}", err=True)
