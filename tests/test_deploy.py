"""What is in deploy/, each by its own linter."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_the_kubernetes_job_fits_the_schema_of_kubernetes() -> None:
    program = Path(sys.executable).with_name("kubernetes-validate")
    done = run(program, "-k", "1.33", "--strict", *(DEPLOY / "kubernetes").iterdir())
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_the_slurm_scripts_pass_shellcheck() -> None:
    done = run("shellcheck", *(DEPLOY / "slurm").iterdir())
    assert done.returncode == 0, done.stdout


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
