"""Calibration and evaluation: what they promise, and that checkpoint and scanner agree."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import soundfile
import torch
from click.testing import CliRunner, Result
from synthesis import write_model
from training_sound import RATE, TINY, people_or_machine, write_data, write_manifest

import sonicscan
from sonicscan.audio.facts import AudioFacts
from sonicscan.audio.windows import WindowPlan
from sonicscan.errors import InputError
from sonicscan.scoring.thresholds import certified_rates, certified_thresholds
from sonicscan.spec import Calibration, Caught, Material, ModelSpec
from sonicscan_train.cli import main
from sonicscan_train.cli.evaluating import EvaluateOptions, checkpoint_scorer, scanner_scorer
from sonicscan_train.data.clips import Clip
from sonicscan_train.data.features import Features
from sonicscan_train.judge.calibration import (
    RATES,
    TEMPERATURES,
    calibrated,
    fit_scale,
    fit_unknown,
    one_of_each_group,
)
from sonicscan_train.judge.card import Findings
from sonicscan_train.judge.evaluation import evaluate, stress_row
from sonicscan_train.judge.scoring import ScoredTrack, TrackLogits, scored
from sonicscan_train.nets import checkpoint
from sonicscan_train.nets.backbones import DetectorNet, build
from sonicscan_train.sound.stress import CONDITIONS, sample, stressed

BINARY = ModelSpec(architecture=TINY)
THREE = ModelSpec(architecture=TINY, classes=("human", "suno", "udio"))


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def clip(label: str, i: int, source: str = "", group: str = "") -> Clip:
    return Clip(f"{label}{i}.wav", label, source or label, group or f"{label}{i}")


def logits(label: str, i: int, margin: float, group: str = "", source: str = "") -> TrackLogits:
    return TrackLogits(clip(label, i, source, group), np.array([[0.0, margin]] * 3), "wav 22050")


def tracks(n: int, seed: int = 0, spread: float = 1.0) -> list[TrackLogits]:
    """People's margins around -1, AI's around 1, all margins three times too large."""
    rng = np.random.default_rng(seed)
    return [
        logits(label, i, 3 * rng.normal(centre, spread))
        for label, centre in (("human", -1), ("ai", 1))
        for i in range(n)
    ]


def test_the_scale_makes_scores_probabilities() -> None:
    rng = np.random.default_rng(0)
    n = 20000
    margins, factors = rng.normal(0, 2, n), rng.choice([1.0, 0.5], n)
    truth = rng.random(n) < scipy.special.expit(factors * margins)
    for factor, offset in ((0.3, 1.0), (1.0, 0.0), (4.0, -10.0)):
        temperature, shift = fit_scale(factor * margins + offset, factors, truth)
        assert temperature == pytest.approx(factor, rel=0.06)
        assert shift == pytest.approx(offset, abs=0.1 * factor)
    worse_than_chance = fit_scale(-margins, factors, truth)
    assert worse_than_chance[0] == pytest.approx(TEMPERATURES[1], rel=0.01)


def test_a_calibration_keeps_both_classes_its_windows_and_what_the_tracks_are_like() -> None:
    found = [
        dataclasses.replace(
            t, facts=AudioFacts("ok", None, 200.0, 22050, 1, "mp3" if t.clip.human else "opus", None, (), 40)
        )
        for t in tracks(700)
    ]
    spec = calibrated(found, dataclasses.replace(BINARY, shrink=2.0), data="", windows="all")
    human, ai = ([scored(t, spec) for t in found if t.clip.human == people] for people in (True, False))
    assert spec.calibration.scores == tuple(sorted(t.score for t in human))
    assert spec.calibration.ai_scores == tuple(sorted(t.score for t in ai))
    assert spec.calibration.windows == "all"
    assert spec.calibration.material == Material.of(["mp3"] * 700, [22050] * 700, (), [200.0] * 700)
    assert [entry.max_fpr for entry in spec.caught] == [0.01, 0.02, 0.05, 0.1]
    threshold = certified_thresholds(spec.calibration, 0.05).flagged
    assert spec.caught[2] == Caught(0.05, float(np.mean([t.score >= threshold for t in ai])), 700)
    # Three windows are shrunk by 3 / (3 + 2).
    assert human[0].margin == pytest.approx(0.6 * np.mean(human[0].window_margins))


def test_ai_tracks_of_few_generators_count_as_few() -> None:
    human = [logits("human", i, 0.0) for i in range(60)]
    ai = [
        logits("ai", 100 * generator + i, 5.0 if generator % 2 else -5.0, source=f"generator {generator}")
        for generator in range(6)
        for i in range(50)
    ]
    caught = calibrated([*human, *ai], BINARY, data="test").caught
    assert [(entry.n, entry.share) for entry in caught] == [(300, 0.5)] * 2
    assert all(entry.independent_n == pytest.approx(5.0) for entry in caught)
    alike = [dataclasses.replace(track, clip=dataclasses.replace(track.clip, source="one")) for track in ai]
    assert calibrated([*human, *alike], BINARY, data="test").caught[0].independent_n == 300  # nothing is known of them


def test_calibration_counts_one_track_of_each_group() -> None:
    found = [*tracks(40), *(logits("human", 100 + i, -1.0 - i, group="album") for i in range(20))]
    spec = calibrated(found, BINARY, data="test")
    assert spec.calibration.n == 41 and spec.calibration.data == "test"
    assert calibrated(found, BINARY, data="", all_tracks=True).calibration.n == 60
    human = [t for t in found if t.clip.human]
    chosen = [t.clip.path for t in one_of_each_group(human, 0)]
    assert chosen == [t.clip.path for t in one_of_each_group(list(reversed(human)), 0)]
    assert {t.clip.path for seed in range(300) for t in one_of_each_group(human, seed)} == {t.clip.path for t in human}
    # Songs of one artist are as little independent, whatever their groups are.
    by_three = [
        dataclasses.replace(t, clip=dataclasses.replace(t.clip, artist=f"a{i % 3}")) for i, t in enumerate(human[:40])
    ]
    assert len(one_of_each_group(by_three, 0)) == 3
    ai = [t for t in found if not t.clip.human]
    assert calibrated([*by_three, *ai], BINARY, data="").calibration.n == 3
    # The scores stored are those that the scanner gives, temperature and all.
    assert set(spec.calibration.scores) <= {scored(t, spec).score for t in human}


def test_codec_tracks_calibrate_nothing_and_one_class_is_refused() -> None:
    found = tracks(30)
    with_codec = [*found, *(logits("codec", i, 9.0) for i in range(30))]
    assert calibrated(with_codec, BINARY, data="") == calibrated(found, BINARY, data="")
    with pytest.raises(InputError, match="there is none by AI"):
        calibrated([t for t in with_codec if t.clip.label != "ai"], BINARY, data="")


def test_certified_rates_hold_as_often_as_they_promise() -> None:
    broken = 0
    later = [scored(t, BINARY).score for t in tracks(4000, seed=10_000) if t.clip.human]
    for seed in range(60):
        calibration = Calibration.of(
            [scored(t, BINARY).score for t in tracks(100, seed) if t.clip.human], ai_scores=[1.0, 0.0]
        )
        rates = {rate.max_fpr: rate for rate in certified_rates(calibration, RATES)}
        assert rates[0.01].threshold is None and rates[0.01].tracks_needed == 299
        assert rates[0.05].threshold is not None and rates[0.1].caught == 0.5
        broken += bool(np.mean(np.array(later) >= rates[0.05].threshold) > 0.055)
    assert broken <= 6  # 5% of 60, and what chance adds


def test_unknown_generators_are_told_by_their_share() -> None:
    def of(source: str, first: float, second: float) -> TrackLogits:
        return TrackLogits(clip("ai", 0, source), np.array([[-5.0, first, second]]), "")

    known = [of("suno", 3.0 + i / 10, 0.0) for i in range(20)] + [of("udio", 0.0, 3.0 + i / 10) for i in range(20)]
    strange = [of("new", 0.1 * i, 0.0) for i in range(10)]
    below = fit_unknown(known, strange, THREE)
    assert 0.7 < below <= scipy.special.expit(3.0)
    assert fit_unknown(known, [], THREE) == pytest.approx(scipy.special.expit(3.2), abs=0.02)
    people = [TrackLogits(clip("human", i), np.array([[5.0, 0.0, 0.0]]), "") for i in range(3)]
    fitted = calibrated([*known, *people], THREE, strange, data="")
    assert fitted.unknown_below == fit_unknown(
        known, strange, dataclasses.replace(THREE, temperature=fitted.temperature, offset=fitted.offset)
    )


def scored_tracks(n: int = 60, seed: int = 0) -> list[ScoredTrack]:
    return [scored(t, dataclasses.replace(BINARY, temperature=3.0)) for t in tracks(n, seed)]


def test_an_evaluation_counts_what_it_should() -> None:
    found = scored_tracks()
    found = [dataclasses.replace(t, format="mp3 44100" if i % 2 else "flac 48000") for i, t in enumerate(found)]
    codec = [scored(logits("codec", i, 9.0), BINARY) for i in range(5)]
    calibration = Calibration.of([t.score for t in scored_tracks(400, 5) if t.clip.human])
    spec = dataclasses.replace(BINARY, calibration=calibration)
    plain, with_codec = (
        evaluate("test", found, spec, bootstraps=20),
        evaluate("test", found + codec, spec, bootstraps=20),
    )
    assert plain.tracks == with_codec.tracks and plain.windows == with_codec.windows
    assert with_codec.counts == {"people": 60, "ai": 60, "codec": 5, "groups": 120, "windows": 360}
    assert with_codec.codec[0]["tracks"] == 5 and with_codec.codec[0]["auc"] == pytest.approx(1.0) and plain.codec == ()
    flagged = np.array([t.score >= 0.5 for t in found])
    truth = np.array([not t.clip.human for t in found])
    assert plain.tracks["recall"]["value"] == pytest.approx(flagged[truth].mean())
    assert plain.tracks["specificity"]["value"] == pytest.approx(1 - flagged[~truth].mean())
    assert [row["rate"] for row in plain.certified] == [0.1, 0.05, 0.02, 0.01]
    assert plain.certified[0]["fpr"] >= plain.certified[3]["fpr"]
    (generator,), (source,) = plain.generators, plain.sources
    assert (generator["tracks"], source["tracks"]) == (60, 60) and source["at_5_fpr"] <= 0.05
    assert generator["auc"] == plain.tracks["auc"]["value"]
    assert {(r["format"], r["people"], r["ai"]) for r in plain.formats} == {
        ("mp3 44100", 30, 30),
        ("flac 48000", 30, 30),
    }
    assert plain.confusion is None and plain.baseline == ()
    with pytest.raises(InputError, match="no track by people"):
        evaluate("test", [t for t in found if not t.clip.human], spec)


def test_a_rate_under_one_percent_is_named_as_it_is() -> None:
    spec = dataclasses.replace(BINARY, calibration=Calibration.of(list(np.linspace(0.01, 0.6, 3000))))
    section = evaluate("test", scored_tracks(), spec, bootstraps=5)
    found = Findings(section, 0.001, by_windows=[], by_category=[], own_thresholds={}, stress={})
    assert "At the 0.1% false-positive rate, certified on 3000 groups" in found.summary(spec)


@pytest.mark.parametrize("wrong", [("--rate", "0"), ("--rate", "2"), ("--bootstraps", "0"), ("--stress-tracks", "1")])
def test_crossfit_refuses_impossible_options_before_it_reads_anything(wrong: tuple[str, str]) -> None:
    done = invoke("crossfit", "none.onnx", "--data", "none", "--folds", "none", "--name", "x", "--out", "x", *wrong)
    assert done.exit_code == 2 and wrong[0] in done.stderr


def test_the_trivial_baseline_stands_beside_the_model() -> None:
    found = scored_tracks(20)
    features = {
        t.clip.path: Features(8000.0 + 100 * (not t.clip.human), 44100.0, 2.0, "mp3", -20, -1, 9.0, 0.0, -90, "")
        for t in found
    }
    section = evaluate("test", found, BINARY, features=features, bootstraps=5)
    assert (section.baseline[0].feature, section.baseline[0].auc) == ("bandwidth_hz", 1.0)


def test_confusion_counts_unknown_and_people() -> None:
    spec = dataclasses.replace(THREE, unknown_below=0.9)

    def of(label: str, source: str, row: list[float]) -> ScoredTrack:
        return scored(TrackLogits(clip(label, 0, source), np.array([row]), ""), spec)

    section = evaluate(
        "test",
        [
            of("human", "studio", [5, 0, 0]),
            of("human", "studio", [-5, 5, 0]),
            of("ai", "chirp", [-5, 5, 0]),
            of("ai", "udio", [-5, 1, 1.5]),
            of("ai", "new", [5, 0, 0]),
        ],
        spec,
        families={"chirp": "suno"},
        bootstraps=5,
    )
    assert section.confusion is not None
    rows, columns, counts = section.confusion
    assert rows == ["human", "suno", "udio", "new"] and columns == ["human", "suno", "udio", "unknown"]
    assert counts == [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0]]


def test_drift_is_the_movement_of_scores() -> None:
    clean = scored_tracks(20)
    moved = [dataclasses.replace(t, score=min(1.0, t.score + 0.2)) for t in clean]
    row = stress_row(clean, moved)
    assert row["auc_clean"] == stress_row(clean, clean)["auc"]
    assert 0.1 < row["drift_people"] < 0.201 and 0 < row["changed_sides"] < 1
    assert stress_row(clean, clean)["moved"] == 0.0


@pytest.mark.parametrize("condition", CONDITIONS)
def test_every_stress_condition_leaves_sound_that_differs(condition: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", people_or_machine(False, 0, 3.0), RATE)
    (tmp_path / "b.wav").write_text("no sound")
    clips = [Clip(str(tmp_path / name), "human", "s", name) for name in ("a.wav", "b.wav")]
    skipped: list[str] = []
    with stressed(clips, condition, 2.0, 1, lambda clip, why: skipped.append(clip.path)) as (made, none):
        assert made is not None and none is None and skipped == [clips[1].path]
        sound, rate = soundfile.read(made.path)
        assert rate == 44100 and len(sound) == pytest.approx(2 * 44100, rel=0.12) and np.abs(sound).max() > 0.01
        with stressed(clips[:1], "clean", 2.0, 1, lambda *_: None) as (clean,):
            assert clean is not None
            reference = soundfile.read(clean.path)[0]
        same = len(reference) == len(sound) and np.array_equal(reference, sound)
        assert same == (condition == "clean")
    assert not Path(made.path).exists()


def test_a_stress_sample_is_balanced_and_repeatable() -> None:
    clips = [clip("human", i) for i in range(50)] + [clip("ai", i) for i in range(7)]
    chosen = sample(clips, 20)
    assert sum(c.human for c in chosen) == 10 and len(chosen) == 17
    assert chosen == sample(clips, 20)


def test_a_checkpoint_scores_as_the_scanner_would(tmp_path: Path) -> None:
    """The torch path's windows and arithmetic, against `sonicscan.scan` on the same weights in ONNX."""
    data = write_data(tmp_path / "data", 3, seconds=12.0)
    soundfile.write(data.parent / "human000.wav", np.zeros(5 * RATE), RATE)
    sound = np.concatenate([np.zeros(7 * RATE, np.float32), people_or_machine(True, 3, 6.0)])
    soundfile.write(data.parent / "ai000.wav", sound, RATE)  # its first window is silent
    torch.manual_seed(0)
    spec = dataclasses.replace(BINARY, temperature=0.5)
    model = build(TINY, 2, seed=0).eval()
    with torch.no_grad():
        model.head.weight *= 30
    checkpoint.save(tmp_path / "model", model, spec)
    export_onnx(model, spec, tmp_path / "model.onnx")
    options = EvaluateOptions(plan=WindowPlan(3), workers=0)
    clips = [Clip(str(path), "human", "s", path.name) for path in sorted(data.parent.glob("*.wav"))]
    by_torch = {t.clip.path: t for t in checkpoint_scorer(tmp_path / "model", options)[0](clips, lambda: None)}
    scanner = scanner_scorer(tmp_path / "model.onnx", dataclasses.replace(options, workers=1))[0]
    by_scanner = {t.clip.path: t for t in scanner(clips, lambda: None)}
    assert by_torch.keys() == by_scanner.keys() and len(by_torch) == 5  # the silent one has no score
    for path, ours in by_torch.items():
        theirs = by_scanner[path]
        assert ours.score == pytest.approx(theirs.score, abs=1e-4) and ours.format == theirs.format
        assert ours.window_margins == pytest.approx(theirs.window_margins, abs=1e-3)
        assert ours.class_scores == pytest.approx(theirs.class_scores, abs=1e-4)
    assert len(by_torch[str(data.parent / "ai000.wav")].window_margins) == 2
    assert np.std([t.margin for t in by_torch.values()]) > 0.01


