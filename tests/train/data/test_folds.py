"""Folds: what belongs together stays together, and the folds are alike."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from click.testing import CliRunner
from training_sound import write_manifest

from sonicscan.errors import InputError
from sonicscan_train.cli import main
from sonicscan_train.data.clips import Clip
from sonicscan_train.data.datasets import load
from sonicscan_train.data.folds import FoldPlan, deal, read_folds, read_plan

PLAN = FoldPlan(
    folds=3, by_origin=("suno",), families=(("gen0", "gen1"),), pinned={"site0": 2}, balanced={"songs": "gen[23]"}
)


def corpus() -> list[Clip]:
    people = [Clip(f"a/h{i}.ogg", "human", f"site{i % 9}", f"song{i}") for i in range(54)]
    ai = [Clip(f"a/g{i}.ogg", "ai", f"gen{i % 8}", f"prompt{i}") for i in range(48)]
    suno = [Clip(f"a/s{i}.ogg", "ai", "suno", f"s{i}", extra={"origin": f"page{i % 6}"}) for i in range(36)]
    return [*people, *ai, *suno, Clip("a/c.ogg", "codec", "vocoder", "song0")]


def test_units_stay_whole_and_folds_are_alike() -> None:
    clips = corpus()
    folds = deal(clips, PLAN)
    by: defaultdict[str, set[int]] = defaultdict(set)
    for clip, fold in zip(clips, folds, strict=True):
        for name in (f"group {clip.group}", f"source {clip.source}", f"origin {clip.extra.get('origin')}"):
            by[name].add(fold)
    divided = {name for name, found in by.items() if len(found) > 1}
    assert divided == {"source suno", "origin None"}  # a large generator is divided by its creators' pages
    assert by["source gen0"] == by["source gen1"]  # a family
    assert by["source site0"] == by["source vocoder"] == {2}  # pinned, and with it what shares its song
    for source in ("suno",):
        counts = Counter(f for c, f in zip(clips, folds, strict=True) if c.source == source)
        assert set(counts.values()) == {12}
    people = Counter(f for c, f in zip(clips, folds, strict=True) if c.human)
    assert set(people.values()) == {18}


def test_two_pins_for_one_unit_are_refused() -> None:
    plan = dataclasses.replace(PLAN, pinned={"site0": 2, "vocoder": 1})
    with pytest.raises(InputError, match="pinned to folds"):
        deal(corpus(), plan)


def test_the_command_writes_folds_that_are_read_by_the_end_of_the_path(tmp_path: Path) -> None:
    clips = corpus()
    rows = [
        {"path": c.path, "label": c.label, "source": c.source, "origin": c.extra.get("origin", ""), "group": c.group}
        for c in clips
    ]
    write_manifest(tmp_path / "manifest.csv", rows)
    (tmp_path / "plan.toml").write_text('folds = 3\nby_origin = ["suno"]\n[pinned]\nsite0 = 2\n')
    out = tmp_path / "folds.csv"
    done = CliRunner().invoke(main, ["folds", str(tmp_path), "--plan", str(tmp_path / "plan.toml"), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["fold 0", "fold 1", "fold 2"]
    elsewhere = [dataclasses.replace(c, path=f"/somewhere/{c.path}") for c in clips]
    plan = FoldPlan(3, ("suno",), pinned={"site0": 2})
    assert read_folds(out, elsewhere) == deal(clips, plan)
    with pytest.raises(InputError, match="has no fold in"):
        read_folds(out, [Clip("a/new.ogg", "ai", "x", "x")])


def test_folds_of_a_manifest_with_absolute_paths_are_found(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    rows = [{"path": str(tmp_path / "sound" / f"{c.group}-{i}.ogg"), "label": c.label, "source": c.source}
            for i, c in enumerate(corpus())]  # fmt: skip
    manifest = write_manifest(tmp_path / "tables" / "manifest.csv", rows)
    (tmp_path / "plan.toml").write_text("folds = 3\n")
    out = tmp_path / "folds.csv"
    done = CliRunner().invoke(main, ["folds", str(manifest), "--plan", str(tmp_path / "plan.toml"), "--out", str(out)])
    assert done.exit_code == 0, done.output
    clips = load([str(manifest)])
    assert read_folds(out, clips) == deal(clips, FoldPlan(3))


def test_the_packages_plan_is_read() -> None:
    plan = read_plan("small")
    assert plan.folds == 3 and "Suno" in plan.by_origin and plan.pinned["GTZAN"] == 2
    with pytest.raises(InputError, match="there is no plan 'none'; known: small"):
        read_plan("none")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('by_origin = "Suno"', "by_origin = 'Suno', which must be a list, each value text"),
        ('families = ["MeLoDy", "MusicLM"]', "which must be a list, each value a list, each value text"),
        ('[categories]\n"released music" = "GTZAN*"', "which must be a table, each value a list, each value text"),
        ("fold = 3", "unknown value 'fold'"),
        ("folds = 1", "a plan needs 2 folds or more"),
        ('[balanced]\n"songs" = "Suno("', "no regular expression"),
    ],
)
def test_a_plan_with_a_mistake_is_refused(tmp_path: Path, text: str, words: str) -> None:
    """Text in place of a list would be taken letter by letter, and the pattern `*` of "GTZAN*" fits every source."""
    (tmp_path / "plan.toml").write_text(text)
    with pytest.raises(InputError, match=words):
        read_plan(str(tmp_path / "plan.toml"))
