"""What a decoding process can still do: tried from inside one that has given up the rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from sounds import encode
from synthesis import calibrated, music, write_model

from sonicscan.audio.decode import read_windows
from sonicscan.audio.windows import WindowPlan
from sonicscan.cli.demo import write_sound
from sonicscan.cli.report import main
from sonicscan.engine.decoder import Decoder
from sonicscan.engine.events import Done, Visit
from sonicscan.engine.pool import WorkerPool
from sonicscan.engine.sandbox import kept_environment, offered
from sonicscan.engine.wire import EXCERPT_RATE, Job
from sonicscan.errors import AudioError
from sonicscan.files import sha256_of
from sonicscan.library.tracks import Track
from sonicscan.spec import AudioSpec

ATTEMPTS = """
import json, os, socket, subprocess
held = open({held!r})
from sonicscan.engine.sandbox import give_up
give_up(remote={remote})
attempts = {{
    "held": lambda: held.read(),
    "other file": lambda: open({other!r}).read(),
    "list a folder": lambda: os.listdir({folder!r}),
    "environment of the parent": lambda: open(f"/proc/{{os.getppid()}}/environ").read(),
    "write": lambda: open({folder!r} + "/new", "w"),
    "network": lambda: socket.socket(),
    "program": lambda: subprocess.run(["true"], check=True),
    "process": lambda: os.fork() or os._exit(0),
    "kill": lambda: os.kill(os.getppid(), 0),
    "import": lambda: __import__("tinytag"),
}}
done = {{}}
for name, attempt in attempts.items():
    try:
        attempt()
        done[name] = True
    except OSError:
        done[name] = False
print(json.dumps(done))
"""


def possible(folder: Path, remote: bool) -> set[str]:
    """What is still possible after `give_up`."""
    (folder / "held").write_text("x")
    (folder / "other").write_text("secret")
    code = ATTEMPTS.format(held=str(folder / "held"), other=str(folder / "other"), folder=str(folder), remote=remote)
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    found: dict[str, bool] = json.loads(done.stdout)
    return {name for name, done in found.items() if done}


@pytest.mark.skipif(offered().missing != (), reason=f"this kernel lacks {', '.join(offered().missing)}")
def test_a_worker_for_local_files_can_do_nothing_but_read_what_it_was_handed(tmp_path: Path) -> None:
    assert possible(tmp_path, remote=False) == {"held", "import"}


def test_a_worker_that_fetches_files_keeps_the_network(tmp_path: Path) -> None:
    assert {"network", "other file"} <= possible(tmp_path, remote=True)


def test_local_workers_get_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "MY_OWN_THING", "https_proxy"):
        monkeypatch.setenv(name, "hunter2hunter2")
    assert "hunter2hunter2" not in kept_environment(remote=False).values()
    assert "PATH" in kept_environment(remote=False)
    assert kept_environment(remote=True)["HF_TOKEN"] == "hunter2hunter2"


def test_all_processes_use_the_same_numerical_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert kept_environment(remote=False)["OPENBLAS_CORETYPE"] == "Haswell"


def test_every_format_decodes_in_there(tmp_path: Path) -> None:
    paths = [write_sound(tmp_path / f"x.{kind}", music(8.0)) for kind in ("wav", "flac", "ogg", "mp3")]
    paths.append(encode(tmp_path / "x.m4a", music(8.0), 44100, "aac"))
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "link.mp3").symlink_to(paths[3])
    paths.append(tmp_path / "library" / "link.mp3")
    job = Job(AudioSpec(), WindowPlan(2), hash=True)
    outcomes = {}
    with WorkerPool(job, 1, 60.0, 100) as pool:
        pool.start([Visit(Track(bytes(path), path.stat().st_size, 0)) for path in paths])
        while (event := pool.events.get(timeout=60)) is not None:
            if isinstance(event, Done):
                outcomes[event.visit.track.path] = event.outcome
    assert {bytes(path): "ok" for path in paths} == {path: outcome.status for path, outcome in outcomes.items()}
    # That of the file behind the link too, which is outside the library.
    assert {path: sha256_of(path) for path in paths} == {
        Path(os.fsdecode(path)): outcome.content_hash for path, outcome in outcomes.items()
    }


@pytest.mark.parametrize("suffix", [".png", ".html"])
def test_explaining_decodes_nothing_but_in_a_worker(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    song, model = write_sound(tmp_path / "x.flac", music(8.0)), write_model(tmp_path / "m.onnx")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    arguments = ["explain", str(song), "--model", str(model), "--out", str(tmp_path / f"x{suffix}")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2 and "worker processes die as they start" in result.output


def test_a_case_file_decodes_nothing_but_in_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    song, model = write_sound(tmp_path / "x.flac", music(8.0)), write_model(tmp_path / "m.onnx", calibrated())
    monkeypatch.setattr(sys, "executable", "/bin/false")
    arguments = ["case", str(song), "--model", str(model), "--examiner", "A", "--out", str(tmp_path / "case")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2 and "worker processes die as they start" in result.output
    assert not (tmp_path / "case").exists()


def test_a_decoder_goes_on_after_an_error_and_after_a_visit_that_was_left(tmp_path: Path) -> None:
    song, noise = write_sound(tmp_path / "x.flac", music(30.0)), tmp_path / "noise.mp3"
    noise.write_bytes(b"no sound" * 100)
    with Decoder(AudioSpec()) as decoder:
        assert next(decoder.windows(bytes(song), WindowPlan(5)))[0] == 0.0
        with pytest.raises(AudioError):
            list(decoder.windows(bytes(noise), WindowPlan(5)))
        with pytest.raises(AudioError, match="No such file"):
            list(decoder.windows(bytes(tmp_path / "none.mp3"), WindowPlan(5)))
        expected = list(read_windows(bytes(song), AudioSpec(), WindowPlan(3)))
        found = list(decoder.windows(bytes(song), WindowPlan(3)))
        assert [start for start, _ in found] == [window.start_s for window in expected]
        assert all(np.array_equal(a, b.samples) for (_, a), b in zip(found, expected, strict=True))
        (excerpt,) = decoder.excerpts(bytes(song), [(2.0, 4.0)])
        assert excerpt[0] == 2.0 and len(excerpt[1]) == 2 * EXCERPT_RATE
