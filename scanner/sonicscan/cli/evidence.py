"""The commands of `sonicscan-report` about evidence: for one track, and from a listening sample."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from sonicscan.cli.console import print_json
from sonicscan.cli.parameters import LocationType
from sonicscan.cli.report_options import FILE, RATE
from sonicscan.errors import AudioError, InputError
from sonicscan.model.bundled import DEFAULT

if TYPE_CHECKING:
    from sonicscan.analysis.catalogue import Catalogue
    from sonicscan.library.urls import Location
    from sonicscan.scoring.thresholds import Thresholds
    from sonicscan.spec import ModelSpec

_F = TypeVar("_F", bound=Callable[..., object])


def _scoring_options(command: _F) -> _F:
    """The options that decide score, verdict and probability of one track."""
    for option in (
        click.option("--prior", type=RATE, metavar="P", help="Assumed share of AI; gives a probability."),
        click.option("--threshold", type=click.FloatRange(0.0, 1.0), metavar="T", help="Flag scores from T on."),
        click.option(
            "--max-fpr", type=RATE, metavar="F", help="Certified false-positive rate of `flagged`. [default: 0.01]"
        ),
        click.option(
            "--windows", default="12", show_default=True, metavar="N|all", help="Scored windows, as in the scan."
        ),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("audio", type=FILE)
@click.option("--model", type=FILE, help=f"ONNX model, or a bundled one's name. [default: {DEFAULT}]")
@click.option("--out", type=FILE, required=True, help="x.png, or x.html with a player.")
@_scoring_options
def explain(
    audio: Path,
    model: Path | None,
    out: Path,
    windows: str,
    max_fpr: float | None,
    threshold: float | None,
    prior: float | None,
) -> None:
    """Show where the evidence for a score lies.

    The picture or page shows the windows of AUDIO, and time and frequency of the strongest window.
    """
    if max_fpr is not None and threshold is not None:
        raise click.UsageError("--max-fpr and --threshold are mutually exclusive.")
    from sonicscan.analysis.html import require_libraries, write_page

    require_libraries()
    from sonicscan.analysis import evidence, explained, pictures, statement
    from sonicscan.audio.windows import WindowPlan
    from sonicscan.engine.decoder import Decoder
    from sonicscan.model.bundled import chosen_model
    from sonicscan.model.loading import load_model
    from sonicscan.model.sessions import Device

    if out.suffix not in (".png", ".html"):
        raise InputError(f"--out {out}: the name must end in .png or .html.")
    if prior is not None and out.suffix == ".png":
        raise InputError(f"--out {out}: a picture gives no probability for --prior; name an .html file.")
    loaded = load_model(chosen_model(model), Device("cpu"))
    limits = _limits(loaded.spec, max_fpr, threshold)
    plan = WindowPlan.parse(windows)
    if prior is not None:
        statement.check_prior(loaded.spec, str(plan))
    try:
        with Decoder(loaded.spec.audio) as decoder:
            found = evidence.explain(os.fsencode(audio), loaded, plan, decoder)
            limits = None if limits is None else limits.of(found.facts.codec)
            name = f"{loaded.path.name} ({loaded.digest[:12]})"
            page = None
            if out.suffix == ".html":
                page = explained.explain_page(found, limits, name, decoder, windows=str(plan), prior=prior)
    except AudioError as error:
        raise InputError(f"{audio} cannot be explained: {error}") from error
    if page is not None:
        write_page(page, out)
    else:
        why = statement.strength(found, limits, str(plan)).not_certified
        said = list(explained.sentences(found, limits, why))
        pictures.write_png(found, limits, explained.file_name(found), said, out)


def _limits(spec: ModelSpec, max_fpr: float | None, threshold: float | None) -> Thresholds | None:
    """The requested thresholds, or the default ones if the model's calibration certifies them."""
    from sonicscan.scoring.thresholds import DEFAULT_MAX_FPR, Thresholds, certified_thresholds, tracks_needed

    if threshold is not None:
        return Thresholds(threshold)
    if max_fpr is None and (spec.untrained or spec.calibration.n < tracks_needed(DEFAULT_MAX_FPR)):
        return None
    return certified_thresholds(spec.calibration, DEFAULT_MAX_FPR if max_fpr is None else max_fpr)


def _say_partial(source: Catalogue) -> None:
    """Say on standard error what a report lacks of its library."""
    for sentence in source.partial:
        click.echo(f"Note: {sentence}", err=True)


@click.command()
@click.argument("report", type=LocationType())
@click.option("--n", type=click.IntRange(1), default=200, show_default=True, help="Tracks to draw.")
@click.option("--out", type=FILE, required=True, metavar="X.csv", help="The list to fill in.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the random draw.")
def sample(report: Location, n: int, out: Path, seed: int) -> None:
    """Draw random tracks of each verdict to listen to.

    The list is in random order and has no scores. Fill in `decision` (ai, human or unsure), `by` and `date`.
    Then run `estimate` with the file.
    """
    from sonicscan.analysis import catalogue, listening
    from sonicscan.analysis.reviewed import COLUMNS, STRATUM, filled_in
    from sonicscan.files import write_whole
    from sonicscan.report.cells import escaped

    if out.is_file() and filled_in(out):
        raise InputError(f"--out {out}: people have filled in this list; name another file, or move that one away.")
    source = catalogue.load(report)
    drawn = listening.draw(source.rows, n, seed)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*COLUMNS, STRATUM])
    for track in drawn:
        writer.writerow([escaped(track.row.path), "", "", "", "", "", track.stratum])
    try:
        write_whole(out, text.getvalue())
    except (OSError, UnicodeEncodeError) as error:
        raise InputError(f"the sample {out} cannot be written: {error}.") from error
    _say_partial(source)
    click.echo(f"{len(drawn):,} tracks written to {click.format_filename(out)}.", err=True)