def export_onnx(model: DetectorNet, spec: ModelSpec, path: Path) -> None:
    from sonicscan_export import graph, onnxfile

    onnxfile.write(onnxfile.with_spec(graph.to_onnx(model), spec), path)


def test_calibrate_and_evaluate_from_the_command_line(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", 12, seconds=1.5)
    split = tmp_path / "split.csv"
    done = invoke("split", data, "--out", split, "--valid", "0.2", "--test", "0.3", "--calibration", "0.25")
    assert done.exit_code == 0, done.stderr
    checkpoint.save(tmp_path / "model", build(TINY, 2, seed=0), BINARY)
    before = (tmp_path / "model" / "model.safetensors").read_bytes()
    done = invoke("calibrate", tmp_path / "model", "--data", split, "--out", tmp_path / "calibrated", "--workers", "0")
    assert done.exit_code == 0, done.stderr
    assert "rate 0.01\tnot certified: needs 299" in done.stdout
    spec = checkpoint.load_spec(tmp_path / "calibrated")
    assert spec.calibration.n == 3 and spec.calibration.data.startswith("calibration: 3 groups")
    assert spec.calibration.windows == "12" and spec.calibration.n_ai == 3 and spec.calibration.material is not None
    assert spec.temperature != 1.0 and checkpoint.load_spec(tmp_path / "model") == BINARY
    assert (tmp_path / "calibrated" / "model.safetensors").read_bytes() == before
    refused = invoke("calibrate", tmp_path / "model", "--data", split, "--max-fpr", "0.01", "--workers", "0")
    assert refused.exit_code == 2 and "needs 299 independent tracks" in refused.stderr
    assert checkpoint.load_spec(tmp_path / "model") == BINARY
    assert invoke("calibrate", tmp_path / "model", "--data", split, "--part", "train").exit_code == 2
    refused = invoke("calibrate", tmp_path / "model", "--data", split, "--max-fpr", "0")
    assert refused.exit_code == 2 and "--max-fpr" in refused.stderr
    out = tmp_path / "evaluation"
    done = invoke("evaluate", tmp_path / "calibrated", "--data", split, "--out", out, "--workers", "0",
                  "--bootstraps", "20")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("test\tAUC ")
    found = json.loads((out / "evaluation.json").read_text())
    assert found["calibration_tracks"] == 3 and list(found["parts"]) == ["test"]
    assert found["parts"]["test"]["counts"]["people"] + found["parts"]["test"]["counts"]["ai"] == 8
    text = (out / "evaluation.md").read_text()
    for heading in ("By generator", "By human source", "By format", "Trivial baselines"):
        assert f"### {heading}" in text
    for name in ("roc.png", "scores-test.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    assert invoke("evaluate", tmp_path / "model", "--data", split, "--part", "holdout", "--out", out).exit_code == 2
    refused = invoke("evaluate", tmp_path / "model", "--data", split, "--out", data)
    assert refused.exit_code == 2 and "cannot be made: File exists" in refused.stderr
    other = write_data(tmp_path / "other", 1, seconds=1.5)
    for command in ("calibrate", "evaluate"):
        refused = invoke(command, tmp_path / "model", "--data", split, "--data", other, "--out", out)
        assert refused.exit_code == 2 and "2 of 26 clips have no part in the split" in refused.stderr
        refused = invoke(command, tmp_path / "model", "--data", data, "--part", "test", "--out", out)
        assert refused.exit_code == 2 and "the data has no split, and so no part 'test'" in refused.stderr


def test_an_onnx_model_is_evaluated_and_stressed_through_the_scanner(tmp_path: Path) -> None:
    spec = dataclasses.replace(THREE, unknown_below=0.6)
    model = write_model(tmp_path / "model.onnx", spec, gain=30.0, bias=-9.0)
    data = write_data(tmp_path / "data", 4, seconds=1.5)
    rows = [dict(zip(("path", "label", "source", "group"), line.split(","), strict=True))
            for line in data.read_text().split()[1:]]  # fmt: skip
    soundfile.write(data.parent / "codec.wav", people_or_machine(False, 77, 1.5), RATE)
    rows.append({"path": "codec.wav", "label": "codec", "source": "encodec", "group": "c"})
    soundfile.write(data.parent / "short one.wav", people_or_machine(True, 78, 0.5), RATE)
    soundfile.write(data.parent / "brief one.wav", people_or_machine(True, 79, 1.05), RATE)
    rows += [{"path": f"{n} one.wav", "label": "ai", "source": "beta", "group": n} for n in ("short", "brief")]
    write_manifest(data, rows)
    out = tmp_path / "evaluation"
    done = invoke("evaluate", model, "--data", data, "--out", out, "--stress", "--stress-tracks", "12", "--workers",
                  "1", "--stress-seconds", "1.5", "--bootstraps", "10", "--family", "alpha=suno")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    found = json.loads((out / "evaluation.json").read_text())
    # A track without a score is not stressed; one that a condition makes too short is named.
    assert found["stress"]["all"]["clean"]["tracks"] == 9 and found["stress"]["all"]["tempo 1.1"]["tracks"] == 8
    unscored = [line for line in done.stderr.splitlines() if line.startswith("no score")]
    assert len(unscored) == 2 and "short one.wav" in unscored[0] and "brief_one.wav" in unscored[1]
    part = found["parts"]["all"]
    assert part["counts"]["codec"] == 1 and part["codec"][0]["source"] == "encodec"
    assert part["confusion"][0] == ["human", "suno", "udio", "beta", "codec"]
    assert list(found["stress"]["all"]) == list(CONDITIONS)
    assert found["stress"]["all"]["clean"]["moved"] == 0.0 and found["stress"]["all"]["low-pass 6 kHz"]["moved"] > 0
    for name in ("confusion-all.png", "stress-all.png", "roc.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    # The figures are those of the scanner's own scores.
    scores = {Path(r.path).name: r.score for r in sonicscan.scan(data.parent, model=model, threshold=0.5, workers=1)}
    people = [float(scores[row["path"]] or 0) for row in rows if row["label"] == "human"]
    source = {row["source"]: row["mean_score"] for row in part["sources"]}
    assert np.mean(list(source.values())) == pytest.approx(np.mean(people))
