"""The nightly audit: one command line, played over many nights. Each flag is printed once and none is lost."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from faults import PROGRAM
from synthesis import music, write_model

from sonicscan.cli.demo import write_sound
from sonicscan.cli.report import main as report_main
from sonicscan.cli.scan import main
from sonicscan.report.readers import read_report
from sonicscan.scanning.journal import Journal

RATE = 22050
LIMIT = "0.435"  # of the tiny model: music scores 0.45 to 0.46, noise 0.42


def flagged(path: Path, seed: int = 0) -> Path:
    """A file that the tiny model flags."""
    path.parent.mkdir(exist_ok=True)
    return write_sound(path, music(5.0, RATE, 1, seed), RATE)


def clear(path: Path, seed: int = 0, seconds: float = 5.0) -> Path:
    """A file that it does not flag."""
    noise = np.random.default_rng(seed).standard_normal((round(seconds * RATE), 1))
    return write_sound(path, (0.1 * noise).astype(np.float32), RATE)


@dataclass
class Nights:
    """An audit in a folder of its own, night after night; each report gets an earlier date than the next one."""

    folder: Path
    model: Path
    played: int = 0
    printed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.folder / "audits").mkdir()
        self.library.mkdir()

    @property
    def library(self) -> Path:
        return self.folder / "library"

    @property
    def today(self) -> Path:
        return self.folder / "audits" / f"{dt.date.today()}.parquet"

    def command(self, *extra: object, library: object = None, out: str = "{date}.parquet") -> list[str]:
        audit = ("--out", f"{self.folder}/audits/{out}", "--since", "latest", "--fail-on", "new-flagged")
        quick = ("--model", self.model, "--threshold", LIMIT, "--windows", "all", "--workers", 1, "--threads", 1)
        return [str(word) for word in (library or self.library, *audit, *quick, *extra)]

    def play(self, *extra: object, library: object = None) -> tuple[int, list[str], str]:
        """Exit code, names of the tracks printed, and stderr of one night that comes to its end."""
        done = CliRunner().invoke(main, self.command(*extra, library=library))
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
        lines = done.stdout.splitlines()
        for line in lines:
            score, verdict, status, _ = line.split("\t")
            assert verdict == "flagged" and status == "ok" and float(score) >= float(LIMIT)
        names = [Path(line.split("\t")[3]).name for line in lines]
        self.printed += names
        self.over()
        return done.exit_code, names, done.stderr

    def over(self) -> None:
        """The next night: today's report becomes one of the past."""
        self.played += 1
        if self.today.exists():
            self.today.rename(self.today.with_name(f"2026-01-{self.played:02}.parquet"))


@pytest.fixture
def nights(tmp_path: Path) -> Nights:
    return Nights(tmp_path, write_model(tmp_path / "tiny.onnx"))


