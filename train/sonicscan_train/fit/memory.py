"""The C library's memory: what a step frees is kept for the next one."""

from __future__ import annotations

from sonicscan.machine import set_malloc

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_MOST = 2**31 - 1


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory of this process.

    By default glibc takes each large block from the system and gives it back, and the system clears all its pages. A
    step on the CPU frees and takes hundreds of such blocks (docs/training-log.md has the times).
    """
    set_malloc({_MMAP_THRESHOLD: _MOST, _TRIM_THRESHOLD: _MOST})
