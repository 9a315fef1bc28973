"""The facts about processor and memory that `sonicscan --doctor` prints."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

from sonicscan.machine import cgroup_quota, usable_cpus

_FEATURES = ("avx", "avx2", "f16c", "fma", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "sve")


def machine_facts() -> dict[str, Any]:
    """System, processor, processors that may be used, memory and encoding, by name."""
    quota = cgroup_quota(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    model, features = _cpu()
    return {
        "system": platform.platform(),
        "cpu": model or platform.processor() or platform.machine(),
        "cpu_features": [name for name in _FEATURES if name in features],
        "cpus": os.cpu_count(),
        "cpus_of_affinity": affinity,
        "cpus_of_cgroup": quota,
        "cpus_used": usable_cpus(),
        "memory_gib": _memory_gib(),
        "address_space_gib": _address_space_gib(),
        "stdout_encoding": sys.stdout.encoding,
    }


def _cpu() -> tuple[str, set[str]]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "", set()
    values = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    return values.get("model name", ""), set((values.get("flags") or values.get("Features", "")).split())


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _address_space_gib() -> float | None:
    try:
        import resource
    except ImportError:
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else round(limit / 2**30, 2)