def test_fourteen_nights(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    library = nights.library
    for k in range(3):
        flagged(library / f"m{k}.wav", k)
        clear(library / f"n{k}.wav", k)
    (library / "broken.mp3").write_text("not a sound\n")

    # 1: all flags are new; a broken file does not hide them, and the mail says which file is broken.
    code, names, mail = nights.play()
    assert code == 3 and sorted(names) == ["m0.wav", "m1.wav", "m2.wav"]
    assert "broken.mp3" in mail and "using the bundled" not in mail
    # 2: the broken file is still there; no flag is printed again.
    assert nights.play()[:2] == (3, [])
    # 3: no news: nothing is printed, so cron sends no mail.
    (library / "broken.mp3").unlink()
    assert nights.play() == (0, [], "")
    # 4: one new track.
    flagged(library / "m3.wav", 3)
    assert nights.play()[:2] == (1, ["m3.wav"])
    # 5: killed in the middle, with a new flag in the journal.
    flagged(library / "m4.wav", 4)
    clear(library / "n4.wav", 4, seconds=300.0)
    journal = nights.folder / "audits" / "audit.parquet.journal"
    with subprocess.Popen([PROGRAM, *nights.command()], stdout=subprocess.PIPE) as process:
        while not journal.exists() or journal.stat().st_size < 7500:  # 6.9 kB before the first row
            assert process.poll() is None
            time.sleep(0.005)
        process.kill()
        assert process.communicate()[0] == b""
    nights.over()
    # 6: resumed on the next day.
    code, names, mail = nights.play()
    assert (code, names) == (1, ["m4.wav"]) and "rows of an interrupted scan" in mail
    assert not journal.exists()
    # 7: a flagged track moves.
    (library / "sub").mkdir()
    (library / "m0.wav").rename(library / "sub" / "renamed.wav")
    assert nights.play() == (0, [], "")
    # 8, 9: a flagged track is away for a night.
    (library / "m1.wav").rename(nights.folder / "m1.wav")
    assert nights.play() == (0, [], "")
    (nights.folder / "m1.wav").rename(library / "m1.wav")
    assert nights.play() == (0, [], "")
    # 10: a new flag in the night in which a file breaks.
    (library / "broken.mp3").write_text("not a sound\n")
    flagged(library / "m5.wav", 5)
    code, names, mail = nights.play()
    assert (code, names) == (3, ["m5.wav"]) and "broken.mp3" in mail
    (library / "broken.mp3").unlink()
    # 11: the library under another name.
    monkeypatch.chdir(nights.folder)
    assert nights.play(library="library") == (0, [], "")
    newest = read_report(nights.folder / "audits" / f"2026-01-{nights.played:02}.parquet")
    assert newest.column("path").to_pylist()[0] == "library/m1.wav"
    # 12: the line could not be printed: the flag counts as not delivered.
    flagged(library / "m6.wav", 6)
    with Path("/dev/full").open("wb") as full:
        lost = subprocess.run([PROGRAM, *nights.command()], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert lost.returncode == 2 and "prints them again" in lost.stderr and "Traceback" not in lost.stderr
    nights.over()
    # 13: it is printed now.
    assert nights.play()[:2] == (1, ["m6.wav"])
    # 14: a new flag has a decision, and another file's content has changed.
    flagged(library / "m7.wav", 7)
    flagged(library / "n0.wav", 8)
    today = dt.date.today() + dt.timedelta(days=1)
    reviewed = nights.folder / "reviewed.csv"
    reviewed.write_text(f"path,decision,by,date\n{library / 'm7.wav'},human,Kim,{today}\n")
    assert nights.play("--reviewed", reviewed)[:2] == (1, ["n0.wav"])

    assert nights.played == 14
    assert sorted(nights.printed) == sorted([*(f"m{k}.wav" for k in range(7)), "n0.wav"])
    assert not list((nights.folder / "audits").glob("*.journal"))


def test_what_a_night_left_with_another_model_is_scanned_anew(nights: Nights) -> None:
    flagged(nights.library / "m.wav")
    journal = nights.folder / "audits" / "audit.parquet.journal"
    Journal(journal, "the key of another model").close()
    code, names, mail = nights.play()
    assert (code, names) == (1, ["m.wav"]) and "it is not resumed" in mail
    assert not journal.exists()


@pytest.mark.parametrize("out", ["{date}.parquet", "{date}/"])
def test_with_a_journal_of_its_own_an_audit_looks_at_no_other(nights: Nights, out: str) -> None:
    flagged(nights.library / "m.wav")
    own, audits = nights.folder / "own.journal", nights.folder / "audits"
    report = audits / out.replace("{date}", str(dt.date.today()))
    command = nights.command("--journal", own, out=out)
    Journal(own, "the key of another model").close()
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 1 and "it is not resumed" in done.stderr and not own.exists()

    report.rename(audits / out.replace("{date}", "2026-01-01"))
    flagged(nights.library / "n.wav", 1)
    if out.endswith("/"):
        report.mkdir()
    Journal(report / "_journal" if out.endswith("/") else audits / "audit.parquet.journal", "another key").close()
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 1 and "it is not resumed" not in done.stderr


def test_a_second_audit_of_the_series_is_refused(nights: Nights) -> None:
    clear(nights.library / "n.wav")
    import fcntl

    with (nights.folder / "audits" / "audit.lock").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        code, names, mail = nights.play()
        assert (code, names) == (2, []) and "another audit holds" in mail
    assert nights.play() == (0, [], "")


def test_reports_that_cannot_be_built_on_are_passed_over_and_named(nights: Nights) -> None:
    flagged(nights.library / "m.wav")
    assert nights.play()[0] == 1
    audits = nights.folder / "audits"
    (audits / "2026-02-01.parquet").write_bytes(b"PAR1")
    (audits / "2026-02-30.txt").touch()
    done = CliRunner().invoke(main, nights.command("-v"))
    assert done.exit_code == 0 and "2026-02-01.parquet is not built on" in done.stderr
    assert "carried  1 rows" in done.stderr
    if os.geteuid() == 0:
        (audits / "2026-02-01.parquet").unlink()
        for name in ("2026-01-01.parquet", f"{dt.date.today()}.parquet"):
            os.chown(audits / name, 65534, 65534)
        done = CliRunner().invoke(main, nights.command("-v"))
        assert "another user owns it" in done.stderr and "carried" not in done.stderr
        os.chown(audits / "audit.delivered.json", 65534, 65534)
        done = CliRunner().invoke(main, nights.command())
        assert done.exit_code == 2 and "could hide flags" in done.stderr


def test_a_damaged_record_is_an_error_and_without_it_all_flags_are_new(nights: Nights) -> None:
    flagged(nights.library / "m.wav")
    assert nights.play()[:2] == (1, ["m.wav"])
    record = nights.folder / "audits" / "audit.delivered.json"
    record.write_text("{}")
    code, names, mail = nights.play()
    assert (code, names) == (2, []) and str(record) in mail and "move it away" in mail
    record.unlink()
    assert nights.play()[:2] == (1, ["m.wav"])


def test_a_series_of_folders_of_parts(nights: Nights) -> None:
    """Twelve tracks in parts of two: killed, resumed under the next day's name."""
    for k in range(6):
        flagged(nights.library / f"m{k}.wav", k)
    clear(nights.library / "z.wav", 4, seconds=300.0)
    audits = nights.folder / "audits"
    command = nights.command("--part-size", 2, out="{date}/")
    today = audits / str(dt.date.today())
    with subprocess.Popen([PROGRAM, *command], stdout=subprocess.PIPE) as process:
        while not list(today.glob("part-*.parquet")):
            assert process.poll() is None
            time.sleep(0.005)
        process.kill()
        assert process.communicate()[0] == b""
    today.rename(audits / "2026-01-01")
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 1 and len(done.stdout.splitlines()) == 6
    assert "2026-01-01 was not finished" in done.stderr and not (audits / "2026-01-01").exists()
    assert read_report(today).num_rows == 7
    today.rename(audits / "2026-01-02")
    shutil.copytree(audits / "2026-01-02", audits / "2026-01-03")
    (audits / "2026-01-03" / "_SUCCESS").unlink()
    done = CliRunner().invoke(main, nights.command("--part-size", 2, "--windows", 1, out="{date}/"))
    assert (done.exit_code, done.stdout) == (0, "")


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_failed_tracks_are_named_whatever_the_format(nights: Nights, suffix: str) -> None:
    """Those of this scan and those whose rows are carried over: the first ten by path."""
    for k in range(6):
        (nights.library / f"a{k}.mp3").write_text("not a sound\n")
    old = nights.folder / "old.parquet"
    command = [str(nights.library), "--model", str(nights.model), "--threshold", LIMIT, "--workers", "1"]
    assert CliRunner().invoke(main, [*command, "--out", str(old)]).exit_code == 3
    for k in range(6):
        (nights.library / f"b{k}.mp3").write_text("not a sound\n")
    out = f"{nights.folder}/{{date}}.{suffix}"
    done = CliRunner().invoke(main, [*command, "--out", out, "--since", str(old)])
    assert done.exit_code == 3 and "12 of 12 tracks failed" in done.stderr, done.stderr
    named = [line for line in done.stderr.splitlines() if "unsupported: " in line]
    assert [Path(line.split(": ")[2]).stem for line in named] == [f"{x}{k}" for x in "ab" for k in range(6)][:10]


def test_folders_of_music_with_a_date_as_their_name_stay(nights: Nights) -> None:
    audits = nights.folder / "audits"
    for name, files in (("2026-01-01", ["song.wav"]), ("2026-01-02", []), ("2026-01-03", ["part-1.parquet"])):
        (audits / name).mkdir()
        for file in files:
            (audits / name / file).write_bytes(b"PAR1")
    mixed = audits / "2026-01-04"
    flagged(nights.library / "m.wav")
    unfinished = nights.command(out="2026-01-04/")
    assert CliRunner().invoke(main, unfinished).exit_code == 1
    (mixed / "_SUCCESS").unlink()
    (mixed / "notes.txt").touch()
    before = sorted(audits.rglob("*"))
    done = CliRunner().invoke(main, nights.command("-v", out="{date}/"))
    assert done.exit_code == 1 and "was not finished" not in done.stderr
    assert set(before) <= set(audits.rglob("*"))
    assert (audits / str(dt.date.today()) / "_SUCCESS").exists()


@pytest.mark.parametrize("out", ["{date}/", "always/"])
def test_a_finished_report_in_parts_is_replaced_only_with_fresh(nights: Nights, out: str) -> None:
    flagged(nights.library / "m.wav")
    folder = nights.folder / "audits" / out.replace("{date}", str(dt.date.today()))
    assert CliRunner().invoke(main, nights.command(out=out)).exit_code == 1
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for extra in ((), ("--windows", 6)):  # the same scan, and one with another key
        done = CliRunner().invoke(main, nights.command(*extra, out=out))
        assert done.exit_code == 2 and "holds a finished report" in done.stderr
        assert {path: path.read_bytes() for path in folder.iterdir()} == before
    done = CliRunner().invoke(main, nights.command("--windows", 6, "--fresh", "-v", out=out))
    assert done.exit_code == 0 and "unfinished" not in done.stderr, done.stderr
    assert {path: path.read_bytes() for path in folder.iterdir()} != before


def test_new_flags_since_a_report_that_is_named(nights: Nights, make_report: Callable[..., Path]) -> None:
    flagged(nights.library / "m0.wav")
    old, new = make_report("old.parquet"), nights.folder / "new.parquet"
    flagged(nights.library / "m1.wav", 1)
    command = [str(nights.library), "--model", str(nights.model), "--threshold", LIMIT, "--workers", "1"]
    for _ in range(2):  # without a record: new flags are those that the named report lacks
        done = CliRunner().invoke(main, [*command, "--out", str(new), "--since", str(old), "--fail-on", "new-flagged"])
        assert done.exit_code == 1 and [Path(line).name for line in done.stdout.splitlines()] == ["m1.wav"]
    assert {path.name for path in nights.folder.iterdir()} == {
        "audits",
        "library",
        "tiny.onnx",
        "old.parquet",
        "new.parquet",
    }


def test_new_flags_since_a_part_of_a_report_are_refused(nights: Nights, make_report: Callable[..., Path]) -> None:
    flagged(nights.library / "m0.wav")
    old, part = make_report("old.parquet"), nights.folder / "part.parquet"
    convert = ["convert", str(old), "--path", "*/m1.wav", "--out", str(part)]
    assert CliRunner().invoke(report_main, convert).exit_code == 0
    command = [str(nights.library), "--model", str(nights.model), "--threshold", LIMIT, "--workers", "1"]
    command += ["--out", str(nights.folder / "new.parquet"), "--since", str(part)]
    done = CliRunner().invoke(main, [*command, "--fail-on", "new-flagged"])
    assert (done.exit_code, done.stdout) == (2, "") and "flags that it lacks would count as new" in done.stderr
    assert CliRunner().invoke(main, command).exit_code == 0


@pytest.mark.parametrize(
    ("out", "since", "extra"),
    [
        ("r.parquet", "r.parquet", ()),
        ("{date}.parquet", f"{dt.date.today()}.parquet", ()),
        ("r/", "r", ("--fresh",)),
    ],
)
def test_new_flags_since_a_report_that_is_replaced(
    nights: Nights, out: str, since: str, extra: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(nights.folder)
    flagged(nights.library / "m.wav")
    command = ["library", "--model", str(nights.model), "--workers", "1", "--out", out]
    assert CliRunner().invoke(main, [*command, "--threshold", "0.99"]).exit_code == 0
    again = [*command, "--threshold", LIMIT, "--since", since, "--fail-on", "new-flagged", *extra]
    done = CliRunner().invoke(main, again)
    assert (done.exit_code, len(done.stdout.splitlines())) == (1, 1), done.stderr
    done = CliRunner().invoke(main, again)
    assert (done.exit_code, done.stdout) == (0, ""), done.stderr


def test_latest_is_a_word_and_not_the_path_of_that_name(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(nights.folder)
    flagged(nights.library / "m.wav")
    command = ["library", "--model", str(nights.model), "--threshold", LIMIT, "--workers", "1", "-v"]
    assert CliRunner().invoke(main, [*command, "--out", "latest/"]).exit_code == 0
    for name, carried in (("./latest", True), ("latest/", True), ("latest", False)):
        done = CliRunner().invoke(main, [*command, "--out", f"{len(name)}.parquet", "--since", name])
        assert done.exit_code == 0 and ("carried  1 rows" in done.stderr) == carried, done.stderr
    Path("sonicscan.toml").write_text('since = "./latest"\n')
    shown = CliRunner().invoke(main, ["--show-config"]).stdout
    assert f'since = "{Path.cwd() / "latest"}"' in shown


@pytest.fixture
def make_report(nights: Nights) -> Callable[..., Path]:
    def make(name: str) -> Path:
        out = nights.folder / name
        arguments = [nights.library, "--model", nights.model, "--threshold", LIMIT, "--workers", 1, "--out", out]
        assert CliRunner().invoke(main, [str(word) for word in arguments]).exit_code == 0
        return out

    return make


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "{date}/r.parquet", "--since", "latest"], "in the last part"),
        (["--out", "{date}-{date}.parquet", "--since", "latest"], "in the last part"),
        (["--out", "s3://bucket/{date}.parquet", "--since", "latest"], "name a local --out"),
        (["--out", "{date}.parquet", "--fail-on", "new-flagged"], "give --since latest"),
        (["--out", "{date}.csv", "--since", "latest"], "only .parquet reports"),
        (["--out", "r.csv", "--since", "r.parquet", "--fail-on", "new-flagged"], "needs a Parquet report"),
        (["--out", "{date}.jsonl", "--since", "latest", "--fail-on", "new-flagged"], "needs a Parquet report"),
    ],
)
def test_what_cannot_be_a_series_is_refused(nights: Nights, arguments: list[str], words: str) -> None:
    clear(nights.library / "n.wav")
    done = CliRunner().invoke(
        main, [str(nights.library), "--model", str(nights.model), "--threshold", LIMIT, *arguments]
    )
    assert done.exit_code == 2 and words in done.stderr
