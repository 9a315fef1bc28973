"""The `sonicscan-export` program. torch and onnx are imported inside the commands: `--help` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import click

import sonicscan
from sonicscan.cli.console import ProgramGroup
from sonicscan.errors import InputError
from sonicscan.text import printable

if TYPE_CHECKING:
    from sonicscan_export.precision import Precision

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class _ConvertByDefault(ProgramGroup):
    """A command group that runs `convert` if no command is named: `sonicscan-export CHECKPOINT --out swin.onnx`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {*self.commands, "-h", "--help", "--version"}
        if args and args[0] not in own:
            args = ["convert", *args]
        return super().parse_args(ctx, args)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, "CHECKPOINT... --out MODEL.onnx [OPTIONS] | COMMAND [ARGS]...")


@click.group(cls=_ConvertByDefault, context_settings=_SETTINGS, no_args_is_help=True)
@click.version_option(sonicscan.__version__, message="%(version)s")
def main() -> None:
    """Convert a checkpoint to an ONNX file that holds its whole contract, and verify it.

    If the first argument is not a command, it is read as a checkpoint, and `convert` runs.
    """


@main.command(context_settings=_SETTINGS)
@click.argument("checkpoints", metavar="[CHECKPOINT]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The model to write, .onnx.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "half-weights", "byte-weights", "fp16", "int8", "int4"]),
    help="half-weights and byte-weights are stored in 16 and 8 bits and computed in float32; int4 is int8 with the "
    "largest weights stored in 4 bits. "
    "[default: fp32; half-weights for several]",
)
@click.option(
    "--calibration-data",
    type=click.Path(path_type=Path),
    metavar="MANIFEST",
    help="Tracks to verify with. int8 and int4 also take ranges from them; a calibrated model is calibrated again.",
)
@click.option(
    "--max-drift",
    type=click.FloatRange(0.0, 1.0, min_open=True),
    metavar="F",
    help="Allowed change of margins, as a share of their range. "
    "[default: half-weights 0.005, byte-weights 0.02, fp16 0.01, int8 and int4 0.05]",
)
@click.option(
    "--crossfit",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Output of sonicscan-train crossfit: the members' scales, and the calibration of their mean.",
)
@click.option("--backbone", metavar="NAME", help="Export an untrained lambda, swin or timm network instead.")
@click.option("--weights", default=None, metavar="none|pretrained|FILE", help="Its backbone's weights. [default: none]")
@click.option("--seed", type=int, default=None, help="Seed of its random weights. [default: 0]")
@click.option("--classes", default=None, metavar="A,B", help="Its classes other than human. [default: ai]")
@click.option("-q", "--quiet", is_flag=True, help="Only errors on stderr.")
def convert(
    checkpoints: tuple[Path, ...],
    out: Path,
    precision: str | None,
    calibration_data: Path | None,
    max_drift: float | None,
    crossfit: Path | None,
    backbone: str | None,
    weights: str | None,
    seed: int | None,
    classes: str | None,
    quiet: bool,
) -> None:
    """Convert CHECKPOINT, or an untrained --backbone, to ONNX.

    Several checkpoints become the members of one model. Its class maps are the mean of the members' maps, each on
    the member's own scale. The name of OUT is then the architecture's name.
    """
    if bool(checkpoints) == (backbone is not None):
        raise InputError("give either a checkpoint or --backbone, and not both.")
    if checkpoints and (weights is not None or seed is not None or classes is not None):
        raise InputError("--weights, --seed and --classes need --backbone; a checkpoint contains them.")
    from sonicscan_export import convert as converting
    from sonicscan_export import networks
    from sonicscan_export.tables import certified_from
    from sonicscan_export.targets import check_target

    check_target(out)
    if crossfit is not None and not checkpoints:
        raise InputError("--crossfit needs the checkpoints that it scored.")
    if len(checkpoints) == 1 and crossfit is None:
        network = networks.from_checkpoint(checkpoints[0])
    elif checkpoints:
        network = networks.from_checkpoints(checkpoints, out.stem, crossfit)
    else:
        names = networks.classes_of("ai" if classes is None else classes)
        network = networks.untrained(str(backbone), weights or "none", seed or 0, names)
    say = _nothing if quiet else _on_stderr
    precision = precision or ("half-weights" if len(checkpoints) > 1 else "fp32")
    done = converting.export(network, out, cast("Precision", precision), calibration_data, max_drift, say)
    size = f"{done.size / 1e6:.1f} MB, {done.facts.nodes} nodes"
    say(f"{out}: {size}, {precision}, {certified_from(done.spec.calibration)}.")
    say(f"sha256 {done.digest}")


