"""The options of `sonicscan`, in the groups that its help shows, and their values as one object."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

import sonicscan
from sonicscan.calls import DEFAULT_TIMEOUT_S
from sonicscan.cli.console import Program
from sonicscan.cli.parameters import FailOn, FileType, LocationType, MaxErrors, SinceType, Size, file_names
from sonicscan.library.urls import Location, located
from sonicscan.model.bundled import DEFAULT

NEW_FLAGGED = "new-flagged"
FAIL_ON = ("flagged", "review", NEW_FLAGGED, "generated")

_F = TypeVar("_F", bound=Callable[..., Any])


class _Option(click.Option):
    """An option that belongs to a group of the help."""

    def __init__(self, *args: Any, group: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group


class ScanProgram(Program):
    """A program whose help shows its options by group."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each group; options without a group come last."""
        groups: dict[str, list[tuple[str, str]]] = {}
        last: list[tuple[str, str]] = []
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                (groups.setdefault(param.group, []) if isinstance(param, _Option) else last).append(record)
        groups.setdefault("Configuration and information", []).extend(last)
        for name, records in groups.items():
            with formatter.section(name):
                formatter.write_dl(records)


def _group(name: str) -> Callable[..., Callable[[_F], _F]]:
    return functools.partial(click.option, cls=_Option, group=name)


_input, _model, _verdict = _group("Input"), _group("Model"), _group("Verdict")
_provenance = _group("Provenance")
_output, _machine, _cluster = _group("Output"), _group("Machine"), _group("Cluster")
_about = functools.partial(_group("Configuration and information"), allow_from_autoenv=False)


def _use_file(ctx: click.Context, param: click.Parameter, value: Path | None) -> None:
    if value is not None or os.path.lexists("sonicscan.toml"):  # without a file, the reader is not imported
        from sonicscan.cli.configuration import use_file

        use_file(ctx, param, value)


def _use_report(ctx: click.Context, param: click.Parameter, value: Location | None) -> None:
    if value is not None:
        from sonicscan.cli.configuration import use_report

        use_report(ctx, param, value)


def _joined(ctx: click.Context, param: click.Parameter, value: tuple[frozenset[str], ...]) -> frozenset[str]:
    return frozenset().union(*value)


