"""A case file about one track: the audio, examiner, model and program, and the evidence for two propositions.

    case/
      report.html      for people, with pictures and excerpts
      report.json      the same figures for programs, and the SHA-256 of report.html
      report.json.sig  the examiner's detached signature of report.json (Ed25519), where a key was named
      key.pub          the public half of that key

`verify` checks the signature and that no file was changed since.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sonicscan.analysis.evidence import Evidence, explain
from sonicscan.analysis.explained import explained, figures
from sonicscan.analysis.html import own_script, render
from sonicscan.analysis.statement import Strength, statement, strength
from sonicscan.analysis.words import LIMITS, percent
from sonicscan.audio.tags import read_tags
from sonicscan.audio.windows import WindowPlan
from sonicscan.engine.decoder import Decoder
from sonicscan.errors import InputError, ReportError, SignatureError
from sonicscan.files import read_small, sha256_of, write_whole
from sonicscan.model.loading import Model
from sonicscan.provenance.words import described
from sonicscan.scanning.scan import now
from sonicscan.scoring.likelihood import PROPOSITIONS
from sonicscan.scoring.thresholds import Thresholds
from sonicscan.signing import PrivateKey, PublicKey, check_signature, read_signature, signature_path
from sonicscan.text import printable, shell_line
from sonicscan.version import __version__

FORMAT = "sonicscan case 1"
HTML, JSON, KEY = "report.html", "report.json", "key.pub"
SOUND_S = 60.0
MAX_FILE_BYTES = 64 << 20
_PACKAGES = ("numpy", "scipy", "soundfile", "soxr", "av", "onnxruntime", "onnxruntime-gpu")


@dataclass(frozen=True)
class Order:
    """The order for an examination.

    Attributes:
        audio: the track.
        examiner: the person responsible for the examination.
        plan: which windows are scored.
        limits: thresholds of the verdict; None for no verdict.
        prior: share of AI that the examiner assumes; None for no assumption.
        options: the command's options that affect the figures, such as `--max-fpr 0.01`.
    """

    audio: Path
    examiner: str
    plan: WindowPlan
    limits: Thresholds | None
    prior: float | None = None
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verified:
    """A case file whose page is the one that its report names; only a signature shows that the report is unchanged.

    Attributes:
        examiner: the person who made it.
        opened: time of the examination, ISO 8601 in UTC.
        fingerprint: of the key that signed it; None if it is not signed.
    """

    examiner: str
    opened: str
    fingerprint: str | None


def make_case(order: Order, model: Model, out: Path, key: PrivateKey | None = None) -> None:
    """Examine a track and write the case file.

    Args:
        order: what to do.
        model: a loaded model, on the CPU so that the figures can be reproduced.
        out: a folder that does not exist yet, or is empty.
        key: signs the report; None for no signature.

    Raises:
        InputError: `out` holds files, or the audio cannot be read.
        AudioError: there is no sound to examine.
        ReportError: the folder cannot be written.
    """
    opened = now()
    digest = _digest_of(order.audio)
    with Decoder(model.spec.audio) as decoder:
        evidence = explain(os.fsencode(order.audio), model, order.plan, decoder)
        limits = None if order.limits is None else order.limits.of(evidence.facts.codec)
        order = dataclasses.replace(order, limits=limits)
        found = strength(evidence, order.limits, str(order.plan), order.prior)
        report = _report(order, model, evidence, found, opened, digest)
        page = render(
            "case.html.j2",
            (own_script("theme.js"),),
            report=report,
            statement=list(statement(evidence, order.limits, found)),
            track=explained(evidence, order.limits, SOUND_S, decoder),
            limits=LIMITS,
            percent=percent,
        )
    if _digest_of(order.audio) != digest:
        raise InputError(f"{order.audio} changed while it was examined; examine a copy that nothing writes to.")
    report["files"] = {HTML: hashlib.sha256(page.encode()).hexdigest()}
    text = json.dumps(report, indent=1, allow_nan=False, ensure_ascii=True) + "\n"
    try:
        out.mkdir(exist_ok=True)
        if any(out.iterdir()):
            raise InputError(f"--out {out}: the folder is not empty; a case file is never written over another.")
        write_whole(out / HTML, page)
        write_whole(out / JSON, text)
        if key is not None:
            write_whole(signature_path(out / JSON), key.sign(text.encode()))
            write_whole(out / KEY, key.public.pem)
    except OSError as error:
        raise ReportError(f"the case file {out} cannot be written: {error.strerror or error}.") from error


def verify(folder: Path, key: PublicKey | None = None) -> Verified:
    """Check that a case file has not changed since it was made; without a signature, only its page is checked.

    Args:
        folder: the case file.
        key: the examiner's key, from the examiner; None for the one in the folder, whose fingerprint has to be
            compared with the examiner's.

    Raises:
        SignatureError: a file was changed, or another key signed it, or `key` was given and nobody signed it.
        ReportError: not a case file, or it cannot be read.
    """
    content = read_small(folder / JSON, MAX_FILE_BYTES, str(folder / JSON), ReportError)
    try:
        report = json.loads(content)
        files = {str(name): str(value) for name, value in report["files"].items()}
        verified = Verified(str(report["examiner"]), str(report["opened"]), None)
        if report["format"] != FORMAT or set(files) != {HTML}:
            raise ValueError("of another format")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ReportError(f"{folder / JSON} is not the report of a case file ({error}).") from error
    signed = signature_path(folder / JSON).exists()
    if key is None and signed:
        key = PublicKey.read(folder / KEY)
    if key is not None:
        check_signature(content, read_signature(signature_path(folder / JSON)), key, str(folder / JSON))
        verified = dataclasses.replace(verified, fingerprint=key.fingerprint)
    for name, digest in files.items():
        if (
            hashlib.sha256(read_small(folder / name, MAX_FILE_BYTES, str(folder / name), ReportError)).hexdigest()
            != digest
        ):
            raise SignatureError(
                f"{folder / name} is not the file that the report names: it was changed; do not use it."
            )
    return verified


def _report(
    order: Order, model: Model, evidence: Evidence, found: Strength, opened: str, digest: str
) -> dict[str, Any]:
    """All figures, as `report.json` has them."""
    spec, facts, limits = model.spec, evidence.facts, order.limits
    again = ["sonicscan-report", "case", "--model", str(model.path), "--examiner", order.examiner]
    again += ["--windows", str(order.plan), *order.options, "--out", "case-again", "--", str(order.audio)]
    return {
        "format": FORMAT,
        "examiner": order.examiner,
        "opened": opened,
        "closed": now(),
        "again": shell_line(again),
        "propositions": list(PROPOSITIONS),
        "audio": {
            "path": printable(str(order.audio)),
            "sha256": digest,
            "bytes": order.audio.stat().st_size,
            "duration_s": facts.duration_s,
            "sample_rate": facts.sample_rate,
            "channels": facts.channels,
            "codec": facts.codec,
            "bandwidth_hz": facts.bandwidth_hz,
            "warnings": list(facts.warnings),
            "tags": {name: printable(text) for name, text in _tags(order.audio).items()},
            "declares": described(evidence.provenance),
        },
        "model": {
            "file": model.path.name,
            "sha256": model.digest,
            "architecture": spec.architecture,
            "made_with": spec.tool_version,
            "training_data": spec.data_digest,
            "calibration": spec.calibration.data,
            "calibration_windows": spec.calibration.windows,
            "licence": spec.license_note,
            "card": spec.card,
            "measured": spec.metrics.get("summary") if isinstance(spec.metrics.get("summary"), str) else None,
        },
        "tool": {"version": __version__, "sha256": tool_digest()},
        "environment": {
            "python": platform.python_version(),
            "system": platform.platform(),
            "device": str(model.device),
            **_packages(),
        },
        "result": {
            "windows": str(order.plan),
            "silent_windows": evidence.silent_windows,
            "verdict": None if limits is None or spec.untrained else limits.verdict(evidence.score),
            "flagged_from": None if limits is None else limits.flagged,
            "max_fpr": None if limits is None else limits.max_fpr,
            **dataclasses.asdict(found),
        },
        "error_rates": [dataclasses.asdict(entry) for entry in spec.caught],
        "figures": figures(evidence),
    }


def tool_digest() -> str:
    """SHA-256 over the program's own Python files: their names and contents, in the order of their names."""
    root = Path(__file__).resolve().parents[1]
    whole = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        whole.update(f"{path.relative_to(root).as_posix()}\0{sha256_of(path)}\n".encode())
    return whole.hexdigest()


def _packages() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _tags(audio: Path) -> dict[str, str]:
    tags = dataclasses.asdict(read_tags(os.fsencode(audio)))
    return {name: value for name, value in tags.items() if isinstance(value, str) and value}


def _digest_of(audio: Path) -> str:
    try:
        return sha256_of(audio)
    except OSError as error:
        raise InputError(f"{audio} cannot be read: {error.strerror or error}.") from error
