"""Families: files that group sources into classes."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from sonicscan.errors import InputError
from sonicscan_train.cli import main
from sonicscan_train.data.clips import Clip, class_of
from sonicscan_train.data.families import read_families
from sonicscan_train.packaged import packaged_files


@pytest.mark.parametrize("name", [path.stem for path in packaged_files("families")])
def test_the_package_has_families(name: str) -> None:
    families = read_families(name)
    assert {"suno", "udio"} <= set(families.values())
    assert class_of(Clip("a", "ai", "Suno(user)", "g"), "source", families) == "suno"


def test_names_come_before_patterns_and_strangers_keep_their_own(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('old = ["gen 1"]\nnew = ["gen*"]\n')
    families = read_families(str(file))
    called = [class_of(Clip("a", "ai", source, "g"), "source", families) for source in ("gen 1", "gen 2", "else")]
    assert called == ["old", "new", "else"]
    assert class_of(Clip("a", "codec", "gen 2", "g"), "source", families) == "codec"
    assert class_of(Clip("a", "ai", "gen 2", "g"), "binary", families) == "ai"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('a = ["x"]\nb = ["x"]\n', "names 'x' in a and in b"),
        ('a = "x"\n', "a must be a list"),
        ("a = [1]\n", "a must be a list"),
        ("a = [", "cannot be read"),
    ],
)
def test_a_file_that_means_nothing_is_refused(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=why):
        read_families(str(file))


def test_an_unknown_name_says_what_is_known(tmp_path: Path) -> None:
    asked = ["fit", "--data", str(tmp_path), "--out", str(tmp_path / "run"), "--families", "tecniques"]
    done = CliRunner().invoke(main, asked)
    assert done.exit_code == 2 and "no set of families 'tecniques'; known: techniques" in done.output
