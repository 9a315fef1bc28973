"""A missing extra is one sentence with the command that adds it, never a traceback."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from sonicscan.extras import EXTRAS, extra_of
from sonicscan.model.bundled import DEFAULT


@pytest.mark.parametrize(
    ("hidden", "program", "arguments", "extra"),
    [
        ("torch", "sonicscan_export.cli", ["--backbone", "lambda", "--out", "x.onnx"], "train"),
        ("torch", "sonicscan_train.cli", ["fit", "--data", "x.csv", "--out", "x"], "train"),
        ("onnx", "sonicscan_export.cli", ["inspect", DEFAULT], "export"),
        ("cryptography", "sonicscan_export.cli", ["keygen", "x.pem"], "sign"),
        ("jinja2", "sonicscan.cli.report", ["html", "x.parquet", "--out", "x.html"], "report"),
    ],
)
def test_one_sentence_and_a_command(
    hidden: str, program: str, arguments: list[str], extra: str, tmp_path: Path
) -> None:
    hide = (
        "import sys, importlib.abc\n"
        "class Hide(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] == {hidden!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Hide())\n"
        f"from {program} import main\nmain(sys.argv[1:])\n"
    )
    command = [sys.executable, "-c", hide, *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert f"{sys.executable} -m pip install 'sonicscan[{extra}]'." in done.stderr
    assert not list(tmp_path.iterdir())


def test_every_extra_is_one_of_the_project() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert set(EXTRAS) <= set(tomllib.loads(text)["project"]["optional-dependencies"])
    assert extra_of("torch.nn") == "train" and extra_of("json") is None and extra_of(None) is None
