"""The public API: `Scanner` loads a model once for any number of scans; `scan` does both for a single call."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack

import numpy as np
import numpy.typing as npt

from sonicscan.audio.images import read_images
from sonicscan.audio.windows import WindowPlan
from sonicscan.calls import DEFAULT_TIMEOUT_S
from sonicscan.engine.outcome import Outcome, Reading
from sonicscan.engine.rows import track_result
from sonicscan.errors import AudioError, InputError, ModelError
from sonicscan.library.discovery import listing
from sonicscan.library.ranges import MemoryFile
from sonicscan.library.selection import Selection
from sonicscan.library.tracks import Track
from sonicscan.library.urls import located
from sonicscan.model.batching import default_batch
from sonicscan.model.detector import Detector
from sonicscan.model.sessions import Device
from sonicscan.report.row import FileResult
from sonicscan.scanning.scan import Scan, ScanOptions
from sonicscan.scoring.thresholds import DEFAULT_MAX_FPR, Thresholds
from sonicscan.spec import ModelSpec

if TYPE_CHECKING:
    from sonicscan.analysis.evidence import Evidence

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
Patterns = str | Sequence[str]
MAX_SAMPLE_RATE = 768_000


class ScannerOptions(TypedDict, total=False):
    """The arguments of `Scanner`, as type checkers see them in a call of `scan`."""

    model: str | os.PathLike[str] | None
    windows: int | Literal["adaptive"] | None
    max_fpr: float
    threshold: float | None
    device: str
    workers: int
    threads: int
    batch_size: int
    timeout_s: float
    hash: bool
    provenance: bool
    c2pa_trust: str | os.PathLike[str] | None


class Scanner:
    """A loaded model with its thresholds, for any number of scans.

    Args:
        model: ONNX file with the sonicscan contract, its URL, or the name of a bundled one; None for the default.
        windows: number of evenly spread windows that are scored in each track. None scores all windows; "adaptive"
            scores as many as the verdict needs.
        max_fpr: certified false-positive rate of the verdict `flagged`.
        threshold: score in 0..1 from which a track is flagged, in place of `max_fpr`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        workers, threads, batch_size: 0 chooses a value for this machine.
        timeout_s: seconds a file may take to decode.
        hash: put the SHA-256 of each file's bytes into its result.
        provenance: read what each file declares about its own origin; never part of a score or verdict.
        c2pa_trust: PEM file of the root certificates that make a signature `trusted`; None for no roots.

    Attributes:
        notes: sentences that a person should read before the scores.

    Raises:
        InputError: the model's calibration cannot certify the rate, or options contradict each other.
        ModelError, DeviceError: the model cannot be run as asked.
        RemoteError: the model's URL cannot be fetched.

    A context manager: leaving it, or `close`, frees the model.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        windows: int | Literal["adaptive"] | None = 12,
        max_fpr: float = DEFAULT_MAX_FPR,
        threshold: float | None = None,
        device: str = "auto",
        workers: int = 0,
        threads: int = 0,
        batch_size: int = 0,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        hash: bool = False,
        provenance: bool = True,
        c2pa_trust: str | os.PathLike[str] | None = None,
    ) -> None:
        options = ScanOptions(
            model=None if model is None else located(model),
            windows=WindowPlan.of(windows),
            max_fpr=max_fpr,
            threshold=threshold,
            device=Device.parse(device),
            workers=workers,
            threads=threads,
            batch_size=batch_size,
            timeout_s=timeout_s,
            hash=hash,
            provenance=provenance,
            c2pa_trust=None if c2pa_trust is None else Path(c2pa_trust),
        )
        self._loaded: Scan | None = Scan(options)
        self.notes: tuple[str, ...] = tuple(self._loaded.notes)

    @property
    def spec(self) -> ModelSpec:
        """The model's contract."""
        return self._scan.model.spec

    @property
    def thresholds(self) -> Thresholds | None:
        """Scores at which `review` and `flagged` begin; None if the model gives no verdicts."""
        return self._scan.thresholds

    @property
    def device(self) -> str:
        """Where the model runs, such as `cpu` or `cuda:0`."""
        return self._scan.engine.device

    def scan(
        self,
        paths: Paths,
        *,
        include: Patterns = (),
        exclude: Patterns = (),
        follow_symlinks: bool = False,
    ) -> Generator[FileResult, None, None]:
        """Score files and the files below folders; decoding runs in worker processes that this call starts.

        Args:
            paths: a file, a folder or a URL (`s3://bucket/catalogue`), or several.
            include, exclude: a pattern or several, as in `library.selection.Selection`.
            follow_symlinks: as there.

        Yields:
            one `FileResult` for each file found, in order of completion. A file that cannot be scored gives a result
            with a status and an error, and raises nothing.

        Raises:
            InputError: a path that is not there.
            RemoteError: a URL cannot be reached.
        """
        roots = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
        selection = Selection(_patterns(include), _patterns(exclude), follow_symlinks)
        return self._scan.score(listing(roots, selection, self._scan.options.timeout_s))

    def score_file(self, path: str | os.PathLike[str]) -> FileResult:
        """Score one file or URL; decoding runs in a new worker process.

        Raises:
            InputError: it is not there, or it is a folder without exactly one file.
            RemoteError: a URL cannot be reached.
        """
        with contextlib.closing(self.scan(path, include="*")) as scanned:
            results = list(itertools.islice(scanned, 2))
        if len(results) != 1:
            held = "more than one file" if results else "no file"
            raise InputError(f"{path} holds {held}; score_file takes one, and scan takes folders.")
        return results[0]

    def score(self, samples: npt.ArrayLike, sample_rate: float, name: str = "samples") -> FileResult:
        """Score sound in memory, in this process; the score equals that of a WAV file with the same samples.

        With adaptive windows, all windows are scored here, so the score may differ from that of the file.
        Samples declare no origin, so the result's `provenance` is None.

        Args:
            samples: float array [n] or [n, channels], full scale 1.0.
            sample_rate: Hz, a whole number from 1 to 768,000.
            name: the `path` of the result.

        Raises:
            InputError: an array of another shape or type, or a sample rate out of range.
            ModelError, DeviceError: the model fails while it runs.
        """
        import soundfile

        sound = np.asarray(samples)
        if sound.ndim not in (1, 2) or sound.dtype.kind != "f" or (sound.ndim == 2 and not 0 < sound.shape[1] <= 255):
            raise InputError(
                f"samples are a float array [n] or [n, channels], not {sound.dtype} {list(sound.shape)}; "
                "divide integers by their full scale."
            )
        if not 0 < sample_rate <= MAX_SAMPLE_RATE or sample_rate != int(sample_rate):
            raise InputError(f"a sample rate is a whole number between 1 and {MAX_SAMPLE_RATE} Hz, not {sample_rate}.")
        held = io.BytesIO()
        soundfile.write(held, sound.astype(np.float32), int(sample_rate), subtype="FLOAT", format="RF64")
        scan = self._scan
        track = Track(os.fsencode(name), sound.nbytes, 0)
        reading = self._reading(MemoryFile(held.getbuffer()))
        return track_result(track, reading, scan.judged_by, scan.thresholds)

    def explain(self, path: str | os.PathLike[str]) -> Evidence:
        """Decompose the score of a sound file or URL over windows, time and frequency.

        With adaptive windows, all windows are explained, so the score may differ from that of `scan`.

        Raises:
            AudioError: the file or URL cannot be read, has no sound, or is all silent.
            ModelError: the model's class maps do not explain its logits.
        """
        from sonicscan.analysis.evidence import explain

        scan = self._scan
        try:
            return explain(os.fsencode(path), scan.model, self._plan)
        except AudioError as error:
            raise AudioError(error.status, f"{located(path)} cannot be explained: {error}") from error

    def close(self) -> None:
        """Free the model; every later call raises `ModelError`."""
        self._loaded = None

    def __enter__(self) -> Scanner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _scan(self) -> Scan:
        if self._loaded is None:
            raise ModelError("this Scanner is closed; make another one.")
        return self._loaded

    @property
    def _plan(self) -> WindowPlan:
        """Which windows `score` and `explain` use: all, if the plan is adaptive."""
        plan = self._scan.options.windows
        return WindowPlan.of(None) if plan.adaptive else plan

    def _reading(self, file: MemoryFile) -> Reading:
        """The logits of all windows of a file under the plan."""
        scan = self._scan
        windows = read_images(file, scan.model.spec.audio, self._plan)
        starts: list[float] = []
        images: list[npt.NDArray[np.float32]] = []
        silent = 0
        try:
            while True:
                window = next(windows)
                if window.image is None:
                    silent += 1
                else:
                    starts.append(window.start_s)
                    images.append(window.image)
        except StopIteration as end:
            outcome = Outcome.of_facts(end.value, len(images), silent)
        except AudioError as error:
            return Reading(Outcome(status=error.status, error=str(error)))
        if not images:
            return Reading(outcome)
        size = default_batch(scan.model.spec.architecture, scan.model.device.kind)
        detector = Detector(scan.model, size)
        logits = [row for k in range(0, len(images), size) for row in _logits(detector, images[k : k + size])]
        return Reading(outcome, starts, logits)


def _patterns(given: Patterns) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _logits(detector: Detector, images: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Logits of some windows, in a batch of the detector's size."""
    batch = np.zeros((detector.batch_size, 3, *images[0].shape), dtype=np.float32)
    batch[: len(images)] = np.stack(images)[:, None]
    return detector.logits(batch, len(images))


def scan(
    paths: Paths,
    *,
    include: Patterns = (),
    exclude: Patterns = (),
    follow_symlinks: bool = False,
    **options: Unpack[ScannerOptions],
) -> Generator[FileResult, None, None]:
    """Score audio files, and those below folders, for being AI-generated music; creates a `Scanner` for this call.

    Args:
        paths, include, exclude, follow_symlinks: as in `Scanner.scan`.
        options: the arguments of `Scanner`, such as `model` and `max_fpr`.

    Yields:
        one `FileResult` for each file found, as `Scanner.scan` does.

    Raises:
        InputError, ModelError, DeviceError, RemoteError: as `Scanner` and `Scanner.scan` do, before the first result.
    """
    return Scanner(**options).scan(paths, include=include, exclude=exclude, follow_symlinks=follow_symlinks)
