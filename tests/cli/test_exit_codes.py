"""How the programs end: exit code 1 means a finding, whatever happens, and rows on stdout are complete or an error."""

from __future__ import annotations

import array
import builtins
import csv
import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pytest
from click.testing import CliRunner
from faults import wait_for
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from report_samples import row, sample_report
from synthesis import music

import sonicscan_export.cli
import sonicscan_train.cli
from sonicscan.cli import report, scan
from sonicscan.cli.console import Ended, exit_code_of
from sonicscan.cli.demo import write_sound
from sonicscan.cli.streams import StdoutError
from sonicscan.signing import PrivateKey

LAW = settings(
    derandomize=True, deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
BIN = Path(sys.executable).parent
LARGE = 400  # rows whose JSON does not fit into a pipe


def _raisable() -> Iterator[BaseException]:
    kinds = [kind for kind in vars(builtins).values() if isinstance(kind, type) and issubclass(kind, BaseException)]
    kinds += [pa.ArrowInvalid, pa.ArrowException, click.Abort, csv.Error, json.JSONDecodeError]
    for kind in kinds:
        for arguments in ((), ("what happened",), ("utf-8", b"\xff", 0, 1, "why"), ("group", [ValueError("one")])):
            try:
                error = kind(*arguments)
            except TypeError:
                continue
            yield error
    yield from (SystemExit(code) for code in (None, 0, 1, 3, "a sentence"))
    yield from (OSError(code, os.strerror(code)) for code in errno.errorcode)
    yield from (click.exceptions.Exit(1), click.UsageError("wrong"), UnicodeEncodeError("ascii", "ä", 0, 1, "why"))


RAISABLE = list(_raisable())
# A library call that each program makes early, and the command that leads to it.
PLACES: dict[str, tuple[click.Command, str, str, list[str]]] = {
    "sonicscan": (scan.main, "os.path", "lexists", ["somewhere"]),
    "sonicscan-report": (report.main, "pyarrow.parquet", "ParquetFile", ["summary", "FILE"]),
    "sonicscan-train": (sonicscan_train.cli.main, "csv", "DictReader", ["split", "FILE.csv", "--out", "split.csv"]),
    "sonicscan-export": (sonicscan_export.cli.main, "json", "dumps", ["inspect", "FILE", "--json"]),
}


@LAW
@given(program=st.sampled_from(sorted(PLACES)), error=st.sampled_from(RAISABLE))
def test_no_exception_looks_like_a_finding(
    program: str, error: BaseException, monkeypatch: pytest.MonkeyPatch, tiny_model: Path, tmp_path: Path
) -> None:
    command, module, name, arguments = PLACES[program]
    reached = []

    def fail(*args: Any, **kwargs: Any) -> Any:
        reached.append(name)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(f"{module}.{name}", fail)
        (content := tmp_path / "file").write_bytes(tiny_model.read_bytes())
        content.with_suffix(".csv").write_text("path,label\n")
        done = CliRunner().invoke(command, [word.replace("FILE", str(content)) for word in arguments])
    assert reached
    assert done.exit_code == (130 if isinstance(error, KeyboardInterrupt) else 2)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    if not isinstance(error, KeyboardInterrupt | click.ClickException):
        assert done.stderr.startswith("Error: ")
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("program", sorted(PLACES))
def test_a_traceback_comes_with_verbose_alone(
    program: str, monkeypatch: pytest.MonkeyPatch, tiny_model: Path, tmp_path: Path
) -> None:
    command, module, name, arguments = PLACES[program]

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise LookupError("nobody foresaw this")

    monkeypatch.setattr(f"{module}.{name}", fail)
    (content := tmp_path / "file").write_bytes(tiny_model.read_bytes())
    content.with_suffix(".csv").write_text("path,label\n")
    words = [word.replace("FILE", str(content)) for word in arguments]
    silent, verbose = CliRunner().invoke(command, words), CliRunner().invoke(command, [*words, "-v"])
    assert silent.exit_code == verbose.exit_code == 2
    assert "nobody foresaw this" in silent.stderr
    assert "Traceback" not in silent.stderr
    assert "Traceback" in verbose.stderr


@given(error=st.sampled_from(RAISABLE))
def test_the_metrics_file_has_the_exit_code_that_the_program_ends_with(error: BaseException) -> None:
    assert exit_code_of(error) in (2, 130)
    assert exit_code_of(Ended(1)) == 1
    assert exit_code_of(StdoutError(errno.EPIPE, "")) == 141


WAITING = {  # commands that wait for what comes out of PIPE
    "sonicscan": ["--files-from", "PIPE"],
    "sonicscan-report": ["summary", "REPORT", "--reviewed", "PIPE"],
    "sonicscan-train": ["folds", "DATA", "--plan", "PIPE", "--out", "folds.csv"],
    "sonicscan-export": ["verify", "PIPE", "--key", "KEY"],
}


@pytest.mark.parametrize("program", sorted(WAITING))
def test_the_first_ctrl_c_ends_each_program_with_130_and_silently(program: str, tmp_path: Path) -> None:
    files = {"PIPE": tmp_path / "pipe.toml", "DATA": tmp_path, "KEY": tmp_path / "key.pub"}
    os.mkfifo(files["PIPE"])
    (tmp_path / "manifest.csv").write_text("path,label\na.wav,human\n")
    files["REPORT"] = sample_report(tmp_path / "report.parquet", [row("a.wav", 0.5)])
    PrivateKey.generate().write(tmp_path / "key.pem")
    command = [BIN / program, *(files.get(word, word) for word in WAITING[program])]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path) as process:
        while True:
            try:
                writing = os.open(files["PIPE"], os.O_WRONLY | os.O_NONBLOCK)
                break
            except OSError as error:  # nobody has opened it for reading yet
                assert error.errno == errno.ENXIO
                assert process.poll() is None, process.communicate()
                time.sleep(0.02)
        # A signal that arrives just before a read is not seen before its end.
        # So the program gets a byte first, and the signal when it sleeps in the next read.
        os.write(writing, b"#")
        wait_for(lambda: not _unread(writing) and _sleeps(process.pid))
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == (b"", b"")
        os.close(writing)
    assert process.returncode == 130


