"""Splits: never a group or an artist on two sides, whatever the data."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split
from training_sound import write_manifest

from sonicscan.errors import InputError
from sonicscan_train.cli import main
from sonicscan_train.data.clips import Clip
from sonicscan_train.data.splits import SplitPlan, split, split_by_files


def catalogue(songs: int = 300, per_group: int = 2, sources: int = 5) -> list[Clip]:
    return [
        Clip(f"{label}/{i}.wav", label, f"{label}-source{i // per_group % sources}", f"{label}-{i // per_group}")
        for label in ("human", "ai")
        for i in range(songs)
    ]


@st.composite
def clips_of_any_kind(draw: st.DrawFn) -> list[Clip]:
    n = draw(st.integers(12, 60))
    rng = random.Random(draw(st.integers(0, 2**16)))
    return [
        Clip(
            f"{i}.wav",
            ("human", "ai")[i % 2],
            f"source{rng.randrange(4)}",
            f"group{rng.randrange(draw(st.integers(1, 30)))}",
            f"artist{rng.randrange(20)}" if rng.random() < 0.2 else "",
            rng.choice(["", "train", "valid", "test"]),
        )
        for i in range(n)
    ]


@settings(max_examples=60, deadline=None)
@given(clips_of_any_kind(), st.booleans(), st.booleans())
def test_no_group_and_no_artist_is_ever_divided(clips: list[Clip], official: bool, holdout: bool) -> None:
    plan = SplitPlan(official=official, holdout_sources=(clips[0].source,) if holdout else ())
    try:
        parts = split(clips, plan)
    except InputError as error:
        assert "group" in str(error)  # too few of them: refused, not divided
        return
    assert [dataclasses.replace(c, part="") for c in parts] == [dataclasses.replace(c, part="") for c in clips]
    for field in ("group", "artist"):
        found: dict[str, set[str]] = defaultdict(set)
        for clip in parts:
            if getattr(clip, field) and clip.part != "unused":
                found[getattr(clip, field)].add(clip.part)
        assert all(len(names) == 1 for names in found.values())
    if holdout:
        assert {c.part for c in parts if c.source == clips[0].source} == {"holdout"}
        assert all(c.source == clips[0].source for c in parts if c.part == "holdout")


def test_every_label_and_source_gets_its_shares() -> None:
    plan = SplitPlan(train=0.5, valid=0.2, calibration=0.1, test=0.2)
    parts = split(catalogue(), plan)
    for source, total in Counter(c.source for c in parts).items():
        counts = Counter(c.part for c in parts if c.source == source)
        for part, share in plan.shares.items():
            assert abs(counts[part] - share * total) <= 4  # two groups


def test_a_split_follows_from_its_seed_and_not_from_the_order_of_clips() -> None:
    clips = catalogue(60)
    parts = {c.path: c.part for c in split(clips, SplitPlan(seed=3))}
    shuffled = random.Random(0).sample(clips, len(clips))
    assert {c.path: c.part for c in split(shuffled, SplitPlan(seed=3))} == parts
    assert {c.path: c.part for c in split(clips, SplitPlan(seed=4))} != parts


def test_sources_are_left_out_whole_and_their_songs_with_them() -> None:
    clips = [*catalogue(60), Clip("pair.wav", "human", "human-source1", "ai-3"), Clip("lone.wav", "ai", "new", "ai-3")]
    assert clips[60 + 6].group == "ai-3"
    parts = {c.path: c for c in split(clips, SplitPlan(holdout_sources=("ai-source3", "human-source0")))}
    for clip in parts.values():
        if clip.source in ("ai-source3", "human-source0"):
            assert clip.part == "holdout"
    assert parts["pair.wav"].part == parts["lone.wav"].part == "unused"  # their song is held out


def test_official_parts_are_kept_and_the_strictest_wins_where_they_tear_a_group() -> None:
    clips = [dataclasses.replace(c, part="train" if i % 3 else "test") for i, c in enumerate(catalogue(30, 3))]
    parts = split(clips, SplitPlan())
    assert {c.part for c in parts} == {"test"}  # every group of three has one clip in test
    whole = [dataclasses.replace(c, part="valid" if c.group.endswith("1") else "train") for c in catalogue(30)]
    assert [c.part for c in split(whole, SplitPlan())] == [c.part for c in whole]
    assert {c.part for c in split(whole, SplitPlan(official=False))} == {"train", "valid", "test"}


def test_too_few_groups_are_refused() -> None:
    with pytest.raises(InputError, match="labelled ai belong to 2 groups; a split needs at least 3"):
        split(catalogue(4), SplitPlan())
    with pytest.raises(InputError, match="only human"):
        split([c for c in catalogue(20) if c.human], SplitPlan())


def test_the_seeds_split_is_scikit_learns_over_files() -> None:
    clips = random.Random(1).sample(catalogue(50), 100)
    parts = {c.path: c.part for c in split_by_files(clips)}
    paths = sorted(c.path for c in clips if c.human) + sorted(c.path for c in clips if not c.human)
    labels = [0] * 50 + [1] * 50
    rest, test, rest_labels, _ = train_test_split(paths, labels, test_size=0.2, random_state=42, stratify=labels)
    train, valid = train_test_split(rest, test_size=0.25, random_state=42, stratify=rest_labels)
    assert {p for p, part in parts.items() if part == "test"} == set(test)
    assert {p for p, part in parts.items() if part == "valid"} == set(valid)
    assert {p for p, part in parts.items() if part == "train"} == set(train)


def test_the_command_writes_a_split_that_is_a_manifest(tmp_path: Path) -> None:
    rows = [{"path": c.path, "label": c.label, "source": c.source, "group": c.group} for c in catalogue(30)]
    data = write_manifest(tmp_path / "m.csv", rows)
    out = tmp_path / "split.csv"
    command = ["split", str(data), "--out", str(out), "--holdout-sources", "ai-source0,human-source2"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["train", "valid", "test", "holdout"]
    first = out.read_bytes()
    again = CliRunner().invoke(main, command)
    assert again.exit_code == 0 and out.read_bytes() == first
