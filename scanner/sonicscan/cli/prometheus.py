"""How a scan is going, in a file that Prometheus' node_exporter reads (its textfile collector).

The file is written when the scan starts, every few seconds, and when it ends, each time whole or not at
all. Where it cannot be written later on, the scan goes on: nobody wants to lose a night's work to a gauge.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import sonicscan
from sonicscan.cli.console import exit_code_of
from sonicscan.cli.progress import Tally
from sonicscan.engine.base import EngineStats
from sonicscan.errors import STATUSES, InputError
from sonicscan.files import replacing
from sonicscan.scoring.thresholds import VERDICTS

EVERY_S = 5.0

Sample = tuple[str, float]  # labels as the format writes them, and the value


class MetricsFile:
    """Keeps a metrics file up to date while it is entered.

    Args:
        path: the file; node_exporter takes names that end in .prom.
        every_s: seconds between two writes.

    Raises (on entering):
        InputError: the file cannot be written.
    """

    def __init__(self, path: Path, every_s: float = EVERY_S) -> None:
        self._path = path
        self._every_s = every_s
        self._tally, self._stats = Tally(), EngineStats()
        self._started = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="sonicscan-metrics", daemon=True)

    def watch(self, tally: Tally, stats: EngineStats) -> None:
        """Take the figures from these from now on."""
        self._tally, self._stats = tally, stats

    def __enter__(self) -> MetricsFile:
        self._started = time.time()
        try:
            self._write(None)
        except OSError as error:
            raise InputError(f"--metrics-file {self._path} cannot be written: {error.strerror}.") from error
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            self._write(exit_code_of(error))

    def _keep(self) -> None:
        while not self._ended.wait(self._every_s):
            with contextlib.suppress(OSError):
                self._write(None)

    def _write(self, exit_code: int | None) -> None:
        with replacing(self._path, sync=False) as file:
            file.write("".join(self._lines(exit_code)).encode())

    def _lines(self, exit_code: int | None) -> Iterable[str]:
        tally, windows, now = self._tally, self._stats.windows, time.time()
        took = max(1e-9, now - self._started)
        yield from _family("info", "gauge", "The program.", [(f'{{version="{sonicscan.__version__}"}}', 1)])
        yield from _family(
            "files_total",
            "counter",
            "Files by status; those carried over from an earlier scan join at the end.",
            [(f'{{status="{status}"}}', tally.statuses[status]) for status in STATUSES],
        )
        yield from _family(
            "verdicts_total",
            "counter",
            "Files by verdict; those carried over from an earlier scan join at the end.",
            [(f'{{verdict="{verdict}"}}', tally.verdicts[verdict]) for verdict in VERDICTS],
        )
        single: list[tuple[str, str, str, float]] = [
            ("carried_files_total", "counter", "Files whose row was taken from an earlier scan.", tally.carried),
            ("windows_total", "counter", "Windows scored.", windows),
            ("audio_seconds_total", "counter", "Length of the sound in the files scanned.", tally.audio_s),
            ("model_busy_seconds_total", "counter", "Time the model has worked.", self._stats.model_s),
            ("files_per_second", "gauge", "Files scanned, on average since the start.", tally.fresh / took),
            ("windows_per_second", "gauge", "Windows scored, on average since the start.", windows / took),
            ("started_timestamp_seconds", "gauge", "When the scan started.", self._started),
            ("updated_timestamp_seconds", "gauge", "When these figures were written.", now),
            ("running", "gauge", "1 while the scan runs.", exit_code is None),
        ]
        if exit_code is not None:
            single.append(("finished_timestamp_seconds", "gauge", "When the scan ended.", now))
            single.append(("exit_code", "gauge", "Exit code of the scan.", exit_code))
        for name, kind, text, value in single:
            yield from _family(name, kind, text, [("", value)])


def _family(name: str, kind: str, text: str, samples: Iterable[Sample]) -> Iterable[str]:
    yield f"# HELP sonicscan_{name} {text}\n# TYPE sonicscan_{name} {kind}\n"
    for labels, value in samples:
        yield f"sonicscan_{name}{labels} {float(value)!r}\n"
