"""A scan that is ready to run: its options, its model, its engine and its thresholds."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sonicscan.audio.windows import WindowPlan
from sonicscan.calls import DEFAULT_TIMEOUT_S
from sonicscan.engine.base import Engine
from sonicscan.engine.local import LocalEngine
from sonicscan.engine.process import StartWorker, WorkerProcess
from sonicscan.engine.wire import Job
from sonicscan.errors import InputError
from sonicscan.library.tracks import Track
from sonicscan.library.urls import Location, Url
from sonicscan.machine import usable_cpus
from sonicscan.model.bundled import bundled_card, bundled_models, chosen_model
from sonicscan.model.cache import fetched
from sonicscan.model.loading import MAX_MODEL_BYTES, Model, load_model
from sonicscan.model.sessions import Device
from sonicscan.model.trust import trust_of
from sonicscan.provenance.trust import load_trust
from sonicscan.report.metadata import ReportMetadata
from sonicscan.report.row import FileResult
from sonicscan.report.schema import SCHEMA_VERSION
from sonicscan.scoring.likelihood import spec_for_windows
from sonicscan.scoring.thresholds import DEFAULT_MAX_FPR, Thresholds, caught_at, certified_thresholds, why_not_certified
from sonicscan.spec import ModelSpec, digest_of
from sonicscan.version import __version__

if TYPE_CHECKING:
    from sonicscan.engine.ray.engine import RayEngine


@dataclass(frozen=True)
class ScanOptions:
    """The options of a scan, without the source of its files and the target of its rows.

    Attributes:
        model: ONNX file, its URL, or the name of a bundled one; None for the default.
        windows: which windows of each track are scored.
        max_fpr: certified false-positive rate of `flagged`; ignored where `threshold` is given.
        threshold: score from which a track is flagged, in 0..1.
        device: where the model runs.
        workers, threads, batch_size: None or 0 chooses a value for the machine.
        timeout_s: seconds a file may take to decode.
        hash: put the SHA-256 of each file's bytes into its row.
        provenance: read what each file declares about its own origin.
        c2pa_trust: PEM file of the roots that signatures are `trusted` by; None for none.
        max_model_bytes: a model behind a URL that is longer is not fetched.
        model_sha256: the digest that the model must have; None for any.
        model_key: the public key that must have signed the model, in `MODEL.sig` beside it; None for none.
    """

    model: Location | None = None
    windows: WindowPlan = WindowPlan()  # noqa: RUF009 - frozen
    max_fpr: float = DEFAULT_MAX_FPR
    threshold: float | None = None
    device: Device = Device()  # noqa: RUF009 - frozen
    workers: int = 0
    threads: int = 0
    batch_size: int = 0
    timeout_s: float = DEFAULT_TIMEOUT_S
    hash: bool = False
    provenance: bool = True
    c2pa_trust: Path | None = None
    max_model_bytes: int = MAX_MODEL_BYTES
    model_sha256: str | None = None
    model_key: Path | None = None

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0.0 <= self.threshold <= 1.0:
            raise InputError(f"a threshold is a score between 0 and 1, not {self.threshold:g}.")
        if not 0.0 < self.max_fpr < 1.0:
            raise InputError(f"a false-positive rate lies between 0 and 1, not {self.max_fpr:g}.")
        if not self.timeout_s > 0:
            raise InputError(f"a time limit is more than 0 seconds, not {self.timeout_s:g}.")
        if min(self.workers, self.threads, self.batch_size) < 0:
            raise InputError("workers, threads and batch size are 1 or more, or 0 for the default.")


class Scan:
    """A scan that is ready to run: its model is loaded and its thresholds are certified.

    Args:
        options: the options.
        engine: decodes and scores; None builds the local engine from `options`.

    Attributes:
        engine: as above.
        thresholds: None where the model allows no verdict.
        notes: messages that the user should read before the scores.
        trust_digest: digest of the trust list; None without one.
        key: digest of all that must be equal for two rows to be comparable.

    Raises:
        ModelError, DeviceError: the model cannot be run as asked.
        RemoteError: the model's URL cannot be fetched.
        InputError: no threshold can be certified at the rate that was asked for, or the trust list cannot be read.
    """

    def __init__(self, options: ScanOptions, engine: Engine | None = None) -> None:
        self.options = options
        self.engine = engine or local_engine(options)
        self.notes: list[str] = _notes(self.model)
        self.thresholds = _thresholds(self.model, options, self.notes)
        trust = None if options.c2pa_trust is None else load_trust(options.c2pa_trust)
        self.trust_digest = None if trust is None else digest_of({"trust": trust})
        self._job = Job(
            self.model.spec.audio,
            options.windows,
            hash=options.hash,
            provenance=options.provenance,
            trust=trust,
        )
        what: dict[str, object] = {
            "model": self.model.digest,
            "audio": self.model.spec.audio.digest,
            "windows": str(options.windows),
            "schema": SCHEMA_VERSION,
        }
        if self.trust_digest is not None:
            what["trust"] = self.trust_digest
        if options.windows.adaptive:  # the thresholds decide which windows are read
            if self.thresholds is None:
                raise InputError(
                    "--windows adaptive needs verdicts, and this model gives none here; "
                    "set --threshold with a trained model, or give a number of windows or `all`."
                )
            what["thresholds"] = [self.thresholds.flagged, self.thresholds.review]
        self.key = digest_of(what)

    @property
    def model(self) -> Model:
        """The loaded model."""
        return self.engine.model

    @property
    def judged_by(self) -> ModelSpec:
        """The contract that rows are made with: without likelihood ratios if the windows are not the calibration's."""
        return spec_for_windows(self.model.spec, str(self.options.windows))

    def score(self, tracks: Iterable[Track]) -> Generator[FileResult, None, None]:
        """Score tracks; results come as they complete."""
        return self.engine.score(tracks, self._job, self.thresholds)

    def metadata(self, started: str, shard: tuple[int, int] | None = None) -> ReportMetadata:
        """Builds the report's metadata."""
        options = dataclasses.asdict(self.options)
        options |= {"model_key": None if self.options.model_key is None else str(self.options.model_key)}
        options |= {"model": str(self.options.model or ""), "windows": str(self.options.windows)}
        options |= {"device": self.engine.device, "c2pa_trust": self.trust_digest}
        return ReportMetadata(
            tool_version=__version__,
            key=self.key,
            model=self.model.path.name,
            model_digest=self.model.digest,
            model_spec=self.model.spec.to_json(),
            options=options,
            thresholds=self.thresholds,
            shards=() if shard is None else (shard,),
            started=started,
            finished=now(),
        )


