"""What is in deploy/, each by its own linter."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path

import pytest
from synthesis import music

from sonicscan.cli.demo import write_sound

DEPLOY = Path(__file__).parents[1] / "deploy"


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_units_are_valid_and_confined(tmp_path: Path) -> None:
    for unit in (DEPLOY / "systemd").iterdir():  # the program is installed somewhere else here
        text = unit.read_text(encoding="utf-8").replace("/usr/local/bin/sonicscan", sys.executable)
        (tmp_path / unit.name.replace("@", "@x")).write_text(text)
    done = run("systemd-analyze", "verify", "--man=no", *sorted(tmp_path.iterdir()))
    assert done.returncode == 0 and "sonicscan" not in done.stderr, done.stderr
    done = run("systemd-analyze", "security", "--offline=true", "--threshold=15", tmp_path / "sonicscan.service")
    assert done.returncode == 0, done.stdout[-500:]  # an exposure of 1.5 or less, of 10


# Loads a unit's filter of system calls, then runs a program: libseccomp does for both what it does for systemd.
CONFINED = """
import ctypes, os, sys
allowed, command = sys.argv[1].split(), sys.argv[2:]
lib = ctypes.CDLL("libseccomp.so.2")
lib.seccomp_init.restype = ctypes.c_void_p
context = ctypes.c_void_p(lib.seccomp_init(ctypes.c_uint32(0x80000000)))  # kills the process
for name in allowed:
    number = lib.seccomp_syscall_resolve_name(name.encode())
    if number >= 0:
        lib.seccomp_rule_add(context, ctypes.c_uint32(0x7FFF0000), number, 0)  # allows the call
assert lib.seccomp_load(context) == 0
os.execv(command[0], command)
"""


def system_calls(name: str) -> set[str]:
    """The system calls of a group such as @system-service; any other name stands for itself."""
    if not name.startswith("@"):
        return {name}
    lines = run("systemd-analyze", "syscall-filter", name).stdout.splitlines()[1:]
    members = (line.strip() for line in lines if line.strip() and not line.strip().startswith("#"))
    return set[str]().union(*map(system_calls, members))


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None or find_library("seccomp") is None, reason="systemd is not installed"
)
def test_the_service_allows_the_system_calls_of_a_scan(tmp_path: Path) -> None:
    unit = (DEPLOY / "systemd" / "sonicscan.service").read_text(encoding="utf-8")
    filters = re.findall(r"^SystemCallFilter=(~?)(.*)$", unit, re.MULTILINE)
    allowed: set[str] = set()
    for refused, names in filters:
        for calls in map(system_calls, names.split()):
            allowed = allowed - calls if refused else allowed | calls
    write_sound(tmp_path / "a.wav", music(6.0), 44100)
    program = Path(sys.executable).with_name("sonicscan")
    done = run(sys.executable, "-c", CONFINED, " ".join(allowed), program, tmp_path, "--out", tmp_path / "r.parquet")
    assert done.returncode == 0 and "status   ok 1" in done.stderr, done.stderr
    done = run(sys.executable, "-c", CONFINED, " ".join(allowed), program, "--doctor")
    assert done.returncode == 0, done.stderr


def test_the_kubernetes_job_fits_the_schema_of_kubernetes() -> None:
    program = Path(sys.executable).with_name("kubernetes-validate")
    done = run(program, "-k", "1.33", "--strict", *(DEPLOY / "kubernetes").iterdir())
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_the_slurm_scripts_pass_shellcheck() -> None:
    done = run("shellcheck", *(DEPLOY / "slurm").iterdir())
    assert done.returncode == 0, done.stdout


def test_a_task_that_is_submitted_again_scans_the_same_shard(tmp_path: Path) -> None:
    srun = tmp_path / "srun"
    srun.write_text('#!/bin/sh\necho "$@"\n')
    srun.chmod(0o755)
    script = DEPLOY / "slurm" / "scan.sh"
    (tasks,) = re.findall(r"^#SBATCH --array=1-(\d+)$", script.read_text(encoding="utf-8"), re.MULTILINE)
    path = f"{tmp_path}:/usr/bin:/bin"
    for count in (tasks, "1"):
        alone = {"PATH": path, "SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": count}
        done = subprocess.run(["/bin/sh", script, "/c", "/r"], env=alone, capture_output=True, text=True, check=True)
        assert f"--shard 7/{tasks} --out /r/part7.parquet" in done.stdout


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed")
def test_the_containers_pass_hadolint() -> None:
    done = run("hadolint", DEPLOY / "Containerfile", DEPLOY / "Containerfile.cuda")
    assert done.returncode == 0, done.stdout


def test_the_containers_differ_in_what_cuda_needs_alone() -> None:
    plain, cuda = ((DEPLOY / name).read_text(encoding="utf-8") for name in ("Containerfile", "Containerfile.cuda"))
    for text in (plain, cuda):
        assert "USER 65532:65532" in text and "PYTHONUNBUFFERED=1" in text
    added = {line for line in cuda.splitlines() if line not in plain.splitlines() and not line.startswith("#")}
    assert all("NVIDIA" in line or "EXTRAS=cuda" in line or "HOME" in line for line in added)