LEAVES_A_THREAD = """
import click
from sonicscan.calls import Call
from sonicscan.cli.console import Program
from sonicscan.model.bundled import chosen_model

import onnxruntime as ort


def load() -> None:
    blob = chosen_model(None).read_bytes()
    ort.set_default_logger_severity(4)
    while True:
        ort.InferenceSession(blob, providers=["CPUExecutionProvider"])


@click.command(cls=Program)
@click.argument("seconds", type=float)
def main(seconds: float) -> None:
    Call(load, "sonicscan-apart").wait(seconds)
    raise KeyboardInterrupt


main()
"""


def test_the_exit_code_is_right_where_a_thread_is_left_in_native_code(tmp_path: Path) -> None:
    (tmp_path / "leaves.py").write_text(LEAVES_A_THREAD)
    for seconds in (0.3, 0.5, 0.7):
        ended = subprocess.run(
            [sys.executable, tmp_path / "leaves.py", str(seconds)], capture_output=True, check=False, timeout=120
        )
        assert (ended.returncode, ended.stdout, ended.stderr) == (130, b"", b"")


def _sleeps(pid: int) -> bool:
    """Whether the main thread of a process waits in the kernel."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


@pytest.fixture(scope="module")
def rows_of_one_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose rows are more than a pipe holds."""
    folder = tmp_path_factory.mktemp("many")
    path = write_sound(folder / "0.wav", music(0.5))
    for k in range(1, LARGE):
        os.link(path, folder / f"{k}.wav")
    return folder


def _shell(command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, **environment, "PATH": f"{BIN}:{os.environ['PATH']}"}
    return subprocess.run(["bash", "-c", command], capture_output=True, env=environment, check=False, timeout=120)


@pytest.mark.parametrize(
    ("redirection", "code", "words"),
    [
        (">/dev/full", 2, b"No space left on device"),
        (">&-", 2, b"standard output cannot be written"),
        ("| true; exit ${PIPESTATUS[0]}", 141, b""),
    ],
)
@pytest.mark.parametrize("program", ["sonicscan MANY --model MODEL -q --out -", "sonicscan --help"])
def test_stdout_that_cannot_be_written_is_an_error(
    program: str, redirection: str, code: int, words: bytes, rows_of_one_file: Path, tiny_model: Path
) -> None:
    command = program.replace("MANY", str(rows_of_one_file)).replace("MODEL", str(tiny_model))
    done = _shell(f"{command} {redirection}")
    assert done.returncode == code
    assert len(done.stderr.splitlines()) == bool(words)
    assert words in done.stderr


