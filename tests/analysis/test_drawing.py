"""Matplotlib takes no settings from the folder that a command runs in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_a_matplotlibrc_of_the_current_folder_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nlines.linewidth: 77\n")
    code = """
import os
before = os.getcwd()
from sonicscan.analysis.html import require_libraries
require_libraries()
import matplotlib
print(matplotlib.rcParams["text.usetex"], matplotlib.rcParams["lines.linewidth"] == 77, os.getcwd() == before)
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "True"]
