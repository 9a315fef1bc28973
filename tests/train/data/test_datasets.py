"""Reading data sets: every layout, and one clear sentence for what is wrong with one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from click.testing import CliRunner, Result
from training_sound import people_or_machine, write_data, write_manifest

from sonicscan.errors import InputError
from sonicscan_train.cli import main
from sonicscan_train.data.clips import Clip, class_names, relabel
from sonicscan_train.data.datasets import load, skip_unreadable
from sonicscan_train.data.manifest import write_split


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"sound")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def assert_one_clear_sentence(result: Result, *words: str) -> None:
    assert result.exit_code == 2, result.output
    said = [line for line in result.stderr.splitlines() if line.startswith("Error:")]
    assert len(said) == 1 and "Traceback" not in result.output
    for word in words:
        assert word in said[0]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_manifest_is_read_with_its_optional_columns(tmp_path: Path, suffix: str) -> None:
    rows = [
        {"path": "a.wav", "label": "human", "generator": "", "artist": "Ann", "split": "val", "year": "1999"},
        {"path": "b/c.wav", "label": "ai", "generator": "suno", "artist": "", "split": "", "year": ""},
    ]
    path = tmp_path / f"m{suffix}"
    if suffix == ".csv":
        write_manifest(path, rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    first, second = load([str(path)])
    assert first == Clip(str(tmp_path / "a.wav"), "human", "human", "a.wav", "Ann", "valid", {"year": "1999"})
    assert (second.path, second.source, second.group, second.part) == (str(tmp_path / "b/c.wav"), "suno", "b/c.wav", "")


def test_a_split_reads_back_as_it_was_from_another_folder(tmp_path: Path) -> None:
    clips = [
        Clip(str(tmp_path / "in" / "x,y.wav"), "human", "s", "g", 'A "B"', "train", {"k": "v"}),
        Clip(str(tmp_path / "in" / "z.wav"), "ai", "t", "h", "", "holdout", {"k": ""}),
    ]
    (tmp_path / "out").mkdir()
    write_split(clips, tmp_path / "out" / "split.csv")
    back = load([str(tmp_path / "out" / "split.csv")])
    assert [Path(c.path).resolve() for c in back] == [Path(c.path) for c in clips]
    assert [(c.label, c.source, c.group, c.artist, c.part, c.extra) for c in back] == [
        (c.label, c.source, c.group, c.artist, c.part, c.extra) for c in clips
    ]


def test_a_split_finds_its_files_through_links_and_by_names_of_any_bytes(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "deep" / "er")
    touch(tmp_path, "in/human/a.wav", "in/ai/b.wav", os.fsdecode(b"in/ai/caf\xe9.wav"))
    clips = load([str(tmp_path / "in")])
    write_split(clips, tmp_path / "out" / "split.csv")
    back = load([str(tmp_path / "out" / "split.csv")])
    assert all(Path(c.path).samefile(b.path) for c, b in zip(clips, back, strict=True))
    assert [c.group for c in back] == [c.group for c in clips]
    latin = (tmp_path / "out" / "split.csv").read_bytes().replace(b",ai,", b",\xe9,")
    (tmp_path / "latin.csv").write_bytes(latin)
    with pytest.raises(InputError, match="not CSV in UTF-8"):
        load([str(tmp_path / "latin.csv")])


def test_a_folder_per_class(tmp_path: Path) -> None:
    touch(tmp_path, "human/a.mp3", "human/live/b.flac", "ai/suno/c.wav", "ai/._c.wav", "ai/notes.txt")
    found = {(Path(c.path).name, c.label, c.source) for c in load([str(tmp_path)])}
    assert found == {("a.mp3", "human", "human"), ("b.flac", "human", "live"), ("c.wav", "ai", "suno")}


def test_a_folder_may_be_a_link_and_has_every_file_that_a_scan_finds(tmp_path: Path) -> None:
    touch(tmp_path, "disk/udio/a.mp3", "disk/udio/b.webm", "set/human/c.aifc")
    (tmp_path / "set" / "ai").symlink_to(tmp_path / "disk")
    found = {(Path(c.path).name, c.label, c.source) for c in load([str(tmp_path / "set")])}
    assert found == {("a.mp3", "ai", "udio"), ("b.webm", "ai", "udio"), ("c.aifc", "human", "human")}


def test_sonics(tmp_path: Path) -> None:
    write_manifest(
        tmp_path / "real_songs.csv",
        [{"id": "7", "filename": "real_00007", "artist": "Ann", "split": "train", "label": "real"}],
    )
    fakes = [
        {"id": "3", "filename": f"fake_00003_suno_{i}", "algorithm": "chirp-v3", "source": "suno", "split": "test"}
        for i in (0, 1)
    ]
    write_manifest(tmp_path / "fake_songs.csv", fakes)
    touch(tmp_path, "real_songs/real_00007.flac", *(f"fake_songs/fake_00003_suno_{i}.mp3" for i in (0, 1)))
    real, first, second = load([str(tmp_path)])
    assert Path(real.path).name == "real_00007.flac"
    assert (real.label, real.artist, real.part) == ("human", "sonics/Ann", "train")
    assert first.group == second.group != real.group
    assert (first.label, first.source, first.part) == ("ai", "chirp-v3", "test")


def test_fma(tmp_path: Path) -> None:
    (tmp_path / "fma_metadata").mkdir()
    (tmp_path / "fma_small").mkdir()
    (tmp_path / "fma_metadata" / "tracks.csv").write_text(
        ",artist,set,set,track\n,id,split,subset,genre_top\ntrack_id,,,,\n"
        "2,1,training,small,Hip-Hop\n3,1,test,medium,Rock\n1140,9,validation,small,\n",
        encoding="utf-8",
    )
    first, second = load([f"fma:{tmp_path}"])
    assert first.path == str(tmp_path / "fma_small/000/000002.mp3")
    assert (first.label, first.source, first.artist, first.part) == ("human", "fma-Hip-Hop", "fma/1", "train")
    assert second.path.endswith("001/001140.mp3") and (second.source, second.part) == ("fma-other", "valid")
    whole = (tmp_path / "fma_metadata" / "tracks.csv").read_bytes()
    for damaged in (whole[:-15], whole.replace(b"Hip", b"\xe9")):
        (tmp_path / "fma_metadata" / "tracks.csv").write_bytes(damaged)
        with pytest.raises(InputError, match=r"tracks\.csv is damaged or cannot be read"):
            load([f"fma:{tmp_path}"])


def test_fakemusiccaps_groups_by_video(tmp_path: Path) -> None:
    touch(tmp_path, "MusicCaps/x.wav", "mustango/x.wav", "audioldm2/y.wav")
    clips = load([str(tmp_path)])
    assert {(c.label, c.source, c.group) for c in clips} == {
        ("human", "MusicCaps", "musiccaps-x"),
        ("ai", "mustango", "musiccaps-x"),
        ("ai", "audioldm2", "musiccaps-y"),
    }


def test_data_sets_combine_but_no_file_comes_twice(tmp_path: Path) -> None:
    touch(tmp_path, "one/human/a.wav", "two/mustango/b.wav")
    assert [c.label for c in load([str(tmp_path / "one"), f"fakemusiccaps:{tmp_path / 'two'}"])] == ["human", "ai"]
    with pytest.raises(InputError, match="in the data twice"):
        load([str(tmp_path / "one"), str(tmp_path / "one")])


def test_missing_and_unreadable_files_are_named_and_limited(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "good.wav", people_or_machine(False, 0, 0.2), 22050)
    touch(tmp_path, "text.wav")
    clips = [Clip(str(tmp_path / name), "human", "s", name) for name in ("good.wav", "text.wav", "gone.wav")]
    said: list[str] = []
    assert skip_unreadable(clips, "2", said.append) == clips[:1]
    assert len(said) == 2 and "text.wav" in said[0] and "gone.wav: there is no such file" in said[1]
    with pytest.raises(InputError, match=r"more than 1 of 3 files.*gone\.wav"):
        skip_unreadable(clips, "34%", said.append)
    with pytest.raises(InputError, match="--max-bad"):
        skip_unreadable(clips, "some", said.append)


def test_labels_are_mapped_dropped_or_refused() -> None:
    clips = [Clip(label, label, label, label) for label in ("human", "suno", "codec")]
    assert [c.label for c in relabel(clips, {"suno": "ai", "codec": "drop"})] == ["human", "ai"]
    with pytest.raises(InputError, match="--map suno=ai"):
        class_names(clips, "binary", {})
    with pytest.raises(InputError, match="neither a label nor a source"):
        relabel(clips, {"udio": "ai"})


def test_a_wrong_label_of_a_source_is_corrected_before_labels_are_mapped() -> None:
    clips = [Clip("a", "human", "a page", "a"), Clip("b", "human", "b page", "b"), Clip("c", "ai", "c page", "c")]
    assert [c.label for c in relabel(clips, {"a page": "codec"})] == ["codec", "human", "ai"]
    assert [c.label for c in relabel(clips, {"a page": "codec", "codec": "ai"})] == ["ai", "human", "ai"]
    assert [c.path for c in relabel(clips, {"codec": "drop", "a page": "codec"})] == ["b", "c"]


def test_families_are_classes() -> None:
    clips = [Clip("", label, source, "") for label, source in
             (("human", "x"), ("ai", "chirp-v3"), ("ai", "chirp-v2"), ("riffusion", "r"))]  # fmt: skip
    assert class_names(clips, "source", {"chirp-v3": "suno", "chirp-v2": "suno"}) == ("human", "riffusion", "suno")
    with pytest.raises(InputError, match="is labelled ai, and its class would be human"):
        class_names(clips, "source", {"chirp-*": "human"})
    with pytest.raises(InputError, match="cannot be called 'unknown'"):
        class_names([*clips, Clip("", "ai", "unknown", "")], "source", {})


COMMANDS: Sequence[tuple[str, ...]] = (
    ("audit",),
    ("split", "--out", "split.csv"),
    ("fit", "--out", "run", "--weights", "none", "--data"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c[0])
def test_bad_manifests_are_one_clear_sentence(command: tuple[str, ...], tmp_path: Path) -> None:
    names = [(label, f"{label}{i}") for label in ("human", "ai") for i in (1, 2)]
    good = [{"path": f"{name}.wav", "label": label, "group": name} for label, name in names]
    for row in good:
        soundfile.write(tmp_path / row["path"], people_or_machine(row["label"] == "ai", 0, 1.5), 22050)
    arguments = [str(tmp_path / a) if a in ("split.csv", "run") else a for a in command]

    def said(rows: list[dict[str, str]]) -> Result:
        return run(*arguments, write_manifest(tmp_path / "m.csv", rows))

    assert_one_clear_sentence(said([{"path": r["path"], "kind": "ai"} for r in good]), "no column `label`", "m.csv")
    assert_one_clear_sentence(said([r for r in good if r["label"] == "ai"]), "only ai (2)")
    assert_one_clear_sentence(said([{**r, "group": "one"} for r in good]), "group")
    assert_one_clear_sentence(said([{**r, "label": ""} for r in good]), "no label in row 2")
    assert_one_clear_sentence(said([{**r, "split": "sometimes"} for r in good]), "'sometimes'")
    assert_one_clear_sentence(run(*arguments, tmp_path / "absent.csv"), "absent.csv")
    if command[0] != "split":  # a split deals out any label
        unknown = [*good, {"path": "ai1.wav", "label": "robot", "group": "r"}]
        unknown[-1]["path"] = "human1.wav"
        assert_one_clear_sentence(said(unknown[1:]), "'robot'", "--map robot=ai")
    assert not (tmp_path / "split.csv").exists() and not (tmp_path / "run").exists()


def test_every_command_has_help_and_tells_bad_options_apart(tmp_path: Path) -> None:
    for command in ("audit", "split", "fit", "calibrate", "evaluate"):
        assert run(command, "--help").exit_code == 0
    data = write_data(tmp_path, 4, seconds=1.2)
    out = ("--out", tmp_path / "out")
    assert_one_clear_sentence(run("split", data, *out, "--test", "0.9"), "add up to 1")
    assert_one_clear_sentence(run("split", data, *out, "--holdout-sources", "gamma"), "'gamma'")
    assert_one_clear_sentence(run("fit", "--data", data, *out, "--recipe", "best"), "'best'")
    assert_one_clear_sentence(run("fit", "--data", data, *out, "--backbone", "no_such_net"), "no_such_net")
    assert_one_clear_sentence(run("calibrate", tmp_path / "none", "--data", data), "no checkpoint")
    assert_one_clear_sentence(run("evaluate", tmp_path / "none.onnx", "--data", data, *out), "none.onnx")
