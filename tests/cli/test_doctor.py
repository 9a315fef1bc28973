"""The output of --doctor and --list-models on this machine."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from faults import PROGRAM

from sonicscan.cli.scan import main
from sonicscan.engine.sandbox import offered
from sonicscan.files import sha256_of
from sonicscan.machine import usable_cpus
from sonicscan.model.bundled import DEFAULT, bundled_models


def test_the_doctor_says_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache/sonicscan/models").mkdir(parents=True)
    (tmp_path / "cache/sonicscan/models/x").write_bytes(bytes(2_000_000))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    done = CliRunner().invoke(main, ["--doctor", "--json"])
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["versions"]["numpy"] == np.__version__
    assert found["machine"]["cpus_used"] == usable_cpus()
    assert found["providers"]["cpu"] == "starts"
    cuda = found["providers"]["cuda"]
    assert cuda == "starts" or ("the NVIDIA driver is missing" in cuda and cuda.count("does not start") == 1)
    assert {"FLAC", "MP3", "OGG"} <= set(found["decoders"]["libsndfile_formats"])
    assert {"aac", "alac"} <= set(found["decoders"]["ffmpeg_decoders"])
    assert found["folders"]["cache"]["size_mb"] == 2.0
    assert found["problems"] == []
    assert found["sandbox"] == dataclasses.asdict(offered()) | {"rights_kept": list(offered().missing)}
    text = CliRunner().invoke(main, ["--doctor"]).stdout
    assert f"numpy: {np.__version__}" in text
    assert text.endswith("Problems\n  none\n")


# A process to which the kernel refuses Landlock, as kernels before 5.13 and many containers do.
WITHOUT_LANDLOCK = """
import ctypes, json, platform
from sonicscan.engine import sandbox
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(sandbox._PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
machine = platform.machine()
sandbox._ARCHITECTURES[machine] = sandbox._ARCHITECTURES[machine][0], {"landlock_create_ruleset": 444}
sandbox._filter_calls(libc)
from sonicscan.cli.doctor import Diagnosis, _print_diagnosis, _sandbox
found = _sandbox()
_print_diagnosis(Diagnosis({}, {}, {}, {}, found, [], {}, {}))
print(json.dumps(found))
"""


@pytest.mark.skipif(not offered().landlock, reason="this kernel lacks Landlock, as the test of the doctor has seen")
def test_the_doctor_says_which_rights_decoders_keep_where_the_kernel_cannot_take_them() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_LANDLOCK], capture_output=True, text=True, check=True)
    *text, found = done.stdout.splitlines()
    assert json.loads(found)["rights_kept"] == ["reading other files and writing files"]
    assert "  rights kept: reading other files and writing files" in text and "  landlock: 0" in text


def test_the_models_are_listed_with_their_digests() -> None:
    found = json.loads(CliRunner().invoke(main, ["--list-models", "--json"]).stdout)
    assert {model["name"]: model["sha256"] for model in found} == {
        name: sha256_of(path) for name, path in bundled_models().items()
    }
    assert [model["name"] for model in found if model["default"]] == [DEFAULT]
    assert all(model["intact"] and "AUC" in model["summary"] for model in found)
    for model in found:
        assert Path(model["card"]).read_text(encoding="utf-8").startswith(f"# Model card: {model['name']}\n")
    lines = CliRunner().invoke(main, ["--list-models"]).stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(bundled_models())


def test_json_alone_is_a_usage_error() -> None:
    assert CliRunner().invoke(main, ["--json"]).exit_code == 2


@pytest.mark.parametrize(
    ("shell", "words"), [("bash", "complete -o"), ("zsh", "#compdef sonicscan"), ("fish", "complete")]
)
def test_shells_get_a_script_and_completions(shell: str, words: str) -> None:
    environment = {**os.environ, "_SONICSCAN_COMPLETE": f"{shell}_source"}
    script = subprocess.run([PROGRAM], env=environment, capture_output=True, check=True).stdout.decode()
    assert words in script


def test_options_and_bundled_models_are_completed(monkeypatch: pytest.MonkeyPatch) -> None:
    def completed(words: str) -> str:
        environment = {"_SONICSCAN_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        return CliRunner().invoke(main, env=environment, prog_name="sonicscan").stdout

    assert "plain,--max-fpr" in completed("sonicscan --max-f")
    assert "plain,flagged" in completed("sonicscan --fail-on fl")
    assert f"plain,{DEFAULT}" in completed("sonicscan --model sonic")
