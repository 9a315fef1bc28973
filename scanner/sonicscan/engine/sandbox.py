"""Drops the rights of a decoding process before it opens the first file, as far as the system allows it.

    every file   no new privileges (PR_SET_NO_NEW_PRIVS), no core dumps
    local files  also: no file is written or grows (Landlock, RLIMIT_FSIZE); no file is opened but Python's own, and
                 sound files are received open (Landlock); no network, other programs or other processes (seccomp)

A process that decodes files behind URLs keeps the network, credentials and a place for fetched bytes. Names and numbers
follow landlock(7), seccomp(2) and prctl(2) of Linux. On other systems only the resource limits apply.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_PR_SET_NO_NEW_PRIVS, _PR_GET_SECCOMP, _PR_SET_SECCOMP = 38, 21, 22
_SECCOMP_MODE_FILTER = 2

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # system calls, the same on every processor
_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
_EXECUTE, _READ_FILE, _READ_DIR = 1, 4, 8
_FS_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # how many rights on files each version of Landlock has
_FS_RIGHTS_NEWEST = 16
_NET_RIGHTS = 3  # bind and connect TCP, from version 4 on

# Audit architecture and the numbers of the system calls that are refused, by processor.
_ARCHITECTURES: dict[str, tuple[int, dict[str, int]]] = {
    "x86_64": (
        0xC000003E,
        {
            "socket": 41, "connect": 42, "sendto": 44, "bind": 49, "listen": 50, "execve": 59, "kill": 62,
            "ptrace": 101, "mount": 165, "add_key": 248, "request_key": 249, "keyctl": 250, "unshare": 272,
            "perf_event_open": 298, "open_by_handle_at": 304, "setns": 308, "process_vm_readv": 310,
            "process_vm_writev": 311, "bpf": 321, "execveat": 322, "userfaultfd": 323, "pidfd_send_signal": 424,
            "io_uring_setup": 425, "pidfd_getfd": 438,
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            "mount": 40, "unshare": 97, "ptrace": 117, "kill": 129, "socket": 198, "bind": 200, "listen": 201,
            "connect": 203, "sendto": 206, "add_key": 217, "request_key": 218, "keyctl": 219, "execve": 221,
            "perf_event_open": 241, "open_by_handle_at": 265, "setns": 268, "process_vm_readv": 270,
            "process_vm_writev": 271, "bpf": 280, "execveat": 281, "userfaultfd": 282, "pidfd_send_signal": 424,
            "io_uring_setup": 425, "pidfd_getfd": 438,
        },
    ),
}  # fmt: skip
_CLONE = {"x86_64": 56, "aarch64": 220}
_CLONE3 = 435
_CLONE_THREAD = 0x10000
_X32 = 0x40000000  # the other system calls of x86_64
_ALLOW, _REFUSE, _NOT_THERE = 0x7FFF0000, 0x00050000 | 1, 0x00050000 | 38  # EPERM, ENOSYS

# The environment variables of a local worker: Python and the libraries need these to start. None is secret.
_KEPT_NAMES = frozenset(
    """
    PATH HOME USER LANG LANGUAGE TZ TMPDIR TEMP TMP SYSTEMROOT WINDIR VIRTUAL_ENV CONDA_PREFIX
    LD_LIBRARY_PATH DYLD_LIBRARY_PATH MALLOC_ARENA_MAX
    """.split()  # noqa: SIM905 - one a line would be longer
)
# The names of numerical libraries choose their kernels: all processes of a scan must compute the same bits.
_KEPT_STARTS = ("LC_", "PYTHON", "OPENBLAS_", "OMP_", "MKL_", "NPY_")


@dataclass(frozen=True)
class Offer:
    """The sandbox functions that the system offers.

    Attributes:
        no_new_privileges: whether a process can give up new privileges.
        seccomp: whether system calls can be filtered.
        landlock: version of Landlock; 0 where there is none.
    """

    no_new_privileges: bool
    seccomp: bool
    landlock: int

    @property
    def missing(self) -> tuple[str, ...]:
        """Describes the rights that a worker for local files keeps on this system and gives up elsewhere."""
        lacks = []
        if not self.no_new_privileges:
            lacks.append("gaining privileges")
        if not self.seccomp:
            lacks.append("starting programs")
            if self.landlock < 4:
                lacks.append("using the network")
        if not self.landlock:
            lacks.append("reading other files and writing files")
        return tuple(lacks)


def offered() -> Offer:
    """Returns what this system offers; asks the kernel and changes nothing."""
    if sys.platform != "linux":
        return Offer(False, False, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(_RULESET_VERSION))
    filters = libc.prctl(_PR_GET_SECCOMP, 0, 0, 0, 0) >= 0 and platform.machine() in _ARCHITECTURES
    return Offer(True, filters, max(0, version))


def kept_environment(remote: bool) -> dict[str, str]:
    """The environment of a worker; one for local files gets no secrets.

    Args:
        remote: whether it fetches files, for which it needs proxies and credentials.
    """
    if remote:
        return dict(os.environ)
    return {name: value for name, value in os.environ.items() if name in _KEPT_NAMES or name.startswith(_KEPT_STARTS)}


def give_up(remote: bool) -> None:
    """Gives up the rights that this process does not need; this cannot be undone.

    Args:
        remote: whether it fetches files.
    """
    _limit_resources(remote)
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or remote:
        return
    _restrict_files(libc, _own_places())
    _filter_calls(libc)


def _limit_resources(remote: bool) -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if not remote:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
            resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))  # root may still start processes


def _own_places() -> Iterable[str]:
    """Folders and files that Python and its libraries read when they import something."""
    places = {sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path, str(Path(__file__).parents[1])}
    places |= {"/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/dev/null", "/dev/urandom", "/sys/devices/system/cpu"}
    return (place for place in places if place and Path(place).is_absolute() and place != "/")


def _restrict_files(libc: ctypes.CDLL, readable: Iterable[str]) -> None:
    """Deny all access to files, except reading those below `readable` and what is open (Landlock)."""
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(_RULESET_VERSION))
    if version < 1:
        return
    files = (1 << _FS_RIGHTS.get(version, _FS_RIGHTS_NEWEST)) - 1
    handled = struct.pack("=Q", files) + (struct.pack("=Q", _NET_RIGHTS) if version >= 4 else b"")
    ruleset = libc.syscall(_CREATE_RULESET, handled, ctypes.c_size_t(len(handled)), ctypes.c_uint(0))
    if ruleset < 0:
        return
    try:
        for place in readable:
            with contextlib.suppress(OSError):
                _allow_reading(libc, ruleset, place)
        libc.syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint(0))
    finally:
        os.close(ruleset)


def _allow_reading(libc: ctypes.CDLL, ruleset: int, place: str) -> None:
    fd = os.open(place, os.O_PATH | os.O_CLOEXEC)
    try:
        rights = _READ_FILE | (_READ_DIR if Path(place).is_dir() else 0)
        rule = struct.pack("=Qi", rights, fd)
        libc.syscall(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_RULE_PATH_BENEATH), rule, ctypes.c_uint(0))
    finally:
        os.close(fd)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _filter_calls(libc: ctypes.CDLL) -> None:
    """Refuse the network, other programs and other processes (seccomp); threads stay."""
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        return
    architecture, refused = _ARCHITECTURES[machine]
    code = ctypes.create_string_buffer(_bpf(architecture, sorted(refused.values()), _CLONE[machine]))
    program = _Program(len(code) // 8, ctypes.cast(code, ctypes.c_void_p))
    libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0)


def _bpf(architecture: int, refused: list[int], clone: int) -> bytes:
    """A seccomp filter in BPF: 8 bytes for each instruction (code, jump if true, jump if false, constant)."""
    load, equal, at_least, any_bit, give = 0x20, 0x15, 0x35, 0x45, 0x06
    number, arch, first_argument = 0, 4, 16  # offsets in struct seccomp_data
    body: list[tuple[int, int, int, int]] = [
        (load, 0, 0, arch),
        (equal, 1, 0, architecture),
        (give, 0, 0, _REFUSE),
        (load, 0, 0, number),
        (at_least, 0, 1, _X32),
        (give, 0, 0, _REFUSE),
        (equal, 0, 1, _CLONE3),
        (give, 0, 0, _NOT_THERE),  # the C library then uses clone, whose flags can be read here
    ]
    for call in refused:
        body += [(equal, 0, 1, call), (give, 0, 0, _REFUSE)]
    body += [
        (equal, 0, 3, clone),
        (load, 0, 0, first_argument),
        (any_bit, 1, 0, _CLONE_THREAD),
        (give, 0, 0, _REFUSE),
        (give, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in body)