@main.command(context_settings=_SETTINGS)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(model: Path, as_json: bool) -> None:
    """Show a model's contract, digests, calibration, metrics and size."""
    import json

    from sonicscan.model.bundled import chosen_model
    from sonicscan_export import inspect as inspecting

    model = chosen_model(model)
    if as_json:
        click.echo(json.dumps(inspecting.describe(model), indent=2))
    else:
        for line in inspecting.lines(model):
            click.echo(printable(line))


@main.command(context_settings=_SETTINGS)
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--data",
    "manifest",
    required=True,
    type=click.Path(path_type=Path),
    metavar="MANIFEST",
    help="Tracks like those to train on: the statistics of normalisations come from their windows.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the checkpoints.")
def restore(model: Path, manifest: Path, out: Path) -> None:
    """Write the checkpoints of MODEL's networks, to train them further.

    OUT/best, or OUT/member-0/best and so on. They have the precision of MODEL, and no calibration.
    """
    from sonicscan.model.bundled import chosen_model
    from sonicscan_export import restore as restoring

    for folder in restoring.restore(chosen_model(model), manifest, out, _on_stderr):
        _on_stderr(f"{folder} is a checkpoint.")


@main.command(context_settings=_SETTINGS)
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--report",
    "report_path",
    required=True,
    type=click.Path(path_type=Path),
    metavar="PARQUET",
    help="Report of a scan with MODEL. All its tracks must be by people.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The model to write, .onnx.")
@click.option(
    "--max-fpr",
    type=click.FloatRange(0.0, 1.0, min_open=True, max_open=True),
    default=0.01,
    show_default=True,
    help="False-positive rate to certify; with too few tracks, the command ends.",
)
@click.option(
    "--group-by",
    type=click.Choice(["artist", "album", "none"]),
    default="artist",
    show_default=True,
    help="Count one track of each artist or album.",
)
@click.option("--add", is_flag=True, help="Keep the model's own calibration tracks beside these.")
def recalibrate(
    model: Path, report_path: Path, out: Path, max_fpr: float, group_by: Literal["artist", "album", "none"], add: bool
) -> None:
    """Certify false-positive rates on your own music.

    The thresholds come from a scan of tracks that are known to be by people.
    """
    from sonicscan.model.bundled import chosen_model
    from sonicscan_export import recalibrate as recalibrating
    from sonicscan_export.tables import certified_from
    from sonicscan_export.targets import check_target

    check_target(out)
    made = recalibrating.from_report(chosen_model(model), report_path, max_fpr, group_by=group_by, add=add)
    digest = recalibrating.write(made, out)
    for note in made.notes:
        _on_stderr(note)
    _on_stderr(f"{out}: {certified_from(made.spec.calibration)}.")
    _on_stderr(f"sha256 {digest}")


@main.command(context_settings=_SETTINGS)
@click.argument("key", type=click.Path(path_type=Path))
def keygen(key: Path) -> None:
    """Make a pair of Ed25519 keys.

    KEY signs and must stay secret. The file of that name with the suffix .pub verifies signatures.
    """
    from sonicscan.signing import PrivateKey

    private = PrivateKey.generate()
    public = private.write(key)
    _on_stderr(f"{key} signs models; keep it secret. {public} verifies them; give it to the users of your models.")
    _on_stderr(f"fingerprint {private.public.fingerprint}")


@main.command(context_settings=_SETTINGS)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--key", required=True, type=click.Path(path_type=Path), metavar="PEM", help="The private key.")
def sign(model: Path, key: Path) -> None:
    """Sign MODEL and write the signature MODEL.sig beside it."""
    from sonicscan.files import write_whole
    from sonicscan.signing import PrivateKey, signature_path

    private = PrivateKey.read(key)
    target = signature_path(model)
    try:
        write_whole(target, private.sign(model.read_bytes()))
    except OSError as error:
        raise InputError(f"{model} could not be signed: {error.strerror or error} ({error.filename}).") from error
    _on_stderr(f"{target}: signed by {private.public.fingerprint[:16]}.")


@main.command(context_settings=_SETTINGS)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--key", required=True, type=click.Path(path_type=Path), metavar="PUB", help="The public key.")
def verify(model: Path, key: Path) -> None:
    """Check with MODEL.sig that a key has signed MODEL."""
    from sonicscan.signing import PublicKey, check_signature, read_signature, signature_path

    public = PublicKey.read(key)
    try:
        content = model.read_bytes()
    except OSError as error:
        raise InputError(f"{model} cannot be read: {error.strerror or error}.") from error
    check_signature(content, read_signature(signature_path(model)), public, str(model))
    _on_stderr(f"{model} was signed by {public.fingerprint[:16]} and is unchanged.")


def _on_stderr(message: str) -> None:
    click.echo(printable(message), err=True)


def _nothing(message: str) -> None:
    pass
