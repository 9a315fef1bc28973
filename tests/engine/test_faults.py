"""What a scan survives: workers and scanners that die, disks that fill, files and names from strangers."""

from __future__ import annotations

import contextlib
import csv
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from faults import (
    PROGRAM,
    alive,
    but_for_time,
    children,
    finish,
    journal_rows,
    kill_and_repeat,
    make_library,
    rows_of,
    run,
    small_disk,
    start,
    torment_workers,
    wait_for,
)
from synthesis import music

from sonicscan.cli.demo import write_sound
from sonicscan.errors import STATUSES, ReportError
from sonicscan.report.row import FileResult
from sonicscan.report.schema import to_batch
from sonicscan.report.writers import write_report

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_library(tmp_path_factory.mktemp("faults") / "library", 120)


@pytest.fixture(scope="module")
def undisturbed(library: Path, calibrated_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    out = tmp_path_factory.mktemp("undisturbed") / "r.parquet"
    code, said = run(library, "--model", calibrated_model, "--out", out, "--workers", "2")
    assert code == 0, said
    return but_for_time(rows_of(out))  # type: ignore[return-value]


# --- Workers --------------------------------------------------------------------------------------


def test_workers_that_are_killed_and_stopped_cost_no_other_file_its_row(
    library: Path, calibrated_model: Path, undisturbed: dict[str, object], tmp_path: Path
) -> None:
    out, temporary = tmp_path / "r.parquet", tmp_path / "tmp"
    temporary.mkdir()
    shared = set(Path("/dev/shm").iterdir())
    # A third of the tracks: each kill costs the start of a worker.
    arguments = [library, "--include", "00[0-3]?.*", "--model", calibrated_model, "--out", out, "--workers", 2]
    process = start(*arguments, "--timeout", 2, temporary=temporary)
    wait_for(lambda: len(children(process.pid)) == 2)
    workers = children(process.pid)
    killed, stopped = torment_workers(process, tmp_path / "r.parquet.journal", random.Random(1), stops=2)
    code, said = finish(process)
    assert code in (0, 3), said
    assert killed > 1
    rows = rows_of(out)
    failed = {path for path, row in rows.items() if row["status"] != "ok"}
    assert rows.keys() == {path for path in undisturbed if Path(path).name < "0040"}
    assert {rows[path]["status"] for path in failed} <= {"crashed", "timeout"}
    assert len(failed) <= (killed + stopped) // 2  # each has two attempts
    assert code == (3 if failed else 0), said
    for path in rows.keys() - failed:
        assert but_for_time(rows)[path] == undisturbed[path]
    assert not alive(workers)
    assert not list(temporary.iterdir())
    assert set(Path("/dev/shm").iterdir()) == shared


def test_a_worker_that_is_stopped_twice_costs_one_file(calibrated_model: Path, tmp_path: Path) -> None:
    library, out = make_library(tmp_path / "library", 3), tmp_path / "r.parquet"
    slow = library / "slow.wav"
    write_sound(slow, np.tile(music(60.0, 16000), (20, 1)), 16000)  # seconds of work: it is seen each time
    process = start(
        library, "--model", calibrated_model, "--out", out, "--workers", 1, "--timeout", 0.5, "--windows", "all"
    )
    stopped = []
    while process.poll() is None:
        for pid in children(process.pid):
            if pid not in stopped and "slow.wav" in _open_files(pid):
                os.kill(pid, signal.SIGSTOP)
                stopped.append(pid)
        time.sleep(0.001)
    code, _ = finish(process)
    statuses = {Path(path).name: row["status"] for path, row in rows_of(out).items()}
    assert len(stopped) == 2 and code == 3
    assert statuses.pop("slow.wav") == "timeout"
    assert set(statuses.values()) == {"ok"}
    assert not alive(stopped)


def _open_files(pid: int) -> str:
    names = []
    for link in Path(f"/proc/{pid}/fd").glob("*"):
        with contextlib.suppress(OSError):
            names.append(os.readlink(link))  # noqa: PTH115
    return " ".join(names)


def test_workers_die_with_a_scanner_that_is_killed(calibrated_model: Path, tmp_path: Path) -> None:
    """Even one that is busy with hours of silence, and would not look at its pipe before the end."""
    library = tmp_path / "library"
    library.mkdir()
    size = 1_800_000_000
    for k in range(2):
        path = write_sound(library / f"{k}.wav", np.zeros((48000, 2), dtype=np.float32), 48000)
        head = path.read_bytes()[:44]
        path.write_bytes(head[:4] + struct.pack("<I", size + 36) + head[8:40] + struct.pack("<I", size))
        os.truncate(path, 44 + size)
    process = start(library, "--model", calibrated_model, "--workers", 2, "--windows", "all")
    wait_for(lambda: sum("library" in _open_files(pid) for pid in children(process.pid)) == 2)
    workers = children(process.pid)
    time.sleep(0.2)
    assert alive(workers) == workers
    process.kill()
    finish(process)
    wait_for(lambda: not alive(workers), 2)


def test_workers_that_cannot_start_end_the_scan_with_a_sentence(
    library: Path, calibrated_model: Path, tmp_path: Path
) -> None:
    """As where the machine has no room for another process."""
    program = f"""
import sys
sys.executable = "/bin/false"
from sonicscan.cli.scan import main
main([{str(library)!r}, "--model", {str(calibrated_model)!r}, "--out", {str(tmp_path / "r.parquet")!r}])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "worker processes die as they start" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "r.parquet").exists()


# --- The scanner ----------------------------------------------------------------------------------


def test_killed_at_any_moment_the_same_command_goes_on(
    library: Path, calibrated_model: Path, undisturbed: dict[str, object], tmp_path: Path
) -> None:
    out = tmp_path / "r.parquet"
    arguments: list[object] = [library, "--model", calibrated_model, "--out", out, "--workers", 2]
    killed, kept = kill_and_repeat(arguments, out, [(0, 0.3), (9000, 0.0), (1, 0.0), (15_000, 0.01), (9000, 0.1)])
    assert killed > 3
    assert kept > 10
    assert but_for_time(rows_of(out)) == undisturbed
    assert [path.name for path in tmp_path.iterdir()] == ["r.parquet"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_keep_what_is_done(
    number: signal.Signals,
    code: int,
    library: Path,
    calibrated_model: Path,
    undisturbed: dict[str, object],
    tmp_path: Path,
) -> None:
    if signal.getsignal(number) == signal.SIG_IGN:
        pytest.skip("these tests run under nohup")
    out, journal = tmp_path / "r.parquet", tmp_path / "r.parquet.journal"
    arguments = [library, "--model", calibrated_model, "--out", out, "--workers", 2]
    process = start(*arguments)
    wait_for(lambda: len(journal_rows(journal)) > 5)
    process.send_signal(number)
    if number == signal.SIGHUP:  # a shell and the system both send one
        time.sleep(0.02)
        process.send_signal(number)
    exit_code, said = finish(process, 20)
    assert exit_code == code
    assert "the same command resumes the scan" in said
    assert "Traceback" not in said
    kept = journal_rows(journal)
    assert len(kept) > 5
    assert run(*arguments)[0] == 0
    rows = rows_of(out)
    assert but_for_time(rows) == undisturbed
    assert kept.items() <= rows.items()


def test_nohup_scans_on(library: Path, calibrated_model: Path, tmp_path: Path) -> None:
    out, journal = tmp_path / "r.parquet", tmp_path / "r.parquet.journal"
    command = ["nohup", PROGRAM, library, "--model", calibrated_model, "--out", out, "--workers", "2"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: len(journal_rows(journal)) > 3)
        process.send_signal(signal.SIGHUP)
        assert process.wait(60) == 0
    assert len(rows_of(out)) == len(list(library.iterdir()))


def test_a_second_interrupt_ends_at_once(library: Path, calibrated_model: Path, tmp_path: Path) -> None:
    process = start(library, "--model", calibrated_model, "--out", tmp_path / "r.parquet", "--workers", 2)
    wait_for(lambda: len(journal_rows(tmp_path / "r.parquet.journal")) > 3)
    workers = children(process.pid)
    os.kill(process.pid, signal.SIGINT)
    began = time.monotonic()
    time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGINT)
    code, said = finish(process, 10)
    assert code in (-signal.SIGINT, 130)
    assert time.monotonic() - began < 3
    assert "Traceback" not in said
    wait_for(lambda: not alive(workers), 10)


# --- Disks and targets ----------------------------------------------------------------------------


def one_sentence(code: int, said: str) -> str:
    """The last line of a scan that failed: nothing but a sentence."""
    assert code == 2, said
    assert "Traceback" not in said
    last = said.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    return last


def test_a_disk_that_is_full_for_the_journal(library: Path, calibrated_model: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64) as disk:
        out = disk / "r.parquet"
        out.write_bytes(b"the report before")
        # 28 KiB are left: less than 120 rows take even where a quick machine writes them at once.
        (disk / "filler").write_bytes(bytes(32 << 10))
        said = one_sentence(*run(library, "--model", calibrated_model, "--out", out))
        assert "journal" in said
        assert "No space left" in said
        assert out.read_bytes() == b"the report before"
        kept = len(journal_rows(disk / "r.parquet.journal"))
        assert kept > 5
        # What was done before the disk was full is not lost once there is room.
        subprocess.run(["mount", "-o", "remount,size=4m", disk], check=True)
        code, said = run(library, "--model", calibrated_model, "--out", out)
        assert code == 0, said
        assert f"{kept} rows of an interrupted scan" in said
        assert len(rows_of(out)) == 120


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_a_disk_that_is_full_for_the_report(suffix: str, tmp_path: Path) -> None:
    rows = [
        FileResult(path=f"{k}{os.urandom(200).hex()}", status="ok", size=k, mtime_ns=k, warnings=[])
        for k in range(2000)
    ]
    with small_disk(tmp_path / "disk", 64) as disk:
        out = disk / f"r{suffix}"
        out.write_bytes(b"the report before")
        with pytest.raises(ReportError, match="No space left"):
            write_report(pa.Table.from_batches([to_batch(rows)]), out)
        assert out.read_bytes() == b"the report before"
        assert list(disk.iterdir()) == [out]


def test_a_disk_that_is_full_for_the_report_of_a_scan(library: Path, calibrated_model: Path, tmp_path: Path) -> None:
    """The journal, on another disk, keeps what was done until there is room for the report."""
    with small_disk(tmp_path / "disk", 64) as disk:
        out, journal = disk / "r.parquet", tmp_path / "j"
        out.write_bytes(b"the report before")
        (disk / "filler").write_bytes(bytes(56 << 10))
        arguments = [library, "--model", calibrated_model, "--out", out, "--journal", journal]
        said = one_sentence(*run(*arguments))
        assert "r.parquet" in said
        assert "No space left" in said
        assert out.read_bytes() == b"the report before"
        assert sorted(path.name for path in disk.iterdir()) == ["filler", "r.parquet"]
        (disk / "filler").unlink()
        code, said = run(*arguments)
        assert code == 0, said
        assert "120 rows of an interrupted scan" in said
        assert len(rows_of(out)) == 120


def test_a_target_that_is_read_only(library: Path, calibrated_model: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 512) as disk:
        (disk / "r.parquet").write_bytes(b"the report before")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        said = one_sentence(*run(library, "--model", calibrated_model, "--out", disk / "r.parquet"))
        assert "Read-only" in said
        assert (disk / "r.parquet").read_bytes() == b"the report before"


def test_a_target_folder_that_is_removed_in_mid_scan(library: Path, calibrated_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "reports"
    folder.mkdir()
    process = start(library, "--model", calibrated_model, "--out", folder / "r.parquet", "--workers", 1)
    wait_for(lambda: len(journal_rows(folder / "r.parquet.journal")) > 3)
    shutil.rmtree(folder)
    assert "reports" in one_sentence(*finish(process))
    assert not folder.exists()


def test_two_scans_on_one_target(library: Path, calibrated_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.parquet"
    journal = tmp_path / "r.parquet.journal"
    process = start(library, "--model", calibrated_model, "--out", out, "--workers", 1)
    wait_for(lambda: journal.exists() and journal.stat().st_size > 0)
    process.send_signal(signal.SIGSTOP)  # else it may end before the others begin
    try:
        for extra in ([], ["--fresh"]):
            assert "another scan is writing" in one_sentence(
                *run(library, "--model", calibrated_model, "--out", out, *extra)
            )
    finally:
        process.send_signal(signal.SIGCONT)
    assert finish(process)[0] == 0
    assert len(rows_of(out)) == 120


# --- Files and names from strangers ---------------------------------------------------------------


def test_files_that_vanish_grow_and_are_replaced_while_they_are_read(calibrated_model: Path, tmp_path: Path) -> None:
    library, out = make_library(tmp_path / "library", 60), tmp_path / "r.parquet"
    files = sorted(library.iterdir())
    other = write_sound(tmp_path / "other.flac", music(9.0, 22050, 1), 22050).read_bytes()
    process = start(library, "--model", calibrated_model, "--out", out, "--workers", 2)
    chance = random.Random(2)
    while process.poll() is None:
        path = chance.choice(files)
        with contextlib.suppress(OSError):
            match chance.randrange(4):
                case 0:
                    path.unlink()
                case 1:
                    with path.open("ab") as file:
                        file.write(other)
                case 2:
                    os.truncate(path, chance.randrange(20_000))
                case 3:
                    (tmp_path / "new").write_bytes(other)
                    (tmp_path / "new").replace(path)
        time.sleep(0.003)
    code, said = finish(process)
    assert code in (0, 3), said
    rows = rows_of(out)
    assert "Traceback" not in said
    assert 1 <= len(rows) <= 60
    assert {row["status"] for row in rows.values()} <= set(STATUSES) - {"crashed", "timeout"}


FORMULAS = ["=cmd|' C calc'!A0.wav", "+1.wav", "-1.wav", "@SUM(A1).wav", "\t=1.wav", "\r=1.wav"]
ESCAPES = ["\x1b]0;owned\x07.wav", "\x1b[2J\x1b[H.wav", "‮vaw.3pm.wav", "a\nsonicscan: 1.0\tflagged.wav", "\x9b31m.wav"]


def test_names_can_neither_take_over_a_terminal_nor_become_formulas(calibrated_model: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    for name in [*FORMULAS, *ESCAPES]:
        (library / name).write_bytes(b"no sound, so that each is named on standard error")
    out = tmp_path / "r.csv"
    process = subprocess.Popen(
        [PROGRAM, ".", "--model", calibrated_model, "--out", out, "-v"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=library,
    )
    said = finish(process)[1]
    shown = subprocess.run(
        [PROGRAM, ".", "--model", calibrated_model], capture_output=True, cwd=library, check=False
    ).stdout.decode()
    for text in (said, shown):
        assert not {c for c in text if not c.isprintable()} - {"\n", "\t"}
    assert len(shown.splitlines()) == len(FORMULAS) + len(ESCAPES)
    assert all(line.count("\t") == 3 for line in shown.splitlines())
    with out.open(encoding="utf-8-sig", newline="") as file:
        cells = [cell for record in csv.reader(file) for cell in record]
    assert len(cells) > 100
    assert not [cell for cell in cells if cell[:1] in ("=", "+", "-", "@", "\t", "\r") and not _is_number(cell)]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def test_nothing_is_reported_to_anybody_and_no_file_is_left(tmp_path: Path) -> None:
    """ONNX Runtime would leave an identifier in the home folder and a session file in the temporary one."""
    environment = {k: v for k, v in os.environ.items() if "TELEMETRY" not in k}
    environment |= {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", "import sonicscan.model.detector"], env=environment, check=True, timeout=60)
    assert not list(tmp_path.iterdir())


def test_memory_bombs_are_rows(calibrated_model: Path, tmp_path: Path) -> None:
    library, out = tmp_path / "library", tmp_path / "r.parquet"
    library.mkdir()
    write_sound(library / "good.wav", music(6.0))
    with soundfile.SoundFile(library / "silence.flac", "w", 8000, 8) as file:  # an hour in 200 KB
        for _ in range(60):
            file.write(np.zeros((8000 * 60, 8), dtype=np.int16))
    tag = b"ID3\x04\0\0" + bytes([0x32, 0, 0, 0])  # 100 MB of tags
    with (library / "tags.mp3").open("wb") as file:
        file.write(tag)
        file.truncate(10 + (0x32 << 21))
        file.seek(0, os.SEEK_END)
        file.write(write_sound(tmp_path / "x.mp3", music(6.0)).read_bytes())
    picture = b"APIC\x32\0\0\0\0\0" + b"\0image/png\0\x03\0"
    with (library / "picture.mp3").open("wb") as file:
        file.write(tag + picture)
        file.truncate(10 + (0x32 << 21))
        file.seek(0, os.SEEK_END)
        file.write((tmp_path / "x.mp3").read_bytes())
    peak = [0]
    process = start(library, "--model", calibrated_model, "--out", out, "--workers", 2, "--windows", "all")

    def watch() -> None:
        while process.poll() is None:
            for pid in children(process.pid):
                with contextlib.suppress(OSError, IndexError):
                    status = Path(f"/proc/{pid}/status").read_text()
                    peak[0] = max(peak[0], int(status.split("VmHWM:")[1].split()[0]))
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    code, said = finish(process)
    watcher.join()
    assert code == 0, said
    assert {Path(p).name: r["status"] for p, r in rows_of(out).items()} == {
        "good.wav": "ok",
        "silence.flac": "silent",
        "tags.mp3": "ok",
        "picture.mp3": "ok",
    }
    assert 0 < peak[0] < 1 << 20  # kB


def test_a_model_cannot_read_files_beside_or_above_it(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto
    from synthesis import write_model

    folder = tmp_path / "models"
    folder.mkdir()
    model = onnx.load(write_model(folder / "m.onnx"))
    tensor = model.graph.initializer[0]
    length = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for weights in (tmp_path / "secret.bin", folder / "beside.bin"):
        weights.write_bytes(bytes(length))
    for location in ("../secret.bin", str(tmp_path / "secret.bin"), "/dev/zero", "beside.bin", "../../etc/passwd"):
        del tensor.external_data[:]
        for key, value in (("location", location), ("offset", "0"), ("length", str(length))):
            tensor.external_data.add(key=key, value=value)
        (folder / "hostile.onnx").write_bytes(model.SerializeToString())
        sound = write_sound(tmp_path / "x.wav", music(6.0))
        said = one_sentence(*run(sound, "--model", folder / "hostile.onnx", "--out", tmp_path / "r.parquet"))
        assert "hostile.onnx keeps weights in another file" in said
        assert not (tmp_path / "r.parquet").exists()


def test_a_model_of_absurd_size_is_refused_before_it_is_read(tmp_path: Path) -> None:
    big = tmp_path / "big.onnx"
    with big.open("wb") as file:
        file.truncate(3 << 30)
    sound = write_sound(tmp_path / "x.wav", music(6.0))
    began = time.monotonic()
    assert "no ONNX file has more" in one_sentence(*run(sound, "--model", big, "--out", tmp_path / "r.parquet"))
    assert time.monotonic() - began < 20


def test_a_model_that_wants_terabytes_is_refused(tmp_path: Path) -> None:
    import onnx
    from onnx import helper
    from synthesis import write_model

    model = onnx.load(write_model(tmp_path / "m.onnx"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([2**20, 2**20]), "wide"))
    maps = next(node for node in model.graph.node if "class_maps" in node.output)
    maps.output[0] = "small"
    made = [
        helper.make_node("ConstantOfShape", ["wide"], ["huge"]),
        helper.make_node("ReduceMax", ["huge"], ["one"], keepdims=0),
    ]
    for node in reversed(made):
        model.graph.node.insert(0, node)
    model.graph.node.insert(len(model.graph.node) - 1, helper.make_node("Add", ["small", "one"], ["class_maps"]))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    sound = write_sound(tmp_path / "x.wav", music(6.0))
    said = one_sentence(*run(sound, "--model", tmp_path / "m.onnx", "--out", tmp_path / "r.parquet"))
    assert "memory" in said
    assert not (tmp_path / "r.parquet").exists()


def test_no_pickle_is_ever_loaded() -> None:
    """torch.load reads pickles unless `weights_only` is set; numpy, joblib and pickle itself are not used for it."""
    import ast

    unsafe, loads = [], 0
    for part in ("scanner", "train", "export"):
        for file in (Path(__file__).parents[2] / part).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    names = {alias.name for alias in node.names} | {getattr(node, "module", "") or ""}
                    unsafe += [
                        (file, name) for name in names & {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal"}
                    ]
                if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "np.load", "numpy.load"):
                    given = {(k.arg, ast.unparse(k.value)) for k in node.keywords}
                    weights_only = "np" in ast.unparse(node.func) or ("weights_only", "True") in given
                    if not weights_only or ("allow_pickle", "True") in given:
                        unsafe.append((file, ast.unparse(node)))
                    loads += 1
    assert not unsafe
    assert loads > 1


# --- Repeatable scores ----------------------------------------------------------------------------


def test_scores_do_not_depend_on_workers_batches_order_or_company(
    library: Path, calibrated_model: Path, undisturbed: dict[str, dict[str, object]], tmp_path: Path
) -> None:
    files = sorted(library.iterdir())[:24]
    reversed_list = tmp_path / "list"
    reversed_list.write_text("\n".join(map(str, reversed(files))))
    ways = [
        ["--files-from", reversed_list, "--workers", 1, "--batch-size", 1],
        ["--files-from", reversed_list, "--workers", 3, "--batch-size", 7],
        [*files[:5], "--threads", 1, "--batch-size", 32],
    ]
    for k, way in enumerate(ways):
        out = tmp_path / f"{k}.parquet"
        assert run(*way, "--model", calibrated_model, "--out", out)[0] == 0
        for path, row in but_for_time(rows_of(out)).items():
            expected = undisturbed[path]
            np.testing.assert_allclose(row["window_margins"], expected["window_margins"], atol=1e-4)  # type: ignore[arg-type]
            assert row["score"] == pytest.approx(expected["score"], abs=1e-5)
            floats = ("score", "window_margins", "class_scores", "p_value")
            assert {**row, **dict.fromkeys(floats)} == {**expected, **dict.fromkeys(floats)}