@click.command()
@click.argument("report", type=LocationType())
@click.option("--decisions", type=FILE, required=True, metavar="FILE", help="The filled-in list, or reviewed.csv.")
@click.option("--sample", "sample_", type=FILE, metavar="FILE", help="The list that was drawn. [default: --decisions]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def estimate(report: Location, decisions: Path, sample_: Path | None, as_json: bool) -> None:
    """Estimate the share of AI and error rates from a sample.

    The estimates use decisions of people on the sample. They hold for any model.
    """
    from sonicscan.analysis import catalogue, listening, terminal
    from sonicscan.analysis.reviewed import load_reviewed

    reviewed = load_reviewed(decisions)
    strata = reviewed.strata if sample_ is None else load_reviewed(sample_).strata
    if not strata:
        raise InputError(
            f"{sample_ or decisions} is not a sample: it has no column `stratum`; "
            "give the list that sonicscan-report sample wrote with --sample."
        )
    source = catalogue.load(report)
    found = listening.estimate(source.rows, strata, reviewed, selected=source.metadata.selected)
    _say_partial(source)
    if as_json:
        print_json(found)
    else:
        terminal.print_listened(found)


@click.command()
@click.argument("audio", type=FILE, required=False)
@click.option("--model", type=FILE, help=f"ONNX model, or a bundled one's name. [default: {DEFAULT}]")
@click.option("--examiner", metavar="NAME", help="Person responsible for the examination.")
@click.option("--out", type=FILE, metavar="FOLDER", help="The case file: a new folder.")
@_scoring_options
@click.option("--key", type=FILE, metavar="PEM", help="Key that signs the case; with --verify, the public key.")
@click.option("--verify", type=FILE, metavar="FOLDER", help="Check a case file instead.")
def case(
    audio: Path | None,
    model: Path | None,
    examiner: str | None,
    out: Path | None,
    windows: str,
    max_fpr: float | None,
    threshold: float | None,
    prior: float | None,
    key: Path | None,
    verify: Path | None,
) -> None:
    """Write a case file about one track, or verify one.

    It gives the evidence in AUDIO for two propositions, and the command that repeats the examination.
    """
    if (audio is None) == (verify is None):
        raise click.UsageError("give either AUDIO, or --verify FOLDER.")
    if max_fpr is not None and threshold is not None:
        raise click.UsageError("--max-fpr and --threshold are mutually exclusive.")
    if audio is None or verify is not None:
        _verify(verify or Path(), key)
        return
    if not (examiner or "").strip() or out is None:
        raise click.UsageError("a case file needs --examiner NAME and --out FOLDER.")
    from sonicscan.analysis.html import require_libraries

    require_libraries()
    from sonicscan.analysis.case import Order, make_case
    from sonicscan.analysis.statement import check_prior
    from sonicscan.audio.windows import WindowPlan
    from sonicscan.model.bundled import chosen_model
    from sonicscan.model.loading import load_model
    from sonicscan.model.sessions import Device
    from sonicscan.signing import PrivateKey

    private = None if key is None else PrivateKey.read(key)
    loaded = load_model(chosen_model(model), Device("cpu"))
    given = (("--max-fpr", max_fpr), ("--threshold", threshold), ("--prior", prior))
    options = tuple(word for name, value in given if value is not None for word in (name, repr(value)))
    limits, plan = _limits(loaded.spec, max_fpr, threshold), WindowPlan.parse(windows)
    if prior is not None:
        check_prior(loaded.spec, str(plan))
    try:
        make_case(Order(audio, str(examiner), plan, limits, prior, options), loaded, out, private)
    except AudioError as error:
        raise InputError(f"{audio} cannot be examined: {error}") from error
    signed = "not signed; name a key with --key" if private is None else f"signed by {private.public.fingerprint}"
    click.echo(f"{click.format_filename(out)}: {signed}.", err=True)


def _verify(folder: Path, key: Path | None) -> None:
    from sonicscan.analysis.case import verify
    from sonicscan.signing import PublicKey
    from sonicscan.text import printable

    found = verify(folder, None if key is None else PublicKey.read(key))
    made = f"{printable(found.examiner)} made it, {printable(found.opened)}"
    if found.fingerprint is None:
        click.echo(f"{click.format_filename(folder)}: report.html is the file that report.json names ({made}).")
        click.echo("report.json is not signed: anyone could have changed it.")
        return
    click.echo(f"{click.format_filename(folder)}: unchanged since {made}.")
    if key is None:
        click.echo(f"Signed by the key in the folder, {found.fingerprint}: compare it with the examiner's key.")
    else:
        click.echo(f"Signed by {found.fingerprint}.")
