"""Figures of a running scan, in a file that Prometheus' node_exporter reads (its textfile collector).

The file is replaced atomically when the scan starts, every few seconds, and when it ends. If a later write fails, the
scan continues. The scan holds a lock on the file that it wrote last, so a second scan does not replace it.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from sonicscan.cli.console import exit_code_of
from sonicscan.cli.progress import Tally
from sonicscan.engine.base import EngineStats
from sonicscan.errors import STATUSES, InputError
from sonicscan.files import lock, replacing
from sonicscan.scoring.thresholds import VERDICTS
from sonicscan.version import __version__

EVERY_S = 5.0


class MetricsFile:
    """Keeps a metrics file up to date while it is entered.

    Args:
        path: the file; node_exporter takes names that end in .prom.
        every_s: seconds between two writes.

    Raises (on entering):
        InputError: another running scan writes the file, or it cannot be written.
    """

    def __init__(self, path: Path, every_s: float = EVERY_S) -> None:
        self._path = path
        self._every_s = every_s
        self._tally, self._stats = Tally(), EngineStats()
        self._started = 0.0
        self._locked: int | None = None  # descriptor of the locked file; a second scan finds it at `path`
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="sonicscan-metrics", daemon=True)

    def watch(self, tally: Tally, stats: EngineStats) -> None:
        """Use these counts as the source of the metrics."""
        self._tally, self._stats = tally, stats

    def __enter__(self) -> MetricsFile:
        self._started = time.time()
        with contextlib.suppress(OSError):  # of no file, or of a file that only its owner may write
            self._locked = os.open(self._path, os.O_RDWR)
        if self._locked is not None and lock(self._locked) is False:
            self._unlock()
            raise InputError(
                f"another running scan writes --metrics-file {self._path}; wait for it, or name another file."
            )
        try:
            self._write(None)
        except OSError as error:
            self._unlock()
            raise InputError(f"--metrics-file {self._path} cannot be written: {error.strerror}.") from error
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            self._write(exit_code_of(error))
        self._unlock()

    def _keep(self) -> None:
        while not self._ended.wait(self._every_s):
            with contextlib.suppress(OSError):
                self._write(None)

    def _write(self, exit_code: int | None) -> None:
        with replacing(self._path, sync=False) as file:
            file.write(_as_text(self._families(exit_code)))
            written = os.dup(file.fileno())  # keeps the lock of `replacing`
        self._unlock()
        self._locked = written

    def _unlock(self) -> None:
        if self._locked is not None:
            os.close(self._locked)
            self._locked = None

    def _families(self, exit_code: int | None) -> Iterator[Metric]:
        tally, windows, now = self._tally, self._stats.windows, time.time()
        took = max(1e-9, now - self._started)
        info = GaugeMetricFamily("sonicscan_info", "The program.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        by_status = CounterMetricFamily(
            "sonicscan_files", "Files by status; rows of an earlier scan join at the end.", labels=["status"]
        )
        for status in STATUSES:
            by_status.add_metric([status], tally.statuses[status])
        yield by_status
        by_verdict = CounterMetricFamily(
            "sonicscan_verdicts", "Files by verdict; rows of an earlier scan join at the end.", labels=["verdict"]
        )
        for verdict in VERDICTS:
            by_verdict.add_metric([verdict], tally.verdicts[verdict])
        yield by_verdict
        counters = {
            "carried_files": ("Files whose row was taken from an earlier scan.", tally.carried),
            "windows": ("Windows that were scored.", windows),
            "audio_seconds": ("Length of the sound in the scanned files.", tally.audio_s),
            "model_busy_seconds": ("Time in which the model ran.", self._stats.model_s),
        }
        for name, (text, value) in counters.items():
            yield CounterMetricFamily(f"sonicscan_{name}", text, value=value)
        gauges = {
            "files_per_second": ("Files scanned, on average since the start.", tally.fresh / took),
            "windows_per_second": ("Windows scored, on average since the start.", windows / took),
            "started_timestamp_seconds": ("When the scan started.", self._started),
            "updated_timestamp_seconds": ("When these figures were written.", now),
            "running": ("1 while the scan runs.", float(exit_code is None)),
        }
        if exit_code is not None:
            gauges["finished_timestamp_seconds"] = ("When the scan ended.", now)
            gauges["exit_code"] = ("Exit code of the scan.", float(exit_code))
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(f"sonicscan_{name}", text, value=value)


class _Families(Collector):
    """The current metric families, for a registry."""

    def __init__(self, families: Iterator[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return self._families


def _as_text(families: Iterator[Metric]) -> bytes:
    registry = CollectorRegistry()
    registry.register(_Families(families))
    return generate_latest(registry)
