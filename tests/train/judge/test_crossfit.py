"""Cross-fitting: each fold by its own member, one scale, a certificate from groups, and the files that come of it."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from synthesis import write_model
from training_sound import RATE, people_or_machine, write_manifest

from sonicscan.audio.windows import WindowPlan
from sonicscan.errors import InputError
from sonicscan.scoring.thresholds import certified_threshold
from sonicscan.spec import PRESETS, ModelSpec
from sonicscan_train.cli import main
from sonicscan_train.data.clips import Clip
from sonicscan_train.judge.crossfit import (
    MOST_SHRINK,
    by_category,
    by_window_count,
    cross_fitted,
    cut_short,
    fit_shrink,
    own_threshold,
)
from sonicscan_train.judge.members import read_fit
from sonicscan_train.judge.scoring import TrackLogits, scored

PLAN = WindowPlan()


def track(clip: Clip, margins: list[float]) -> TrackLogits:
    return TrackLogits(clip, np.array([[0.0, m] for m in margins]), "wav 22050")


def tracks(
    n: int, rng: np.random.Generator, *, spread: float = 1.0, gain: float = 1.0, shift: float = 0.0, windows: int = 4
) -> list[TrackLogits]:
    """`n` tracks by people around -1 and `n` by AI around 1, on a member's own scale; three of each group."""
    found = []
    for i in range(2 * n):
        human = i < n
        level = rng.normal(-1.0 if human else 1.0, 0.5)
        margins = gain * (rng.normal(level, spread, windows)) + shift
        source = ("GTZAN rock" if i % 2 else "site") if human else f"gen{i % 3}"
        clip = Clip(f"{rng.integers(2**40)}", "human" if human else "ai", source, f"{gain}-{human}-{i // 3}")
        found.append(track(clip, margins.tolist()))
    return found


def test_members_are_put_on_one_scale_and_groups_count_once() -> None:
    rng = np.random.default_rng(0)
    folds = [tracks(600, rng), tracks(600, rng, gain=5.0, shift=3.0)]
    fit = cross_fitted(folds, ModelSpec("two"), plan=PLAN, data="test", shrink=0.0)
    first, second = fit.scales
    assert second.temperature / first.temperature == pytest.approx(5.0, rel=0.15)
    assert second.offset - 5.0 * first.offset == pytest.approx(3.0, abs=0.5)
    assert fit.spec.calibration.n == fit.spec.calibration.n_ai == 400  # 1,200 tracks of each class, three a group
    assert (fit.spec.temperature, fit.spec.offset) == (pytest.approx(1.0, abs=0.02), pytest.approx(0.0, abs=0.02))
    assert fit.spec.calibration.windows == "12"
    assert {entry.n for entry in fit.spec.caught} == {1200}  # all AI tracks, as on the card
    threshold = certified_threshold(fit.spec.calibration, 0.01)
    flagged = np.mean([scored(t, fit.spec).score >= threshold for t in fit.tracks if t.clip.human])
    assert flagged < 0.015
    row = own_threshold(fit, ["GTZAN*"], 0.05)
    assert row is not None and row.flagged is not None and row.flagged <= 0.05 and row.ai == 1200
    assert own_threshold(fit, ["none"], 0.05) is None
    kinds = {row.name: row for row in by_category(fit, {"GTZAN": ["GTZAN*"], "gen1": ["gen1"], "none": ["none"]}, 0.05)}
    assert kinds["none"].auc is None and kinds["gen1"].people == kinds["GTZAN"].ai == 0
    levels = {
        human: [scored(t, fit.spec).score for t in fit.tracks if t.clip.human is human] for human in (True, False)
    }
    pairs = np.subtract.outer(levels[False], levels[True])
    assert kinds["GTZAN"].auc == pytest.approx(np.mean(pairs > 0), abs=0.01)
    wanted = {"released": ["GTZAN*"], "other": ["none"]}
    lifted = cross_fitted(folds, ModelSpec("two"), plan=PLAN, data="test", shrink=0.0, categories=wanted).spec
    (released,) = lifted.calibration.categories
    assert (released.kind, released.name) == ("material", "released") and 100 < released.n < 300
    assert certified_threshold(lifted.calibration, 0.05) >= row.threshold * 0.9
    assert dataclasses.replace(lifted.calibration, categories=()) == fit.spec.calibration
    with pytest.raises(InputError, match="fold 1 needs tracks by people and by AI"):
        cross_fitted([folds[0], [t for t in folds[1] if t.clip.human]], ModelSpec("x"), plan=PLAN, data="", shrink=0.0)


