"""What is released: the same bytes twice, complete metadata, and a wheel that scans in an environment of its own."""

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
    assert {"sonicscan/model/bundled/SHA256SUMS", "sonicscan/model/bundled/model-card.md"} <= names
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


def test_the_wheel_scans_in_an_environment_of_its_own(built: dict[str, Path], tmp_path: Path) -> None:
    """Its dependencies are those of this environment, whose own sonicscan is out of reach."""
    python("-m", "venv", "--without-pip", tmp_path / "venv")
    inside = tmp_path / "venv/bin/python"
    site = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    with zipfile.ZipFile(built[".whl"]) as wheel:
        wheel.extractall(site)
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"])  # a .pth in there is not read
    library = tmp_path / "library"
    library.mkdir()
    write_sound(library / "a.flac", music(5.0, 22050, 1), 22050)
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    program = (
        "import sys, sonicscan\nfrom sonicscan.cli.scan import main\n"
        "if __name__ == '__main__':\n    print(sonicscan.__file__)\n    main(sys.argv[1:])\n"
    )
    (tmp_path / "program.py").write_text(program)
    command = [inside, tmp_path / "program.py", library, "--workers", "1"]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    where, line = done.stdout.splitlines()
    assert Path(where).is_relative_to(site) and line.endswith(f"ok\t{library / 'a.flac'}")


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__ and citation["license"] == "MIT" and citation["authors"]