def model_file(model: Location | None, max_bytes: int = MAX_MODEL_BYTES) -> Path:
    """The file of a model: itself, a bundled one by name, the default for None, or a copy of what is behind a URL.

    Raises:
        ModelError, RemoteError: there is none, or it cannot be fetched.
    """
    return fetched(model, max_bytes) if isinstance(model, Url) else chosen_model(model)


def _loaded(options: ScanOptions, device: Device, threads: int) -> Model:
    """Loads the model of a scan, after checking it against the digest or key in the options."""
    path = model_file(options.model, options.max_model_bytes)
    origin = options.model if isinstance(options.model, Url) else path
    trust = trust_of(options.model_sha256, options.model_key, origin)
    return load_model(path, device, threads, parallel=threads, trust=trust)


def local_engine(options: ScanOptions, start_worker: StartWorker = WorkerProcess) -> LocalEngine:
    """The engine of this machine, with the model loaded.

    Args:
        options: the options.
        start_worker: starts a decoding process.

    Raises:
        ModelError, DeviceError, RemoteError: the model cannot be run as asked.
    """
    threads = options.threads or usable_cpus()
    model = _loaded(options, options.device, threads)
    return LocalEngine(model, options.workers, options.batch_size, options.timeout_s, start_worker)


def ray_engine(options: ScanOptions, address: str | None = None, gpus_per_actor: float = 0.0) -> RayEngine:
    """The engine of a Ray cluster; the model is loaded here too, for its contract.

    Args:
        options: `device` and `threads` are those of this machine, and do not count.
        address, gpus_per_actor: as in `RayEngine`.

    Raises:
        InputError: Ray is not installed, or there is no such cluster.
        ModelError, RemoteError: the model cannot be read.
    """
    from sonicscan.engine.ray.engine import RayEngine

    model = _loaded(options, Device("cpu"), 1)
    return RayEngine(
        model,
        address,
        gpus_per_actor,
        options.workers,
        options.threads,
        options.batch_size,
        options.timeout_s,
    )


def now() -> str:
    """The time, ISO 8601 in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _notes(model: Model) -> list[str]:
    """What the user should know about the model before the scores, in sentences."""
    spec = model.spec
    notes = []
    if model.path in bundled_models().values():
        quality = spec.metrics.get("summary", "its quality has not been measured")
        card = bundled_card(spec.card) or spec.card
        notes.append(f"using the bundled model {model.path.name} (card: {card}): {quality}.")
    if spec.untrained:
        notes.append("the model is untrained: its scores mean nothing, and no verdicts are given.")
    return notes


def _thresholds(model: Model, options: ScanOptions, notes: list[str]) -> Thresholds | None:
    if model.spec.untrained:
        return None
    if options.threshold is not None:
        thresholds = Thresholds(options.threshold)
        notes.append(str(why_not_certified(model.spec.calibration, thresholds, str(options.windows))))
        return thresholds
    if not model.spec.calibration.n:
        notes.append(
            "the model has no calibration: no verdicts or p-values are given; "
            "set --threshold, or recalibrate it with sonicscan-export recalibrate."
        )
        return None
    thresholds = certified_thresholds(model.spec.calibration, options.max_fpr)
    if (why := why_not_certified(model.spec.calibration, thresholds, str(options.windows))) is not None:
        notes.append(why)
    if thresholds.classes:
        own = "; ".join(f"{c.name} from {c.flagged:.4f} ({c.n:,} calibration tracks)" for c in thresholds.classes)
        notes.append(
            f"flagged by codec, each with a certificate of its own: {own}; other codecs from {thresholds.flagged:.4f}, "
            "which is certified for all codecs together."
        )
    caught = caught_at(model.spec, options.max_fpr)
    if caught is not None:
        share = f"{caught.share:.0%} of {caught.n:,} AI tracks"
        notes.append(f"at a false-positive rate of {options.max_fpr:g} the model flags {share}.")
    return thresholds