def test_the_shrink_constant_makes_short_tracks_no_likelier_to_be_flagged() -> None:
    rng = np.random.default_rng(1)
    noisy = [tracks(3000, rng, spread=2.5)]
    plain = cross_fitted(noisy, ModelSpec("x"), plan=PLAN, data="", shrink=0.0)
    fitted = cross_fitted(noisy, ModelSpec("x"), plan=PLAN, data="", shrink=None)
    assert 0.0 < fitted.spec.shrink < MOST_SHRINK
    rates = {name: {r.name: r.flagged or 0.0 for r in by_window_count(fit, 0.01)} for name, fit in
             (("plain", plain), ("fitted", fitted))}  # fmt: skip
    assert set(rates["plain"]) == {"1 window", "2 windows", "3 windows"}
    assert rates["plain"]["1 window"] > 0.03 > rates["fitted"]["1 window"]
    # Windows that agree need no shrinking, and from single windows nothing can be fitted.
    assert fit_shrink([track(Clip("a", "human", "s", "a"), [1.0, 1.0])] * 50) == 0.0
    assert fit_shrink([track(Clip("a", "human", "s", "a"), [1.0])]) == 0.0


def test_a_track_is_cut_to_windows_spread_over_it() -> None:
    whole = track(Clip("a", "human", "s", "a"), [0.0, 1.0, 2.0, 3.0, 4.0])
    assert [cut_short(whole, n).logits[:, 1].tolist() for n in (1, 2, 3, 9)] == [
        [2.0], [0.0, 4.0], [0.0, 2.0, 4.0], [0.0, 1.0, 2.0, 3.0, 4.0]]  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short files of both classes in two folds, and one that went through a codec."""
    folder = tmp_path_factory.mktemp("corpus")
    rows, folds = [], []
    for i in range(17):
        label = ("human", "ai")[i % 2] if i < 16 else "codec"
        sound = people_or_machine(label != "human", i, 6.0)
        soundfile.write(folder / f"{i}.wav", sound, RATE)
        rows.append({"path": f"{i}.wav", "label": label, "source": f"{label}{i % 3}", "group": f"g{i}"})
        folds.append({"path": f"{i}.wav", "fold": str(i // 2 % 2)})
    write_manifest(folder / "folds.csv", folds)
    write_manifest(folder / "manifest.csv", rows)
    return folder


def crossfit(corpus: Path, out: Path, members: list[Path], *options: str, data: Path | None = None) -> Result:
    arguments = ["crossfit", *map(str, members), "--data", str(data or corpus / "manifest.csv"), "--name", "two-v1",
                 "--folds", str(corpus / "folds.csv"), "--workers", "1", "--bootstraps", "20"]  # fmt: skip
    return CliRunner().invoke(main, [*arguments, "--out", str(out), *options])


def test_the_command_scores_each_fold_with_the_scanner_and_writes_contract_and_card(
    corpus: Path, tmp_path: Path
) -> None:
    members = []
    for k, gain in enumerate((10.0, 30.0)):
        provenance = {"fold": k, "weights_digest": f"digest{k}", "recipe": "small"}
        provenance |= {"precision": "int8"} if k == 0 else {}
        spec = ModelSpec("tiny", temperature=2.0, offset=0.5, provenance=provenance)
        members.append(write_model(tmp_path / f"m{k}.onnx", spec, gain=gain))
    out = tmp_path / "out"
    done = crossfit(corpus, out, members, "--stress-tracks", "4", "--license-note", "test only")
    assert done.exit_code == 0, done.output
    assert "fitted on tracks of at most 2 windows" in done.stderr
    assert "member 1\ttemperature" in done.stdout and "for ranking, not proof" in done.stdout
    spec, fitted = read_fit(out)
    assert [(m.weights_digest, m.precision) for m in fitted] == [("digest0", "int8"), ("digest1", "fp32")]
    assert (spec.architecture, spec.calibration.n, spec.calibration.n_ai) == ("two-v1", 8, 8)
    assert spec.license_note == "test only" and spec.calibration.material is not None
    with (out / "fold-0.csv").open() as file:
        rows = list(csv.DictReader(file))
    # The margins are raw: those of the same file and windows, whatever temperature the member's contract names.
    write_model(tmp_path / "plain.onnx", ModelSpec("tiny", provenance={"fold": 0}), gain=10.0)
    assert crossfit(corpus, tmp_path / "again", [tmp_path / "plain.onnx", members[1]]).exit_code == 0
    with (tmp_path / "again" / "fold-0.csv").open() as file:
        plain = list(csv.DictReader(file))
    assert np.allclose(json.loads(rows[3]["logits"]), json.loads(plain[3]["logits"]), atol=1e-4)
    card = (out / "card.md").read_text()
    assert "# Model card: two-v1" in card and "| mp3 64 |" in card and "$" not in card
    assert "Families" not in card
    with (out / "by-source.csv").open() as file:
        sources = {(row["label"], row["source"]): row for row in csv.DictReader(file)}
    assert int(sources["codec", "codec1"]["tracks"]) == 1 and sources["human", "human0"]["auc"] == ""
    # The folds' order is that of the members.
    set_by_hand = crossfit(corpus, out, members, "--shrink", "1")
    assert set_by_hand.exit_code == 0 and "fitted on tracks" not in set_by_hand.stderr
    assert read_fit(out)[0].shrink == 1.0
    assert crossfit(corpus, out, members[::-1]).exit_code == 2
    # A member of one fold alone is calibrated on that fold.
    one = crossfit(corpus, tmp_path / "one", members[1:])
    assert one.exit_code == 0, one.output
    spec, fitted = read_fit(tmp_path / "one")
    assert [m.weights_digest for m in fitted] == ["digest1"] and (spec.calibration.n, spec.calibration.n_ai) == (4, 4)
    with (tmp_path / "one" / "fold-1.csv").open() as file:
        assert {int(Path(row["path"]).stem) // 2 % 2 for row in csv.DictReader(file)} == {1}
    card = (tmp_path / "one" / "card.md").read_text()
    assert "log-mel image, 256 x 256, of 5 s at 22,050 Hz, up to 8 kHz; 12 windows" in card
    assert "These tracks were not in its training" in card and "mean of all members" not in card
    seed_like = ModelSpec("tiny", audio=PRESETS["seed"], provenance={"fold": 0}, license_note="own terms")
    other = write_model(tmp_path / "other.onnx", seed_like, gain=10.0)
    refused = crossfit(corpus, tmp_path / "no", [other, members[1]])
    assert refused.exit_code == 2 and "has another AudioSpec than" in refused.stderr
    assert crossfit(corpus, tmp_path / "seed", [other]).exit_code == 0
    card = (tmp_path / "seed" / "card.md").read_text()
    assert "log-mel image, 256 x 256, of 6 s at 22,050 Hz, up to 11.025 kHz; 12 windows" in card
    assert "| licence | own terms |" in card and read_fit(tmp_path / "seed")[0].license_note == "own terms"
    nameless = write_model(tmp_path / "nameless.onnx", ModelSpec("tiny"), gain=10.0)
    refused = crossfit(corpus, tmp_path / "no", [nameless])
    assert refused.exit_code == 2 and "give one member for each" in refused.stderr


def test_scores_are_used_again_for_the_same_member_windows_and_tracks_only(corpus: Path, tmp_path: Path) -> None:
    members = [write_model(tmp_path / f"m{k}.onnx", ModelSpec("tiny", provenance={"fold": k})) for k in (0, 1)]
    rows = (corpus / "manifest.csv").read_text().splitlines(keepends=True)
    fewer = corpus / "fewer.csv"
    fewer.write_text("".join(row for row in rows if not row.startswith("16.wav")))
    out = tmp_path / "out"

    def scored(data: Path, *options: str) -> dict[str, int]:
        """Windows of each track in fold 0."""
        done = crossfit(corpus, out, members, "--shrink", "0", *options, data=data)
        assert done.exit_code == 0, done.output
        with (out / "fold-0.csv").open() as file:
            return {Path(row["path"]).name: len(json.loads(row["logits"])) for row in csv.DictReader(file)}

    first = scored(fewer)
    assert set(first.values()) == {2} and "16.wav" not in first
    made = (out / "fold-0.csv").stat().st_mtime_ns
    assert scored(fewer) == first and (out / "fold-0.csv").stat().st_mtime_ns == made
    more = scored(corpus / "manifest.csv")
    assert more == {**first, "16.wav": 2}
    assert scored(corpus / "manifest.csv", "--windows", "1") == dict.fromkeys(more, 1)
    # A track without a score is named again.
    lines = (out / "fold-0.csv").read_text().splitlines(keepends=True)
    (out / "fold-0.csv").write_text("".join(line for line in lines if "/0.wav," not in line))
    again = crossfit(corpus, out, members, "--shrink", "0", "--windows", "1")
    assert again.exit_code == 0 and f"no score: {corpus / '0.wav'}: it had none" in again.stderr


def families_track(clip: Clip, margins: list[float], shares: list[float]) -> TrackLogits:
    """A track whose windows have these margins, and these shares of two families."""
    others = np.array(margins)[:, None] + np.log(shares)
    return TrackLogits(clip, np.concatenate([np.zeros((len(margins), 1)), others], axis=1), "wav 22050")


def test_a_member_of_several_classes_is_scaled_inside_the_logarithm() -> None:
    rng = np.random.default_rng(3)
    plain: list[TrackLogits] = []
    for i in range(1200):
        human = i % 2 == 0
        name = "human" if human else ("suno", "other")[i // 2 % 2]
        margins = rng.normal(rng.normal(-1.0 if human else 1.0, 1.0), 0.3, 3)
        sure = rng.uniform(0.5, 0.99)
        right = rng.random() < 0.8
        shares = [sure, 1.0 - sure] if (name == "suno") == right else [1.0 - sure, sure]
        clip = Clip(f"{i}", "human" if human else "ai", name, f"g{i}")
        plain.append(families_track(clip, margins.tolist(), shares))
    stretched = [
        dataclasses.replace(t, logits=np.concatenate([t.logits[:, :1], 3.0 * t.logits[:, 1:] + 2.0], axis=1))
        for t in plain
    ]
    spec = ModelSpec("two", classes=("human", "suno", "other"))
    one, two = (
        cross_fitted([tracks], spec, plan=PLAN, data="", shrink=0.0, families={}) for tracks in (plain, stretched)
    )
    assert two.scales[0].temperature / one.scales[0].temperature == pytest.approx(3.0, rel=1e-4)
    first, second = ([scored(t, fit.spec).score for t in fit.tracks] for fit in (one, two))
    assert np.allclose(first, second, atol=1e-4)
    # The limit lies inside the range of shares, and at it more names are right than without it.
    assert one.spec.unknown_below is not None and 0.5 <= one.spec.unknown_below <= 1.0
    assert one.spec.unknown_below == pytest.approx(two.spec.unknown_below, abs=1e-3)


def test_members_of_several_classes_are_scored_and_the_card_names_families(corpus: Path, tmp_path: Path) -> None:
    classes = ("human", "one", "two")
    members = [
        write_model(tmp_path / f"m{k}.onnx", ModelSpec("tiny", classes=classes, provenance={"fold": k}), gain=10.0)
        for k in range(2)
    ]
    families = ["--family", "ai*=one", "--family", "ai2=two"]
    assert crossfit(corpus, tmp_path / "out", members, *families).exit_code == 0
    spec, _ = read_fit(tmp_path / "out")
    assert spec.classes == classes and spec.unknown_below is not None
    with (tmp_path / "out" / "fold-0.csv").open() as file:
        logits = np.array(json.loads(next(csv.DictReader(file))["logits"]))
    assert logits.shape[1] == 2 and np.allclose(logits[:, 0] - logits[:, 1], 1.0)  # as `write_model` makes them
    card = (tmp_path / "out" / "card.md").read_text()
    assert "| one | " in card and "| codec | 1 |" in card and "## Families" in card
    other = write_model(tmp_path / "o.onnx", ModelSpec("tiny", classes=("human", "one"), provenance={"fold": 1}))
    refused = crossfit(corpus, tmp_path / "no", [members[0], other])
    assert refused.exit_code == 2 and "has other classes than" in refused.stderr


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no cross-fitted calibration"):
        read_fit(tmp_path)
