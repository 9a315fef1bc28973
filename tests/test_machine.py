"""What a process may use, from affinity and control groups as the kernel lays them out; when interrupts reach it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sonicscan.machine import cgroup_quota, hold_interrupts, usable_cpus


def lay_out(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "group", "expected"),
    [
        ({}, "0::/\n", None),
        ({"cpu.max": "max 100000\n"}, "0::/\n", None),
        ({"cpu.max": "150000 100000\n"}, "0::/\n", 1.5),
        ({"a/cpu.max": "max 100000\n", "a/b/cpu.max": "400000 100000\n"}, "0::/a/b\n", 4.0),
        ({"a/cpu.max": "200000 100000\n", "a/b/cpu.max": "400000 100000\n"}, "0::/a/b\n", 2.0),
        ({"other/cpu.max": "100000 100000\n"}, "0::/a\n", None),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, "4:cpu:/x\n", 3.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, "4:cpu:/x\n", None),
        ({"cpu.max": "nonsense\n"}, "0::/\n", None),
    ],
)
def test_quota_of_the_group_and_those_above(
    files: dict[str, str], group: str, expected: float | None, tmp_path: Path
) -> None:
    membership = tmp_path / "membership"
    membership.write_text(group)
    assert cgroup_quota(lay_out(tmp_path / "cgroup", files), membership) == expected


def test_without_control_groups_there_is_no_quota(tmp_path: Path) -> None:
    assert cgroup_quota(tmp_path / "none", tmp_path / "nothing") is None


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no CPU affinity here")
def test_affinity_is_respected() -> None:
    program = """
import os
from sonicscan.machine import usable_cpus
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
print(usable_cpus())
"""
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout == b"1\n"
    assert 1 <= usable_cpus() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_for_the_end_of_the_block(number: signal.Signals) -> None:
    before = signal.signal(number, signal.default_int_handler)
    passed = []
    try:
        with pytest.raises(KeyboardInterrupt):
            with hold_interrupts():
                signal.raise_signal(number)
                passed.append("the rest of the block")
            passed.append("what follows it")
        assert passed == ["the rest of the block"]
        with hold_interrupts():
            passed.append("a block without one")
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)