_OPTIONS = (
    click.argument("paths", nargs=-1, type=click.Path(path_type=str)),
    _input(
        "--files-from", shell_complete=file_names, metavar="FILE|-", help="Scan the files listed in FILE, one a line."
    ),
    _input("-0", "--null", is_flag=True, help="Paths in the list end with NUL, not with a newline."),
    _input("--include", multiple=True, metavar="PATTERN", help="Scan only these files. [default: audio file names]"),
    _input("--exclude", multiple=True, metavar="PATTERN", help="Leave out files and folders, as in .gitignore."),
    _input(
        "--ignore-file", multiple=True, type=FileType(), metavar="FILE", help="Leave out files by the patterns in FILE."
    ),
    _input("--no-ignore", is_flag=True, help="Ignore the library's .sonicscanignore."),
    _input("--follow-symlinks", is_flag=True, help="Enter linked folders too; linked files are always scanned."),
    _input("--shard", metavar="I/N", help="Scan the I-th of N parts of the library."),
    _model("--model", type=LocationType(), help=f"ONNX model, or a bundled one's name. [default: {DEFAULT}]"),
    _model("--max-model-size", type=Size(), default="2GB", show_default=True, help="Largest size of a model at a URL."),
    _model("--model-sha256", metavar="HEX", help="Refuse a model with another digest."),
    _model("--model-key", type=FileType(), metavar="PUB", help="Refuse a model that this key has not signed."),
    _model(
        "--windows", default="12", show_default=True, metavar="N|all|adaptive", help="Windows to score in each track."
    ),
    _verdict("--max-fpr", type=float, metavar="F", help="Certified false-positive rate of `flagged`. [default: 0.01]"),
    _verdict("--threshold", type=float, metavar="T", help="Flag scores from T on, instead of --max-fpr."),
    _verdict(
        "--fail-on",
        type=FailOn(FAIL_ON),
        multiple=True,
        callback=_joined,
        help="Exit with 1 if a track has, or newly has, such a verdict, or declares itself generated.",
    ),
    _verdict("--reviewed", type=FileType(), metavar="FILE", help="CSV of decisions; decided tracks do not count."),
    _verdict("--max-errors", type=MaxErrors(), default="0", show_default=True, help="Number of failed tracks allowed."),
    _output(
        "--out",
        shell_complete=file_names,
        help="Report: .parquet, .csv, .jsonl, folder/ or - (JSON Lines). {date} is today. [default: lines on stdout]",
    ),
    _output("--part-size", type=click.IntRange(1), metavar="ROWS", help="Rows in each part of --out folder/. [50000]"),
    _output("--since", type=SinceType(), metavar="REPORT|latest", help="Carry over rows of unchanged files."),
    _output("--fresh", is_flag=True, help="Discard the rows of an interrupted scan."),
    _output("--journal", type=FileType(), help="File for the rows of an unfinished scan. [default: OUT.journal]"),
    _provenance("--no-provenance", is_flag=True, help="Do not read what files declare about their own origin."),
    _provenance("--c2pa-trust", type=FileType(), metavar="FILE", help="Trusted root certificates (PEM)."),
    _output("--hash", is_flag=True, help="Put the SHA-256 of each file into the report."),
    _output("--metrics-file", type=FileType(), metavar="F", help="Write metrics for Prometheus to F."),
    _output("-q", "--quiet", is_flag=True, help="Print only errors on stderr."),
    _output("-v", "--verbose", is_flag=True, help="Also print failed tracks and tracebacks on stderr."),
    _machine("--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:N]", help="Where the model runs."),
    _machine("--workers", type=click.IntRange(1, 1024), help="Number of decoding processes. [default: by machine]"),
    _machine(
        "--threads", type=click.IntRange(1, 1024), help="Number of CPU threads of the model. [default: by machine]"
    ),
    _machine("--batch-size", type=click.IntRange(1, 4096), help="Windows in a batch. [default: 4, Swin 1, on CUDA 64]"),
    _machine(
        "--timeout",
        type=float,
        default=DEFAULT_TIMEOUT_S,
        show_default=True,
        metavar="S",
        help="Longest time to decode a file, in s.",
    ),
    _cluster(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="Scan with local processes, or with Ray.",
    ),
    _cluster(
        "--ray-address", metavar="ADDR", help="Address of the Ray cluster. [default: RAY_ADDRESS, or this machine]"
    ),
    _cluster(
        "--gpus-per-actor", type=float, default=0.0, show_default=True, metavar="X", help="GPU share of each model."
    ),
    _about(
        "--replay",
        type=LocationType(),
        is_eager=True,
        expose_value=False,
        callback=_use_report,
        metavar="REPORT",
        help="Scan with the options of that report.",
    ),
    _about(
        "--config",
        type=FileType(),
        is_eager=True,
        expose_value=False,
        callback=_use_file,
        metavar="FILE",
        help="Read options from FILE. [default: ./sonicscan.toml]",
    ),
    _about("--show-config", is_flag=True, help="Print the options in effect and their sources."),
    _about("--doctor", is_flag=True, help="Check this installation and machine."),
    _about("--list-models", is_flag=True, help="List the bundled models."),
    _about("--json", is_flag=True, help="Print --doctor and --list-models as JSON."),
    click.version_option(sonicscan.__version__, prog_name="sonicscan", allow_from_autoenv=False),
)
INFORMATION = ("show_config", "doctor", "list_models", "json")  # options that no scan needs


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """The values of the options, each under its option's name."""

    paths: tuple[str, ...]
    files_from: str | None
    null: bool
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    ignore_file: tuple[Path, ...]
    no_ignore: bool
    follow_symlinks: bool
    shard: str | None
    model: Location | None
    max_model_size: int
    model_sha256: str | None
    model_key: Path | None
    windows: str
    max_fpr: float | None
    threshold: float | None
    fail_on: frozenset[str]
    no_provenance: bool
    c2pa_trust: Path | None
    reviewed: Path | None
    max_errors: tuple[float, bool]
    out: str | None
    part_size: int | None
    since: Location | None
    fresh: bool
    journal: Path | None
    hash: bool
    metrics_file: Path | None
    quiet: bool
    verbose: bool
    device: str
    workers: int | None
    threads: int | None
    batch_size: int | None
    timeout: float
    engine: str
    ray_address: str | None
    gpus_per_actor: float

    def __post_init__(self) -> None:
        """Raise `click.UsageError` if options contradict each other."""
        if self.max_fpr is not None and self.threshold is not None:
            raise click.UsageError("--max-fpr and --threshold are mutually exclusive.")
        if not self.paths and self.files_from is None:
            raise click.UsageError("name a file or folder to scan, or a list with --files-from.")
        if self.null and self.files_from is None:
            raise click.UsageError("-0 needs a list: --files-from FILE.")
        if self.out == "":
            raise click.UsageError("--out is empty: name a report, or leave --out out for lines on standard output.")
        if self.out in (None, "-") and (self.since or self.fresh or self.journal):
            raise click.UsageError("--since, --fresh and --journal need a report file: --out FILE.")
        if self.engine == "local" and (self.ray_address is not None or self.gpus_per_actor):
            raise click.UsageError("--ray-address and --gpus-per-actor are for --engine ray.")
        if self.part_size is not None and not self.into_folder:
            raise click.UsageError("--part-size is for a report in parts: --out FOLDER/.")
        if NEW_FLAGGED in self.fail_on and self.since is None:
            raise click.UsageError(
                "--fail-on new-flagged compares with earlier reports: give --since latest or --since REPORT."
            )
        if NEW_FLAGGED in self.fail_on and not self.into_folder and located(str(self.out)).suffix != ".parquet":
            raise click.UsageError(
                "--fail-on new-flagged needs a Parquet report: name --out FILE.parquet or --out FOLDER/."
            )
        if self.no_provenance and ("generated" in self.fail_on or self.c2pa_trust is not None):
            raise click.UsageError("--fail-on generated and --c2pa-trust exclude --no-provenance.")

    @property
    def into_folder(self) -> bool:
        """Whether --out names a folder of parts."""
        return self.out is not None and (self.out.endswith("/") or Path(self.out).is_dir())


def scan_options(command: _F) -> _F:
    """Add the options of `sonicscan` to a command, in order."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
