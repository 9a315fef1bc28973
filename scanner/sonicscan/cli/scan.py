"""The `sonicscan` program. Heavy modules are imported inside the command: `--help` is instant."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

import sonicscan
from sonicscan.cli.console import LocationType, Size, clear_errors
from sonicscan.errors import InputError

if TYPE_CHECKING:
    from sonicscan.cli.progress import Tally
    from sonicscan.library.discovery import Listing, Selection
    from sonicscan.library.remote import Location

EXIT_FAIL_ON, EXIT_ERRORS = 1, 3  # 2 is console.FatalError's, 130 and 143 are a signal's


class MaxErrors(click.ParamType[tuple[float, bool]]):
    """`N` tracks, or `P%` of them."""

    name = "N|P%"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, bool]:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", str(value))
        if not match or (not match[2] and "." in match[1]):
            self.fail(f"{value!r} is neither a number of tracks nor a percentage such as 2%.", param, ctx)
        return float(match[1]), bool(match[2])


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("paths", nargs=-1, type=click.Path(path_type=str))
@click.option("--model", type=LocationType(), help="ONNX model, or a bundled one's name. [default: sonicnet_s]")
@click.option("--max-model-size", type=Size(), default="2GB", show_default=True, help="Of a model behind a URL.")
@click.option("--out", help="Report: .parquet, .csv, .jsonl, folder/, or - for JSON Lines. [default: a table]")
@click.option("--part-size", type=click.IntRange(1), metavar="ROWS", help="Rows of a part of --out folder/. [50000]")
@click.option("--files-from", metavar="FILE|-", help="Scan the files listed in FILE, one a line.")
@click.option("-0", "nul", is_flag=True, help="The file list is separated by NUL, not by newlines.")
@click.option("--include", multiple=True, metavar="GLOB", help="Only files that match. [default: audio file names]")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Leave out files and folders that match.")
@click.option("--follow-symlinks", is_flag=True, help="Enter linked folders too.")
@click.option("--shard", metavar="I/N", help="Scan the I-th of N parts of the library.")
@click.option("--windows", default="12", show_default=True, metavar="N|all|adaptive", help="Windows scored a track.")
@click.option("--max-fpr", type=float, metavar="F", help="Certified false-positive rate of `flagged`. [default: 0.01]")
@click.option("--threshold", type=float, metavar="T", help="Flag from this score on, instead of --max-fpr.")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:N]", help="Where the model runs.")
@click.option("--workers", type=click.IntRange(1, 1024), help="Decoding processes. [default: by machine]")
@click.option("--threads", type=click.IntRange(1, 1024), help="CPU threads of the model. [default: by machine]")
@click.option("--batch-size", type=click.IntRange(1, 4096), help="Windows at a time. [default: 8, on CUDA 64]")
@click.option("--since", type=LocationType(), metavar="REPORT", help="Carry over rows of unchanged files.")
@click.option("--fresh", is_flag=True, help="Throw away what an interrupted scan left.")
@click.option("--journal", type=click.Path(path_type=Path), help="What is done so far. [default: OUT.journal]")
@click.option("--hash", "hash_", is_flag=True, help="Put the SHA-256 of each file into the report.")
@click.option("--timeout", type=float, default=120.0, show_default=True, metavar="S", help="Seconds to decode a file.")
@click.option("--max-errors", type=MaxErrors(), default="0", show_default=True, help="Failed tracks allowed.")
@click.option("--fail-on", type=click.Choice(["flagged", "review"]), help="Exit 1 where a track has that verdict.")
@click.option("--reviewed", type=click.Path(path_type=Path), metavar="FILE", help="Decisions that --fail-on respects.")
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True, help="What runs it.")
@click.option("--ray-address", metavar="ADDR", help="Ray cluster. [default: RAY_ADDRESS, or this machine alone]")
@click.option("--gpus-per-actor", type=float, default=0.0, show_default=True, metavar="X", help="On Ray: of a GPU.")
@click.option("--metrics-file", type=click.Path(path_type=Path), metavar="F", help="Keep figures for Prometheus in F.")
@click.option("-q", "--quiet", is_flag=True, help="Only errors on stderr.")
@click.option("-v", "--verbose", is_flag=True, help="Say more on stderr: each failed track.")
@click.version_option(sonicscan.__version__, prog_name="sonicscan")
def main(
    paths: tuple[str, ...],
    model: Location | None,
    max_model_size: int,
    out: str | None,
    part_size: int | None,
    files_from: str | None,
    nul: bool,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    follow_symlinks: bool,
    shard: str | None,
    windows: str,
    max_fpr: float | None,
    threshold: float | None,
    device: str,
    workers: int | None,
    threads: int | None,
    batch_size: int | None,
    since: Location | None,
    fresh: bool,
    journal: Path | None,
    hash_: bool,
    timeout: float,
    max_errors: tuple[float, bool],
    fail_on: str | None,
    reviewed: Path | None,
    engine: str,
    ray_address: str | None,
    gpus_per_actor: float,
    metrics_file: Path | None,
    quiet: bool,
    verbose: bool,
) -> None:
    """Score every audio file below PATHS for being AI-generated music.

    PATHS, the model and reports may be URLs too: s3://bucket/folder, gs://, hf://, https://.

    Exit code: 0 done; 1 --fail-on met; 2 usage or fatal error, no report; 3 report written, but more
    than --max-errors tracks failed; 130 interrupted, the same command goes on.
    """
    if max_fpr is not None and threshold is not None:
        raise click.UsageError("--max-fpr and --threshold are two ways to say it: give one.")
    if not paths and files_from is None:
        raise click.UsageError("name a file or folder to scan, or a list with --files-from.")
    if nul and files_from is None:
        raise click.UsageError("-0 says how the list of --files-from is separated.")
    if out in (None, "-") and (since or fresh or journal):
        raise click.UsageError("--since, --fresh and --journal need a report file: --out FILE.")
    if engine == "local" and (ray_address is not None or gpus_per_actor):
        raise click.UsageError("--ray-address and --gpus-per-actor are for --engine ray.")
    if part_size is not None and not _is_folder(out):
        raise click.UsageError("--part-size is for a report in parts: --out FOLDER/.")
    if reviewed is not None and fail_on is None:
        raise click.UsageError("--reviewed says what --fail-on is not to count: give both.")
    with clear_errors():
        from sonicscan.analysis.reviewed import load_reviewed
        from sonicscan.audio.windows import WindowPlan
        from sonicscan.cli.prometheus import MetricsFile
        from sonicscan.cli.session import Session, interruptible
        from sonicscan.library.discovery import Selection, parse_shard
        from sonicscan.model.detector import Device
        from sonicscan.scanning.parts import PART_ROWS, PartsSink
        from sonicscan.scanning.reported import ReportedScan, comparable_rows
        from sonicscan.scanning.reportfile import FileSink
        from sonicscan.scanning.scan import DEFAULT_MAX_FPR, Scan, ScanOptions, ray_engine
        from sonicscan.scanning.sinks import Origin, ReportSink

        target = _target(out)
        part = None if shard is None else parse_shard(shard)
        tracks = _tracks(paths, files_from, nul, Selection(include, exclude, follow_symlinks, part))
        options = ScanOptions(
            model=model,
            windows=WindowPlan.parse(windows, adaptive=True),
            max_fpr=DEFAULT_MAX_FPR if max_fpr is None else max_fpr,
            threshold=threshold,
            device=Device.parse(device),
            workers=workers or 0,
            threads=threads or 0,
            batch_size=batch_size or 0,
            timeout_s=timeout,
            hash=hash_,
            max_model_bytes=max_model_size,
        )
        decisions = None if reviewed is None else load_reviewed(reviewed)
        following = contextlib.nullcontext() if metrics_file is None else MetricsFile(metrics_file)
        with interruptible(), following as metrics:
            scan = Scan(options, None if engine == "local" else ray_engine(options, ray_address, gpus_per_actor))
            if fail_on and scan.thresholds is None:
                raise InputError("--fail-on needs verdicts, and this model gives none without --threshold.")
            if fail_on == "review" and threshold is not None:
                raise InputError("--fail-on review needs --max-fpr: --threshold gives no `review`.")
            session = Session(scan, tracks, decisions, quiet, verbose, metrics)
            if target is None:
                tally = session.to_stdout(out == "-")
            else:
                earlier = comparable_rows(scan, since)
                origin = Origin(scan, part)
                sink: ReportSink
                if isinstance(target, Path) and _is_folder(out):
                    sink = PartsSink(origin, target, fresh, part_size or PART_ROWS, journal)
                else:
                    sink = FileSink(origin, target, fresh, journal)
                tally = session.to_report(ReportedScan(scan, tracks, sink, earlier))
            raise SystemExit(_exit_code(tally, max_errors, fail_on))


def _target(out: str | None) -> Location | None:
    if out is None or out == "-":
        return None
    from sonicscan.library.remote import located

    path = located(out)
    if isinstance(path, Path) and _is_folder(out):
        from sonicscan.scanning.parts import check_folder

        check_folder(path)
    else:
        from sonicscan.report.writers import check_target

        check_target(path)
    return path


def _is_folder(out: str | None) -> bool:
    return out is not None and (out.endswith("/") or Path(out).is_dir())


def _tracks(paths: tuple[str, ...], files_from: str | None, nul: bool, selection: Selection) -> Listing:
    import dataclasses

    from sonicscan.library.discovery import file_list, listing

    tracks = listing(paths, selection)
    if files_from is None:
        return tracks
    try:
        with click.open_file(files_from, "rb") as stream:
            listed = file_list(stream.read(), b"\0" if nul else b"\n")
    except OSError as error:
        raise InputError(f"the list {files_from} cannot be read: {error.strerror}.") from error
    return dataclasses.replace(tracks, roots=tuple(dict.fromkeys([*tracks.roots, *listed])))


def _exit_code(tally: Tally, max_errors: tuple[float, bool], fail_on: str | None) -> int:
    limit, percent = max_errors
    if tally.failed > (limit / 100 * tally.tracks if percent else limit):
        return EXIT_ERRORS
    counted = ("flagged", "review") if fail_on == "review" else ("flagged",)
    met = sum(tally.verdicts[verdict] - tally.settled[verdict] for verdict in counted)
    return EXIT_FAIL_ON if fail_on and met else 0
