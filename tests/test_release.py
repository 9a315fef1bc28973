"""What is released: the same bytes twice, complete metadata, and a wheel that installs and scans."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from synthesis import music

from sonicscan import __version__
from sonicscan.cli.demo import write_sound
from sonicscan.files import sha256_of
from sonicscan.model.bundled import bundled_models

ROOT = Path(__file__).parents[1]


def python(*arguments: str | Path, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=os.environ | env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The sdist and the wheel of this source tree."""
    out = tmp_path_factory.mktemp("dist")
    python("-m", "build", "--no-isolation", "--outdir", out, SOURCE_DATE_EPOCH="1760000000")
    return {path.suffix: path for path in out.iterdir()}


def test_the_same_source_gives_the_same_bytes(built: dict[str, Path], tmp_path: Path) -> None:
    """Built again, at another time."""
    python("-m", "build", "--no-isolation", "--outdir", tmp_path, SOURCE_DATE_EPOCH="1760000000")
    assert {path.name: sha256_of(path) for path in tmp_path.iterdir()} == {
        path.name: sha256_of(path) for path in built.values()
    }


def test_the_metadata_is_complete(built: dict[str, Path]) -> None:
    assert "PASSED" in python("-m", "twine", "check", "--strict", *built.values())
    with zipfile.ZipFile(built[".whl"]) as wheel:
        names = set(wheel.namelist())
        metadata = wheel.read(f"sonicscan-{__version__}.dist-info/METADATA").decode()
    licences = f"sonicscan-{__version__}.dist-info/licenses"
    assert {f"{licences}/LICENSE", f"{licences}/THIRD_PARTY.md"} <= names
    beside = {"SHA256SUMS", "model-card.md", "lambda-card.md", *(f"{name}.onnx" for name in bundled_models())}
    assert {f"sonicscan/model/bundled/{name}" for name in beside} <= names
    assert "License-Expression: MIT" in metadata and "Requires-Python: >=3.11" in metadata
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extra in project["optional-dependencies"]:
        assert f"Provides-Extra: {extra}\n" in metadata
    development = ("pytest", "torch", "kubernetes", "hypothesis")
    core = [line for line in metadata.splitlines() if line.startswith("Requires-Dist: ") and "extra ==" not in line]
    assert core and not [line for line in core if any(name in line for name in development)]
    with tarfile.open(built[".gz"]) as sdist:
        inside = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"Makefile", "constraints.txt", "CITATION.cff", "CONTRIBUTING.md", "tests/conftest.py"} <= inside


def test_the_wheel_is_installed_in_an_empty_environment_and_scans(built: dict[str, Path], tmp_path: Path) -> None:
    """By pip, without its dependencies: those come from this environment, whose own sonicscan is out of reach."""
    venv = tmp_path / "venv"
    python("-m", "venv", "--without-pip", venv)
    python("-m", "pip", "--python", venv, "install", "--quiet", "--no-index", "--no-deps", built[".whl"])
    site = next(venv.glob("lib/python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"])  # a .pth in there is not read
    library = tmp_path / "library"
    library.mkdir()
    write_sound(library / "a.flac", music(5.0, 22050, 1), 22050)
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(program: str, *arguments: str | Path) -> str:
        command = [venv / "bin" / program, *arguments]
        done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert Path(run("python", "-c", "import sonicscan; print(sonicscan.__file__)").strip()).is_relative_to(site)
    run("sonicscan", library, "--workers", "1", "--out", "report.parquet")
    assert run("sonicscan-report", "show", "report.parquet").endswith(f"ok\t{library / 'a.flac'}\n")
    for program in ("sonicscan", "sonicscan-report", "sonicscan-train", "sonicscan-export"):
        assert run(program, "--version").strip().endswith(__version__)
        assert (venv / f"share/man/man1/{program}.1").is_file()


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__ and citation["license"] == "MIT" and citation["authors"]
