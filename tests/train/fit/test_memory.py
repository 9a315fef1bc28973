"""Memory that training frees stays with the process: a real process frees a large block, with and without."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from sonicscan_train.fit.memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
block = np.ones(256 << 20, dtype=np.uint8)
del block
print(Path("/proc/self/statm").read_text().split()[1])
"""


def resident_mb(how: str) -> float:
    said = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True, timeout=60)
    return int(said.stdout) * 4096 / 2**20


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_freed_memory_stays_with_the_process() -> None:
    assert resident_mb("given back") < 200
    assert resident_mb("kept") > 256