def test_a_diff_onto_a_full_disk_is_no_finding(tiny_model: Path, tmp_path: Path) -> None:
    write_sound(tmp_path / "a.wav", music(5.5))
    scans = f"sonicscan {tmp_path}/a.wav --model {tiny_model} -q --threshold"
    made = _shell(f"{scans} 1 --out {tmp_path}/1.parquet && {scans} 0 --out {tmp_path}/2.parquet")
    assert made.returncode == 0, made.stderr
    diff = f"sonicscan-report diff {tmp_path}/1.parquet {tmp_path}/2.parquet"
    assert _shell(diff).returncode == 1
    assert _shell(f"{diff} >/dev/full").returncode == 2


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "2> >(true)", "<&- >&- 2>&-"])
def test_stderr_that_cannot_be_written_costs_no_report(redirection: str, tiny_model: Path, tmp_path: Path) -> None:
    write_sound(tmp_path / "a.wav", music(5.5))
    done = _shell(f"sonicscan {tmp_path}/a.wav --model {tiny_model} -v --out {tmp_path}/r.csv {redirection}")
    assert done.returncode == 0
    assert (tmp_path / "r.csv").read_text().count("a.wav") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "r.csv"]


def test_a_list_from_a_closed_stdin_is_an_error(tiny_model: Path) -> None:
    done = _shell(f"sonicscan --files-from - --model {tiny_model} <&-")
    assert done.returncode == 2
    assert b"the list - cannot be read" in done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("blocking", [True, False])
def test_a_slow_reader_gets_every_row(
    unbuffered: str, blocking: bool, rows_of_one_file: Path, tiny_model: Path
) -> None:
    """A pipe that is full takes a part of a write, or nothing at all where it is non-blocking."""
    reading, writing = os.pipe()
    os.set_blocking(writing, blocking)
    command = [BIN / "sonicscan", rows_of_one_file, "--model", tiny_model, "-q", "--out", "-"]
    with subprocess.Popen(command, stdout=writing, env={**os.environ, "PYTHONUNBUFFERED": unbuffered}) as process:
        os.close(writing)
        wait_for(lambda: _is_full(reading), 250)
        with open(reading, "rb") as rows:  # noqa: PTH123 - a descriptor
            content = rows.read()
    assert process.returncode == 0
    assert len({json.loads(line)["path"] for line in content.splitlines()}) == LARGE


def _is_full(descriptor: int) -> bool:
    """Whether a pipe takes no more; Linux leaves a part of each page empty where whole rows do not fit."""
    before = _unread(descriptor)
    time.sleep(0.2)
    return before > 32_000 and _unread(descriptor) == before


def _unread(descriptor: int) -> int:
    """Bytes in a pipe."""
    found = array.array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, found)
    return found[0]


def test_a_list_from_a_slow_writer_is_read_to_its_end(rows_of_one_file: Path, tiny_model: Path) -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    names = [os.fsencode(rows_of_one_file / f"{k}.wav") for k in range(4)]

    def write() -> None:
        with open(writing, "wb", buffering=0) as file:  # noqa: PTH123 - a descriptor
            for name in names:
                time.sleep(0.4)
                file.write(name + b"\n")

    writer = threading.Thread(target=write)
    command = [BIN / "sonicscan", "--files-from", "-", "--model", tiny_model, "-q"]
    with subprocess.Popen(command, stdin=reading, stdout=subprocess.PIPE) as process:
        writer.start()
        out, _ = process.communicate()
        writer.join()
    os.close(reading)
    assert len(out.splitlines()) == len(names)


def test_the_demo_has_the_exit_codes_of_the_programs(tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.touch()
    for word, code, said in ((occupied, 2, "cannot be written to"), (None, 2, "Missing argument"), ("--help", 0, "")):
        words = [sys.executable, "-m", "sonicscan.cli.demo", *([] if word is None else [word])]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == code and said in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "--help").exists()
