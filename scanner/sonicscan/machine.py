"""The processors and memory that this process may use, and what it need not load."""

from __future__ import annotations

import contextlib
import importlib.abc
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType

_M_ARENA_MAX = -8  # of mallopt, malloc.h
_THREAD_STACK = 1 << 20
_SAVING = {"OPENBLAS_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"}


def usable_cpus() -> int:
    """Processors that the affinity mask and the cgroup's quota leave to this process, at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))
    return max(1, affinity if quota is None else min(affinity, math.ceil(quota)))


def interrupts() -> tuple[signal.Signals, ...]:
    """SIGINT, SIGTERM and, unless it is ignored as under `nohup`, SIGHUP: the terminal was closed."""
    hangup: signal.Signals | None = getattr(signal, "SIGHUP", None)
    if hangup is None or signal.getsignal(hangup) == signal.SIG_IGN:
        return signal.SIGINT, signal.SIGTERM
    return signal.SIGINT, signal.SIGTERM, hangup


@contextlib.contextmanager
def on_interrupt(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Call `handler` for each of `interrupts`; afterwards the earlier handlers are back.

    A signal that `handler` has set to be ignored stays ignored.
    """
    before = {number: signal.signal(number, handler) for number in interrupts()}
    try:
        yield
    finally:
        for number, earlier in before.items():
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, earlier)


@contextlib.contextmanager
def hold_interrupts() -> Iterator[None]:
    """Hold `interrupts` back until the end of the block.

    An interrupt while a module in C is imported would become that module's ImportError.
    """
    held: list[int] = []
    with on_interrupt(lambda number, frame: held.append(number)):
        yield
    if held:
        signal.raise_signal(held[0])


def save_address_space() -> None:
    """Make libraries that are loaded later reserve less address space, if it is limited (`ulimit -v`).

    By default OpenBLAS, Arrow and glibc reserve more than a gigabyte and use only a small part of it.
    """
    try:
        import resource
    except ImportError:
        return
    if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
        return
    for name, value in _SAVING.items():
        os.environ.setdefault(name, value)
    threading.stack_size(_THREAD_STACK)
    set_malloc({_M_ARENA_MAX: 1})


def set_malloc(values: Mapping[int, int]) -> None:
    """Set options of glibc's allocator, by their numbers in malloc.h. Other C libraries stay as they are."""
    if sys.platform != "linux":
        return
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc has it, musl has not
    if mallopt is not None:
        for option, value in values.items():
            mallopt(option, value)


class _NoPandas(importlib.abc.MetaPathFinder):
    """Finds pandas nowhere, and says nothing about other modules."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is not needed here.", name=fullname)


def leave_out_pandas() -> None:
    """Keep Arrow from loading pandas.

    Where pandas is installed, Arrow imports it at the first conversion, to recognise its types. Scans and reports have
    none, and the import takes longer than all others. Arrow asks once, here, and remembers the answer; `to_pandas` asks
    again.
    """
    if "pandas" in sys.modules:
        return
    import pyarrow as pa

    finder = _NoPandas()  # None in sys.modules would not do: Arrow would take None for pandas
    sys.meta_path.insert(0, finder)
    try:
        pa.array([""])
    finally:
        sys.meta_path.remove(finder)


def cgroup_quota(mount: Path, membership: Path) -> float | None:
    """CPUs that control groups (version 2, or version 1's root) allow; None for no limit.

    Args:
        mount: where the cgroup file system is.
        membership: the process' `/proc/.../cgroup`.
    """
    quotas = []
    for folder in _groups(mount, membership):
        try:
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        except (OSError, ValueError):
            continue
        if quota != "max":
            quotas.append(int(quota) / int(period))
    try:
        quota_us = int((mount / "cpu/cpu.cfs_quota_us").read_text(encoding="ascii"))
        period_us = int((mount / "cpu/cpu.cfs_period_us").read_text(encoding="ascii"))
        if quota_us > 0:
            quotas.append(quota_us / period_us)
    except (OSError, ValueError):
        pass
    return min(quotas, default=None)


def _groups(mount: Path, membership: Path) -> list[Path]:
    """The cgroup of this process and its parents, up to the mount."""
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return [mount]
    own = next((line[3:].strip("/") for line in lines if line.startswith("0::")), "")
    parts = own.split("/") if own else []
    return [mount.joinpath(*parts[:n]) for n in range(len(parts) + 1)]
