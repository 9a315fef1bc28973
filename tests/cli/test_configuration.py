"""Options from sonicscan.toml, variables and earlier reports; what holds is shown with the place that it comes from."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from synthesis import calibrated, music, write_model

from sonicscan.cli.demo import write_sound
from sonicscan.cli.scan import main
from sonicscan.files import sha256_of
from sonicscan.report.metadata import metadata_of

OTHER_USER = 12345


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder."""
    for name in [name for name in os.environ if name.startswith("SONICSCAN_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def run(*arguments: str | Path, **variables: str) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], env=variables)


def holds(*arguments: str | Path, **variables: str) -> dict[str, tuple[str, str]]:
    """Value and source of each option, as --show-config prints them."""
    done = run(*arguments, "--show-config", **variables)
    assert done.exit_code == 0, done.stderr
    lines = [line.rpartition("  # ") for line in done.stdout.splitlines() if not line.startswith("# ")]
    return {key.strip(): (value.strip(), source) for text, _, source in lines for key, value in [text.split(" = ", 1)]}


def test_each_value_has_its_source_and_the_nearest_to_the_user_wins(folder: Path) -> None:
    (folder / "sonicscan.toml").write_text(
        'paths = ["lib"]\nworkers = 3\nwindows = "all"\nmax-fpr = 0.05\nhash = true\n'
    )
    found = holds("--windows", "24", SONICSCAN_WORKERS="2", SONICSCAN_EXCLUDE="a/ b/")
    assert found["paths"] == ('["lib"]', "sonicscan.toml")
    assert found["windows"] == ('"24"', "command line")
    assert found["workers"] == ("2", "SONICSCAN_WORKERS")
    assert found["exclude"] == ('["a/", "b/"]', "SONICSCAN_EXCLUDE")
    assert found["max-fpr"] == ("0.05", "sonicscan.toml")
    assert found["hash"] == ("true", "sonicscan.toml")
    assert found["timeout"] == ("120.0", "default")
    assert holds("other")["paths"] == ('["other"]', "command line")


def test_what_is_shown_is_a_configuration_that_gives_the_same(folder: Path) -> None:
    options = ["a ü", "--exclude", "x'\"/", "--max-errors", "2%", "--threshold", "0.5", "--quiet", "--model", "m.onnx"]
    options += ["--fail-on", "generated,flagged"]
    shown = run(*options, "--show-config").stdout
    assert tomllib.loads(shown)["max-errors"] == "2%"
    (folder / "other.toml").write_text(shown, encoding="utf-8")
    before, after = holds(*options), holds("--config", "other.toml")
    assert {name: value for name, (value, _) in before.items()} == {name: value for name, (value, _) in after.items()}
    assert {source for _, source in after.values()} == {"other.toml"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("thresold = 0.5", "the key thresold, which is not an option; the nearest is threshold"),
        ("show-config = true", "which is not an option"),
        ("workers = [1, 2]", "workers takes one value"),
        ("workers = 2.7", "workers is a whole number, not 2.7"),
        ("hash = 'yes'", "hash is true or false"),
        ('reviewed = "a\\u0000b"', "reviewed has a NUL character"),
        ("exclude = [1979-05-27]", "exclude is a text or a number"),
        ("windows = ", "is not TOML"),
        ("[scan]\nworkers = 1", "the key scan, which is not an option"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(text: str, words: str, folder: Path) -> None:
    (folder / "sonicscan.toml").write_text(text)
    done = run("--show-config")
    assert done.exit_code == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert run("--help").exit_code == 0


def test_a_flag_of_an_exclusive_pair_wins_over_the_other_one_in_a_file(folder: Path) -> None:
    (folder / "sonicscan.toml").write_text("max-fpr = 0.05\n")
    found = holds("lib", "--threshold", "0.5")
    assert found["threshold"] == ("0.5", "command line")
    assert "max-fpr" not in found
    assert run("lib", "--threshold", "0.5", "--max-fpr", "0.1").exit_code == 2


def test_a_configuration_that_others_may_write_is_not_used_and_named(folder: Path) -> None:
    (folder / "sonicscan.toml").write_text("workers = 3\n")
    (folder / "sonicscan.toml").chmod(0o666)
    done = run("lib", "--show-config")
    assert "# workers" in done.stdout
    assert "sonicscan.toml is not used: other users may write it" in done.stderr
    assert holds("lib", "--config", "sonicscan.toml")["workers"] == ("3", "sonicscan.toml")  # the user names it


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_strangers_configuration_is_not_used_and_named(folder: Path) -> None:
    (folder / "sonicscan.toml").write_text("workers = 3\n")
    os.chown(folder / "sonicscan.toml", OTHER_USER, OTHER_USER)
    done = run("lib", "--show-config")
    assert "# workers" in done.stdout
    assert "belongs to another user" in done.stderr


def test_a_variable_that_is_nearly_an_option_is_named() -> None:
    done = run("lib", "--show-config", SONICSCAN_THRESOLD="0.5", SONICSCAN_VERSION="7")
    assert "SONICSCAN_THRESOLD is not an option; the nearest is SONICSCAN_THRESHOLD" in done.stderr
    assert "SONICSCAN_VERSION" not in done.stderr


def test_replay_repeats_a_scan_with_its_options_and_its_model(folder: Path) -> None:
    (folder / "lib").mkdir()
    for name in ("a.wav", "b.wav"):
        write_sound(folder / "lib" / name, music(5.5))
    write_model(folder / "m.onnx", calibrated())
    first = ["lib", "--model", "m.onnx", "--exclude", "b.wav", "--windows", "3", "--out", "1.parquet", "-q"]
    assert run(*first).exit_code == 0
    command = json.loads(metadata_of(pq.read_schema("1.parquet"))["command"])
    assert command["paths"] == ["lib"]
    assert command["max-fpr"] == 0.01  # the default of this version
    (folder / "sonicscan.toml").write_text("windows = 'all'\n")
    found = holds("--replay", "1.parquet", SONICSCAN_THRESHOLD="0.5")
    assert found["windows"] == ('"3"', "1.parquet")
    assert found["model-sha256"] == (f'"{sha256_of(folder / "m.onnx")}"', "1.parquet")
    assert "threshold" not in found
    assert run("--replay", "1.parquet", "--out", "2.parquet", "-q").exit_code == 0
    rows = [pq.read_table(name).select(["path", "score", "verdict"]) for name in ("1.parquet", "2.parquet")]
    assert rows[0] == rows[1]
    assert rows[0].num_rows == 1
    again = json.loads(metadata_of(pq.read_schema("2.parquet"))["command"])
    assert again == command | {"model-sha256": sha256_of(folder / "m.onnx")}
    write_model(folder / "m.onnx", bias=1.0)
    done = run("--replay", "1.parquet", "--out", "3.parquet", "-q")
    assert done.exit_code == 2
    assert not (folder / "3.parquet").exists()


def test_a_report_cannot_choose_where_a_replay_writes(folder: Path) -> None:
    write_sound(folder / "a.wav", music(5.5))
    write_model(folder / "m.onnx")
    assert run("a.wav", "--model", "m.onnx", "--out", "1.parquet", "-q").exit_code == 0
    table = pq.read_table("1.parquet")
    for command, words in (({"paths": ["a.wav"], "out": "x"}, "not replayed: out"), ({}, "holds no command line")):
        keys = {**table.schema.metadata, b"sonicscan.command": json.dumps(command).encode()}
        pq.write_table(table.replace_schema_metadata(keys), "2.parquet")
        done = run("--replay", "2.parquet")
        assert done.exit_code == 2
        assert words in done.stderr


def test_a_replay_keeps_a_threshold_of_zero(folder: Path) -> None:
    model = write_model(folder / "m.onnx", calibrated())
    write_sound(folder / "x.wav", music(6.0))
    first = run("x.wav", "--model", model, "--threshold", "0", "--out", "a.parquet")
    assert first.exit_code == 0, first.stderr
    again = run("--replay", "a.parquet", "--out", "b.parquet")
    assert again.exit_code == 0, again.stderr
    verdicts = [pq.read_table(name).column("verdict").to_pylist() for name in ("a.parquet", "b.parquet")]
    assert verdicts == [["flagged"], ["flagged"]]


def test_a_list_from_standard_input_cannot_be_repeated(folder: Path) -> None:
    model = write_model(folder / "m.onnx", calibrated())
    write_sound(folder / "x.wav", music(6.0))
    arguments = ["--files-from", "-", "--model", str(model), "--out", "a.parquet"]
    assert CliRunner().invoke(main, arguments, input="x.wav\n").exit_code == 0
    again = run("--replay", "a.parquet", "--out", "b.parquet")
    assert again.exit_code == 2 and "came from standard input" in again.stderr
    assert not (folder / "b.parquet").exists()


def test_two_sources_of_options_are_refused(folder: Path) -> None:
    model = write_model(folder / "m.onnx", calibrated())
    write_sound(folder / "x.wav", music(6.0))
    assert run("x.wav", "--model", model, "--out", "a.parquet").exit_code == 0
    (folder / "c.toml").write_text("workers = 1\n")
    for pair in (("--replay", "a.parquet", "--config", "c.toml"), ("--config", "c.toml", "--replay", "a.parquet")):
        refused = run(*pair, "--out", "b.parquet")
        assert refused.exit_code == 2 and "give --replay or --config" in refused.stderr
    assert run("--show-config", "--doctor").exit_code == 2


def test_paths_in_a_variable_are_not_silently_ignored() -> None:
    assert "SONICSCAN_PATHS is not an option" in run("--show-config", SONICSCAN_PATHS="lib").stderr
