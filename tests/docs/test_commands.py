"""Every command and script of README and docs, as typed: what a page promises, a fresh installation does.

Each page is read from top to bottom in one folder, so that a command finds what those before it have written. What
else it names is made first, by the name: a model with calibration, a report, a track, decisions, keys, a folder of
tracks. Paths such as /srv/catalogue, and `~`, lie below that folder. A command may end with 1 where that is a finding.
"""

from __future__ import annotations

import glob
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from pages import ROOT, Snippet, pages, snippets
from report_samples import row, sample_report
from synthesis import calibrated, music, write_model

from sonicscan.cli.demo import write_sound
from sonicscan.scoring.thresholds import Thresholds
from sonicscan.signing import PrivateKey

LIMITS = Thresholds(0.9, 0.5, 0.01)
OPTIONS_THAT_WRITE = ("keygen", "--out", "--journal", "--metrics-file", "-o")
FINDINGS = ("--fail-on", "diff ", "audit ")  # what may end with 1
TOP = ("srv", "var", "mnt", "catalogue", "data", "reports", "music", "library")
SUFFIXES = (".wav", ".mp3", ".flac", ".ogg", ".m4a")


class World:
    """A folder in which the commands of one page run."""

    def __init__(self, folder: Path, model: Path, track: Path) -> None:
        self.folder, self._model, self._track = folder, model, track
        self._mounts: list[str] = []
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        for name in ("tests", "deploy", "Makefile"):
            (folder / name).symlink_to(ROOT / name)

    def placed(self, text: str) -> str:
        """The command with its absolute paths below the folder."""
        return re.sub(rf"(?<![\w.~/:])/(?={'|'.join(TOP)}\b)", f"{self.folder}/", text)

    def prepare(self, text: str) -> None:
        """Make what the words of a command name and is not there."""
        words = _words(text)
        self._mounts = re.findall(r"--strip (\S+)", text)
        for before, word in zip(["", *words], words, strict=False):
            written = before in OPTIONS_THAT_WRITE or "=" in word or word.startswith("-") or "://" in word
            path = Path(os.path.expanduser(word))  # noqa: PTH111 - `~` of this page, not of pathlib's
            path = path if path.is_absolute() else self.folder / path
            if written:
                if before in OPTIONS_THAT_WRITE and self.folder in path.parents:
                    path.parent.mkdir(parents=True, exist_ok=True)
            elif "*" in word or "?" in word:
                if not glob.glob(str(path)):  # noqa: PTH207 - of the whole path
                    for k in range(1, 3):
                        self._make(Path(re.sub(r"[*?]", str(k), str(path))))
            elif not path.exists() and ("/" in word or "." in word):
                self._make(path)

    def _make(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".onnx":
            shutil.copy(self._model, path)
        elif path.suffix == ".parquet":
            mount = f"{self._mounts.pop(0)}/" if self._mounts else ""
            own = path.stem if re.search(r"\d", path.stem) else ""  # reports that are merged share no track
            rows = [row(f"{mount}{own}{k}.mp3", 0.2 + 0.3 * k) for k in range(3)]
            flagged = [row("z.mp3", 0.95, verdict="flagged")] if "new" in path.name else []
            sample_report(path, [*rows, *flagged], calibrated(), LIMITS, key="k")
        elif path.suffix == ".csv":
            header, line = "path,decision,by,date", "z.mp3,human,Kim,2026-02-01"
            if path.stem == "declared":
                header, line = "path,declared", "z.mp3,none"
            path.write_text(f"{header}\n{line}\n")
        elif path.suffix in (".pem", ".pub"):
            PrivateKey.generate().write(path.with_suffix(".pem"))
        elif path.suffix in SUFFIXES:
            shutil.copy(self._track, path)
        elif not path.suffix:
            path.mkdir()
            for k in range(2):
                write_sound(path / f"{k}.flac", music(5.0, 22050, 1, k), 22050)

    def run(self, snippet: Snippet) -> tuple[int, str]:
        """Exit code, and all that was printed."""
        text = self.placed(snippet.text)
        if snippet.kind == "python":
            self.prepare(" ".join(["python", *re.findall(r'"([\w./-]+)"', text), *_scanned(text)]))
            return self._process([sys.executable, "-W", "ignore", "-c", text])
        if snippet.kind == "sql":
            self.prepare(" ".join(["sql", *re.findall(r"'([\w./*-]+)'", text)]))
            import duckdb

            with duckdb.connect() as connection:
                connection.execute(text).fetchall()
            return 0, ""
        self.prepare(text)
        words = _expanded(text)
        program = _PROGRAMS.get(words[0])
        if program is not None and not set("|;&<>$`") & set(_unquoted(text)):
            done = CliRunner().invoke(program, words[1:])
            return done.exit_code, done.output
        return self._process(["bash", "-c", text])

    def _process(self, command: list[str]) -> tuple[int, str]:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(command, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr


def _scanned(text: str) -> list[str]:
    return [f"./{name}" for name in re.findall(r'scan\("(\w+)"', text)]


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[\s|;&<>()]+", re.sub(r"['\"]", "", text)) if word][1:]


def _unquoted(text: str) -> str:
    return re.sub(r"'[^']*'|\"[^\"$`]*\"", "", text)


def _expanded(text: str) -> list[str]:
    """The words of a simple command as a shell passes them on."""
    found: list[str] = []
    for raw in shlex.split(text.replace("\\\n", " "), posix=False):
        word = shlex.split(raw)[0]
        quoted = raw[:1] in "'\""
        word = word if quoted else os.path.expanduser(word)  # noqa: PTH111 - as a shell does
        matches = sorted(glob.glob(word)) if not quoted and re.search(r"[*?]", word) else []  # noqa: PTH207
        found += matches or [word]
    return found


def _programs() -> dict[str, click.Command]:
    from sonicscan.cli.report import main as report
    from sonicscan.cli.scan import main as scan
    from sonicscan_export.cli import main as export
    from sonicscan_train.cli import main as train

    return {"sonicscan": scan, "sonicscan-report": report, "sonicscan-export": export, "sonicscan-train": train}


_PROGRAMS = _programs()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "tiny.onnx", calibrated())


@pytest.fixture(scope="module")
def track(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sound(tmp_path_factory.mktemp("track") / "track.flac", music(5.0, 22050, 1), 22050)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_every_command_of_a_page_runs(
    page: Path, model: Path, track: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path / "world", model, track)
    monkeypatch.chdir(world.folder)
    monkeypatch.setenv("HOME", str(world.home))
    monkeypatch.setenv("COLUMNS", "120")
    broken = []
    for snippet in snippets(page):
        if snippet.skipped:
            continue
        if problem := _checked_only(snippet.text):
            if problem is not True:
                broken.append(f"{snippet}: {snippet.text}\n{problem}")
            continue
        code, text = world.run(snippet)
        if code and not (code == 1 and any(words in snippet.text for words in FINDINGS) and "Traceback" not in text):
            broken.append(f"{snippet}: {snippet.text}\nends with {code}: {text[-800:]}")
    assert not broken, "\n\n".join([*broken, "Correct the page, or put <!-- not run: REASON --> before the block."])


def _checked_only(text: str) -> bool | str:
    """True for a command that is right and is not run here; a sentence for one that is wrong; False for all others."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    if text.startswith(("pip install", "python -m pip install")):
        extras = {name for found in re.findall(r"\[([\w,]+)\]", text) for name in found.split(",")}
        unknown = extras - set(project["optional-dependencies"])
        return f"there are no extras {unknown}" if unknown else True
    if text.startswith("make "):
        done = subprocess.run(["bash", "-c", f"{text} -n"], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stderr if done.returncode else True
    if match := re.match(r"python (benchmarks/\w+\.py)", text):  # measures for minutes
        return True if (ROOT / match[1]).is_file() else f"there is no {match[1]}"
    return False


def test_what_the_pages_leave_out_has_a_reason() -> None:
    found = [snippet for page in pages() for snippet in snippets(page)]
    assert len(found) > 40
    assert sum(bool(snippet.skipped) for snippet in found) < len(found) / 2
