"""`sonicscan --doctor` describes the installation and the machine for bug reports; `--list-models` lists models."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

import sonicscan
from sonicscan.cli.console import EXIT_FATAL, Ended, print_json
from sonicscan.cli.hardware import machine_facts
from sonicscan.errors import SonicscanError
from sonicscan.extras import EXTRAS
from sonicscan.text import printable

_PACKAGES = (
    *("numpy", "scipy", "soundfile", "soxr", "av", "onnxruntime", "onnxruntime-gpu", "pyarrow", "click", "msgspec"),
    *("rich", "fsspec", "pathspec", "platformdirs", "tinytag"),
)
_DECODERS = (
    *("aac", "ac3", "alac", "ape", "dca", "dsd_lsbf", "eac3", "flac", "mp3", "opus", "tta", "vorbis", "wavpack"),
    *("wmav2", "wmapro"),
)


@dataclass(frozen=True)
class BundledModel:
    """A bundled model, described by its contract and card."""

    name: str
    default: bool
    megabytes: float
    sha256: str
    intact: bool
    licence: str
    summary: str
    card: str


@dataclass(frozen=True)
class Diagnosis:
    """The findings of `--doctor`. `problems` are reasons why a scan would fail here."""

    versions: dict[str, str]
    machine: dict[str, Any]
    providers: dict[str, str]
    decoders: dict[str, Any]
    sandbox: dict[str, Any]
    models: list[BundledModel]
    extras: dict[str, str]
    folders: dict[str, dict[str, Any]]
    problems: list[str] = field(default_factory=list)


def inform(asked: set[str]) -> None:
    """Print the output of --doctor or --list-models, as JSON if `asked` has `json`.

    Raises:
        Ended: the doctor has found a reason why scans would fail.
    """
    if "doctor" in asked:
        found = diagnose()
        print_json(found) if "json" in asked else _print_diagnosis(found)
        if found.problems:
            raise Ended(EXIT_FATAL)
    elif "list_models" in asked:
        models = list(bundled())
        if "json" in asked:
            print_json(models)
        for model in () if "json" in asked else models:
            click.echo(_line(model))
    else:
        raise click.UsageError("--json is for --doctor and --list-models.")


def diagnose() -> Diagnosis:
    """Examine the installation and the machine; changes nothing."""
    problems: list[str] = []
    models = list(bundled())
    problems += [
        f"the bundled model {model.name} was changed after it was installed." for model in models if not model.intact
    ]
    providers = _providers(problems)
    return Diagnosis(
        versions=_versions(),
        machine=machine_facts(),
        providers=providers,
        decoders=_decoders(problems),
        sandbox=_sandbox(),
        models=models,
        extras={name: _extra(modules) for name, modules in EXTRAS.items()},
        folders=_folders(),
        problems=problems,
    )


def bundled() -> Iterator[BundledModel]:
    """The bundled models, with their digests checked."""
    from sonicscan.errors import ModelError
    from sonicscan.files import sha256_of
    from sonicscan.model.bundled import DEFAULT, bundled_card, bundled_models, check_bundled
    from sonicscan.model.loading import load_model
    from sonicscan.model.sessions import Device

    for name, path in bundled_models().items():
        digest = sha256_of(path)
        intact, licence, summary, card = True, "", "it cannot be loaded", None
        try:
            check_bundled(path, digest)
            spec = load_model(path, Device("cpu"), 1, 1).spec
            card = bundled_card(spec.card)
            licence, summary = spec.license_note, str(spec.metrics.get("summary", "its quality has not been measured"))
        except ModelError as error:
            intact, summary = False, str(error)
        size = path.stat().st_size / 1e6
        yield BundledModel(name, name == DEFAULT, round(size, 1), digest, intact, licence, summary, str(card or ""))


def _versions() -> dict[str, str]:
    found = {"sonicscan": sonicscan.__version__, "python": sys.version.split()[0], "executable": sys.executable}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _providers(problems: list[str]) -> dict[str, str]:
    """For each device: that a model runs on it, or why not."""
    from sonicscan.model.bundled import chosen_model
    from sonicscan.model.loading import load_model
    from sonicscan.model.sessions import Device

    found = {}
    for kind in ("cpu", "cuda"):
        try:
            load_model(chosen_model(None), Device(kind), 1, 1)
            found[kind] = "starts"
        except SonicscanError as error:
            found[kind] = f"does not start: {str(error).removeprefix(f'--device {Device(kind)} does not start: ')}"
            if kind == "cpu":
                problems.append(f"no model runs on the CPU: {error}")
    return found


def _decoders(problems: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    try:
        import soundfile

        found["libsndfile"] = soundfile.__libsndfile_version__
        found["libsndfile_formats"] = sorted(soundfile.available_formats())
    except (ImportError, OSError) as error:
        problems.append(f"libsndfile cannot be loaded: {error}.")
    try:
        import av

        found["ffmpeg"] = str(getattr(av, "ffmpeg_version_info", "unknown"))
        found["ffmpeg_libraries"] = {name: ".".join(map(str, v)) for name, v in av.library_versions.items()}
        found["ffmpeg_decoders"] = [name for name in _DECODERS if name in av.codecs_available]
    except (ImportError, OSError) as error:
        problems.append(f"FFmpeg cannot be loaded: {error}.")
    return found


def _sandbox() -> dict[str, Any]:
    """What the system offers to take rights from the processes that decode local files, and which rights they keep."""
    from sonicscan.engine.sandbox import offered

    offer = offered()
    return {**dataclasses.asdict(offer), "rights_kept": list(offer.missing)}


def _extra(modules: tuple[str, ...]) -> str:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return "installed" if not missing else f"not installed ({', '.join(missing)})"


def _folders() -> dict[str, dict[str, Any]]:
    import platformdirs

    places = {
        "working folder": Path.cwd(),
        "state": platformdirs.user_state_path("sonicscan"),
        "cache": platformdirs.user_cache_path("sonicscan"),
    }
    return {name: _folder(path, sized=name != "working folder") for name, path in places.items()}


def _folder(path: Path, sized: bool) -> dict[str, Any]:
    there = path.is_dir()
    nearest = next((folder for folder in (path, *path.parents) if folder.is_dir()), Path("/"))
    found: dict[str, Any] = {
        "path": str(path),
        "exists": there,
        "writable": os.access(nearest, os.W_OK),
        "free_gib": round(shutil.disk_usage(nearest).free / 2**30, 1),
    }
    if there and sized:
        found["size_mb"] = round(sum(file.lstat().st_size for file in path.rglob("*") if file.is_file()) / 1e6, 1)
    return found


def _print_diagnosis(found: Diagnosis) -> None:
    for heading, values in (
        ("Versions", found.versions),
        ("Machine", found.machine),
        ("Devices", found.providers),
        ("Decoders", found.decoders),
        ("Sandbox of decoding processes", found.sandbox),
        ("Extras", found.extras),
    ):
        click.echo(heading)
        for name, value in values.items():
            click.echo(f"  {name.replace('_', ' ')}: {_words(value)}")
    click.echo("Bundled models")
    for model in found.models:
        click.echo(f"  {_line(model)}")
        click.echo(f"    card: {printable(model.card or 'none')}")
    click.echo("Folders")
    for name, values in found.folders.items():
        click.echo(f"  {name}: {_words(values)}")
    click.echo("Problems")
    for problem in found.problems or ["none"]:
        click.echo(f"  {printable(problem)}")


def _line(model: BundledModel) -> str:
    mark = " (default)" if model.default else ""
    changed = "" if model.intact else "  CHANGED"
    return printable(f"{model.name}{mark}  {model.megabytes} MB  sha256 {model.sha256}{changed}  {model.summary}")


def _words(value: object) -> str:
    if isinstance(value, dict):
        return printable(", ".join(f"{key.replace('_', ' ')} {item}" for key, item in value.items()))
    if isinstance(value, list):
        return printable(", ".join(map(str, value)) or "none")
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable("unlimited or unknown" if value is None else str(value))
