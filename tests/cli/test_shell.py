"""What the wheel and `make` put where shells and `man` look for it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click_man.core import write_man_pages

import sonicscan
import sonicscan_export.cli
import sonicscan_train.cli
from sonicscan.cli import report, scan

ROOT = Path(__file__).parents[2]
PROGRAMS = {
    "sonicscan": scan.main,
    "sonicscan-report": report.main,
    "sonicscan-train": sonicscan_train.cli.main,
    "sonicscan-export": sonicscan_export.cli.main,
}


@pytest.mark.filterwarnings("ignore:'click.utils.make_default_short_help':DeprecationWarning")  # in click-man
def test_the_man_pages_say_what_the_help_says(tmp_path: Path) -> None:
    """`make man` writes them anew."""
    (date,) = re.findall(r"^MAN_DATE := (\S+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    for name, command in PROGRAMS.items():
        write_man_pages(name, command, version=sonicscan.__version__, target_dir=str(tmp_path), date=date)
    new, kept = ({p.name: p.read_text(encoding="utf-8") for p in d.glob("*.1")} for d in (tmp_path, ROOT / "man"))
    assert sorted(new) == sorted(kept), "run `make man`"
    assert [name for name in new if new[name] != kept[name]] == [], "run `make man`"


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make")
def test_make_installs_completions_for_three_shells(tmp_path: Path) -> None:
    folders = {"HOME": str(tmp_path), "XDG_DATA_HOME": "", "XDG_CONFIG_HOME": ""}
    (tmp_path / "venv").mkdir()
    for stamp in (".core", ".all"):
        (tmp_path / "venv" / stamp).touch()
    (tmp_path / "venv/bin").symlink_to(Path(sys.executable).parent)
    command = ["make", "-s", "install-completions", f"VENV={tmp_path}/venv"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **folders}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    for program in PROGRAMS:
        for name, words in (
            (f".local/share/bash-completion/completions/{program}", "complete -o"),
            (f".local/share/zsh/site-functions/_{program}", f"#compdef {program}"),
            (f".config/fish/completions/{program}.fish", "complete --no-files"),
        ):
            assert words in (tmp_path / name).read_text(encoding="utf-8")
