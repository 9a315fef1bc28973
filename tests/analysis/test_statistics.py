"""The figures of `sonicscan-report summary` against simulations whose truth is known."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from report_samples import World, catalogue_rows, row, sample_report
from scipy.special import expit

from sonicscan.analysis.catalogue import load
from sonicscan.analysis.copies import distinct
from sonicscan.analysis.discoveries import discovered
from sonicscan.analysis.sentences import findings
from sonicscan.analysis.statistics import (
    ErrorRates,
    Estimate,
    benjamini_hochberg,
    error_rates,
    shares,
    smallest_batch,
    wilson,
)
from sonicscan.analysis.summary import StatusCount, summarise
from sonicscan.analysis.words import interval
from sonicscan.cli.report import main
from sonicscan.scoring.aggregate import judgement
from sonicscan.scoring.thresholds import Thresholds, certified_thresholds, p_value, smallest_p_value
from sonicscan.spec import Calibration, Category, Caught, Material, ModelSpec, codec_categories

TRACKS = 4000


@functools.cache
def simulated(share: float, runs: int = 150) -> np.ndarray:
    """Many worlds with `share` of AI; one row each: estimate, low, high, false flags, and their estimate, low, high."""
    world, rng, found = World(), np.random.default_rng(7), []
    n_ai = round(share * TRACKS)
    for _ in range(runs):
        spec = world.model(rng)
        limits = certified_thresholds(spec.calibration, world.max_fpr)
        flags = expit(world.margins(rng, TRACKS - n_ai, n_ai)) >= limits.flagged
        rates = error_rates(spec, limits)
        assert rates is not None
        result = shares(int(flags.sum()), TRACKS, rates)
        estimate, false = result.ai_share, result.false_flags
        assert estimate is not None
        false = false or Estimate(np.nan, np.nan, np.nan)
        truth = int(flags[: TRACKS - n_ai].sum())
        found.append((estimate.value, estimate.low, estimate.high, truth, false.value, false.low, false.high))
    return np.array(found)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3])
def test_the_share_of_ai_is_right_and_its_interval_holds_it(share: float) -> None:
    estimate, low, high = simulated(share)[:, :3].T
    assert abs(estimate.mean() - share) < 0.003
    assert 0.93 <= np.mean((low <= share) & (share <= high)) <= 1.0
    # An interval that is always right because it is wide is useless.
    assert np.mean(high - low) < 0.06


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3])
def test_the_number_of_false_flags_is_right_and_its_interval_holds_it(share: float) -> None:
    found = simulated(share)[:, 3:]
    shown = found[np.isfinite(found[:, 1])]
    # Without any AI the number of true flags is as uncertain as that of false ones, so it is mostly left out.
    assert len(shown) == len(found) if share else len(shown) < len(found)
    truth, value, low, high = shown.T
    assert abs(value.mean() - truth.mean()) < (0.25 if share == 0.0 else 0.1) * truth.mean() + 1
    assert np.mean((low <= truth) & (truth <= high)) >= 0.93


def test_without_a_true_positive_rate_the_share_is_not_guessed() -> None:
    result = shares(50, 1000, ErrorRates(false_flags=9, n_human=999, tpr=None, n_ai=0, effective_n_ai=0.0))
    assert result.ai_share is None
    assert result.why_not is not None and "does not say how much AI it catches" in result.why_not
    assert result.false_flags is None and result.chance_flags == pytest.approx(10.0)


def test_a_model_that_tells_nothing_apart_gives_no_share() -> None:
    result = shares(50, 1000, ErrorRates(false_flags=50, n_human=1000, tpr=0.01, n_ai=500, effective_n_ai=500.0))
    assert result.ai_share is None
    assert result.why_not is not None and "has not been shown to flag AI more often" in result.why_not


def test_a_model_that_hardly_tells_them_apart_gives_no_share_either() -> None:
    """0.9% of 338 caught, none of 332 flagged: the divisor is nearly zero, so there is no estimate."""
    result = shares(1, 44, ErrorRates(0, 332, 3 / 338, 338, 338.0))
    assert result.ai_share is None
    assert result.why_not is not None and "has not been shown" in result.why_not
    assert result.false_flags is None and result.chance_flags == pytest.approx(44 / 333)


def test_fewer_flags_than_by_chance_are_no_estimate_of_no_ai() -> None:
    result = shares(2, 10_000, ErrorRates(false_flags=100, n_human=1000, tpr=0.9, n_ai=100, effective_n_ai=100.0))
    assert result.ai_share is None and result.false_flags is None
    assert result.why_not is not None and "fewer tracks were flagged than would be by chance" in result.why_not


def test_a_figure_that_says_nothing_is_not_shown() -> None:
    """One flag among 32 tracks: the share may be anything. The program once said 81.6% (0% to 100%)."""
    few = shares(1, 32, ErrorRates(false_flags=0, n_human=330, tpr=0.03, n_ai=330, effective_n_ai=330.0))
    assert few.ai_share is None and few.false_flags is None
    assert few.why_not == "with 1 flag its interval is too wide; listen to a sample: sonicscan-report sample"


@pytest.mark.parametrize(
    ("estimate", "unit", "words"),
    [
        (Estimate(0.01, 0.0, 0.05), "share", "at most 5.0% (97.5% confidence)"),
        (Estimate(0.99, 0.7, 1.0), "share", "at least 70.0% (97.5% confidence)"),
        (Estimate(0.2, 0.1, 0.3), "share", "20.0% (95% interval 10.0% to 30.0%)"),
        (Estimate(0.2, 0.0, 0.0), "tracks", "at most 1 (97.5% confidence)"),
        (Estimate(3.4, 1.0, 7.0), "tracks", "3.4 (95% interval 1 to 7)"),
    ],
)
def test_no_interval_is_said_to_end_where_its_range_does(estimate: Estimate, unit: str, words: str) -> None:
    assert interval(estimate, unit) == words


def test_copies_count_once(tmp_path: Path) -> None:
    world, rng = World(), np.random.default_rng(12)
    spec = world.model(rng)
    limits = certified_thresholds(spec.calibration, 0.01)
    rows = catalogue_rows(world.margins(rng, 300, 20), spec, limits)
    margins = [m + 0.03 for m in rows[310].window_margins or []]
    copies = [
        dataclasses.replace(rows[310], path="/music/copy.flac", window_margins=margins),
        dataclasses.replace(rows[0], path="/music/same bytes.mp3", content_hash="ab" * 32),
    ]
    rows[0] = dataclasses.replace(rows[0], content_hash="ab" * 32)
    moved = dataclasses.replace(rows[311], path="/music/other.mp3", window_margins=[0.0] * 12)
    assert len(distinct([*rows, *copies])) == len(rows) == len({r.path for r in distinct(rows)})
    assert len(distinct([*rows, moved])) == len(rows) + 1
    single, doubled = (
        summarise(load(sample_report(tmp_path / "r.parquet", found, spec, limits)))
        for found in (rows, [*rows, *copies])
    )
    assert doubled.copies == 2 and doubled.assessed == single.assessed + 2
    assert doubled.ai_share == single.ai_share and doubled.chance_flags == single.chance_flags
    assert doubled.flagged_once == single.flagged_once == single.verdicts["flagged"]
    assert doubled.verdicts["flagged"] == single.verdicts["flagged"] + 1
    once = f"Of the {single.flagged_once} flagged tracks"
    assert once in " ".join(findings(single)) and f"{once} without their copies," in " ".join(findings(doubled))


@pytest.mark.parametrize("windows", ["all", "12"])
def test_a_summary_says_what_is_not_certified(tmp_path: Path, windows: str) -> None:
    world, rng = World(), np.random.default_rng(13)
    spec = world.model(rng)
    limits = certified_thresholds(spec.calibration, 0.01)
    rows = catalogue_rows(world.margins(rng, 900, 100), spec, limits)
    path = sample_report(tmp_path / "r.parquet", rows, spec, limits, options={"windows": windows})
    found = summarise(load(path))
    said = " ".join(findings(found))
    assert ("With 95% confidence, at most" in said) == (windows == "12") == (found.ai_share is not None)
    assert ("Not certified: the model was calibrated with --windows 12" in said) == (windows == "all")


def test_a_summary_of_other_material_says_so_and_estimates_nothing(tmp_path: Path) -> None:
    world, rng = World(), np.random.default_rng(14)
    spec = world.model(rng)
    known = dataclasses.replace(spec.calibration, material=Material.of(["opus"] * 1000, [48000] * 1000))
    spec = dataclasses.replace(spec, calibration=known)
    limits = certified_thresholds(spec.calibration, 0.01)
    rows = catalogue_rows(world.margins(rng, 900, 100), spec, limits)
    found = summarise(load(sample_report(tmp_path / "r.parquet", rows, spec, limits)))
    assert [sentence.split(":")[0] for sentence in found.differences] == ["codec", "sample rate"]
    assert found.ai_share is None and found.false_flags is None
    said = " ".join(findings(found))
    assert "The threshold is certified for other material: codec: " in said
    assert "no false-discovery rate can be stated" in said and "Benjamini-Hochberg" not in said


def test_groups_of_every_kind_have_e_values(tmp_path: Path) -> None:
    """One artist's twelve tracks score like AI: few groups by people reach the e-value of that artist's groups."""
    world, rng = World(), np.random.default_rng(15)
    spec = world.model(rng)
    limits = certified_thresholds(spec.calibration, 0.01)
    rows = catalogue_rows(world.margins(rng, 400, 0), spec, limits)
    high = catalogue_rows(np.full(12, 6.0), spec, limits, seed=1)
    high = [
        dataclasses.replace(r, path=f"/music/Z/{i}.mp3", artist="Zed", album="Last", isrc=f"ZZZZZ26{i:05d}",
                            window_margins=[6.0 + i] * 12)
        for i, r in enumerate(high)
    ]  # fmt: skip
    report = sample_report(tmp_path / "r.parquet", [*rows, *high], spec, limits)
    for by, name in (("artist", "Zed"), ("album", "Zed / Last"), ("folder", "Z"), ("label", "ZZZZZ")):
        done = CliRunner().invoke(main, ["summary", str(report), "--by", by, "--json", "--fdr", "0.2"])
        first, *others = json.loads(done.stdout)
        assert (first["name"], first["tracks"], first["flagged"]) == (name, 12, 12)
        assert first["error"] < 0.05 and first["e_value"] == pytest.approx(1 / first["error"])
        # 1,000 calibration tracks allow an e-value of 21, and among 41 groups 205 would be needed.
        assert first["reported"] == (by in ("album", "label"))  # of which one alone has a name
        assert not any(other["reported"] for other in others)
    said = CliRunner().invoke(main, ["summary", str(report), "--by", "label", "--fdr", "0.2"])
    assert "1 of 2 can be reported" in said.stdout and "prove nothing" not in said.stdout
    other = sample_report(tmp_path / "all.parquet", [*rows, *high], spec, limits, options={"windows": "all"})
    doubted = CliRunner().invoke(main, ["summary", str(other), "--by", "artist"]).stdout
    assert "Not certified" in doubted and "The e-values then prove nothing." in " ".join(doubted.split())


def test_a_summary_says_which_codecs_have_a_certificate_of_their_own(tmp_path: Path) -> None:
    """And the estimate counts the flags at the threshold that its error rates are about."""
    world, rng = World(), np.random.default_rng(16)
    spec = world.model(rng)
    scores = list(spec.calibration.scores)
    codecs = ["mp3"] * 600 + ["opus"] * 400  # the highest scores are all of Opus files
    known = dataclasses.replace(
        spec.calibration, categories=codec_categories(scores, codecs), material=Material.of([*codecs, "aac"], [44100])
    )
    split = dataclasses.replace(spec, calibration=known)
    limits = certified_thresholds(known, 0.01)
    margins = world.margins(rng, 900, 100)
    plain = catalogue_rows(margins, spec, certified_thresholds(spec.calibration, 0.01))
    rows = [
        dataclasses.replace(r, codec=codec, **judgement(r.score or 0.0, [], [], split, limits, codec))
        for r, codec in zip(plain, ["mp3", "opus", "aac", "flac"] * 250, strict=True)
    ]
    found = summarise(load(sample_report(tmp_path / "r.parquet", rows, split, limits)))
    told = {codec.name: (codec.tracks, codec.calibration_tracks, codec.flagged_from) for codec in found.codecs}
    assert told["mp3"] == (250, 600, limits.flagged) and told["aac"] == (250, 1, None)
    assert told["opus"][2] is not None and told["opus"][2] > limits.flagged and told["lossless"] == (250, 0, None)
    said = " ".join(findings(found))
    assert "certified for these codecs by themselves: " in said and "opus from 0." in said
    assert "The rate is not certified by itself for aac (250 tracks here, 1 in the calibration)" in said
    assert "needs 299 calibration tracks" in said
    flags = sum((r.score or 0.0) >= limits.flagged for r in rows)
    assert found.false_flags is None and found.chance_flags is None  # Opus is flagged less often than the rate says
    assert found.verdicts["flagged"] <= flags == sum(r.verdict == "flagged" for r in plain)


def test_the_smallest_p_value_is_that_of_the_smallest_kind_of_music() -> None:
    scores = [i / 1000 for i in range(1000)]
    kinds = [
        Category.of("material", "released music", scores[:400]),
        Category.of("material", "piano", scores[:200]),  # too few tracks for p-values of their own
        Category.of("codec", "mp3", scores[:350]),  # other codecs are not in it
    ]
    calibration = Calibration.of(scores, categories=[kind for kind in kinds if kind is not None])
    assert smallest_p_value(calibration) == p_value(2.0, calibration, "opus") == pytest.approx(1 / 401)
    assert smallest_p_value(Calibration.of(scores)) == pytest.approx(1 / 1001)
    assert smallest_p_value(Calibration()) is None


def test_ai_of_few_generators_tells_the_true_positive_rate_less_exactly() -> None:
    """A model that catches 60% of one half of the generators and 10% of the other: what it catches in a catalogue
    depends on which generators are in it."""
    world, rng = World(), np.random.default_rng(3)
    spec = world.model(rng)
    independent, alike = (
        error_rates(dataclasses.replace(spec, caught=(Caught(0.01, 0.35, 1000, n),)), Thresholds(0.9, None, 0.01))
        for n in (None, 20.0)
    )
    assert independent is not None and alike is not None
    assert (independent.effective_n_ai, alike.effective_n_ai, alike.n_ai) == (1000, 20.0, 1000)
    narrow, wide = (shares(300, 4000, rates).ai_share for rates in (independent, alike))
    assert narrow is not None and wide is not None and narrow.value == wide.value
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_error_rates_come_from_the_model() -> None:
    spec = ModelSpec(
        "x",
        calibration=Calibration.of([i / 1000 for i in range(1000)]),
        caught=(Caught(0.01, 0.8, 200), Caught(0.001, 0.5, 200)),
    )
    rates = error_rates(spec, Thresholds(0.99, 0.9, 0.01))
    assert rates == ErrorRates(false_flags=10, n_human=1000, tpr=0.8, n_ai=200, effective_n_ai=200.0)
    assert rates.fpr == pytest.approx(11 / 1001)
    assert error_rates(spec, Thresholds(0.99, None, None)) == ErrorRates(10, 1000, None, 0, 0.0)
    assert error_rates(spec, Thresholds(0.99, 0.9, 0.02)) == ErrorRates(10, 1000, None, 0, 0.0)
    assert error_rates(ModelSpec("x"), Thresholds(0.5)) is None


def test_benjamini_hochberg_on_a_case_done_by_hand() -> None:
    # 0.05 * k / 5: 0.01, 0.02, 0.03, 0.04, 0.05; the third fails by itself, but counts since the fourth passes.
    assert benjamini_hochberg([0.2, 0.04, 0.001, 0.035, 0.02], 0.05) == 4
    assert benjamini_hochberg([0.2, 0.3], 0.05) == 0
    assert benjamini_hochberg([], 0.05) == 0


@pytest.mark.parametrize("fdr", [0.05, 0.2])
def test_the_false_discovery_rate_is_kept(fdr: float) -> None:
    world, rng = World(n_human_calibration=2000, ai=4.0), np.random.default_rng(3)
    false, caught = [], []
    for _ in range(120):
        calibration = world.model(rng).calibration
        scores = expit(world.margins(rng, 1900, 100))
        p = np.array([p_value(score, calibration) for score in scores])
        n = benjamini_hochberg(p.tolist(), fdr)
        flagged = np.argsort(-scores, kind="stable")[:n]
        false.append(np.mean(flagged < 1900) if n else 0.0)
        caught.append(np.mean(np.isin(np.arange(1900, 2000), flagged)))
    assert np.mean(false) <= fdr * 1.1
    assert np.mean(false) >= fdr * 0.5  # it uses most of the allowed rate
    assert np.mean(caught) > 0.5


def test_a_small_calibration_cannot_single_out_a_track() -> None:
    assert smallest_batch(assessed=1000, smallest_p=1 / 400, fdr=0.05) == 50
    best = [1 / 400] * 49 + [1.0] * 951
    assert benjamini_hochberg(best, 0.05) == 0
    assert benjamini_hochberg([1 / 400, *best[:-1]], 0.05) == 50


@pytest.mark.parametrize("truth", [0.01, 0.3])
def test_the_interval_of_a_share_holds_it(truth: float) -> None:
    hits = np.random.default_rng(5).binomial(200, truth, 2000)
    found = [wilson(int(n), 200) for n in hits]
    assert 0.92 <= np.mean([e.low <= truth <= e.high for e in found]) <= 0.98
    assert wilson(0, 50).low == 0.0 and wilson(50, 50).high == 1.0


def test_every_figure_of_a_summary_against_a_known_catalogue(tmp_path: Path) -> None:
    world, rng = World(), np.random.default_rng(11)
    spec = world.model(rng)
    limits = certified_thresholds(spec.calibration, 0.01)
    margins = world.margins(rng, 2900, 100)
    rows = catalogue_rows(margins, spec, limits)
    rows += [row(f"/music/H/broken/{i}.mp3", status="empty", error="the file has no bytes.") for i in range(5)]
    summary = summarise(load(sample_report(tmp_path / "r.parquet", rows, spec, limits)), fdr=0.1, depth=2)

    flags = expit(margins) >= limits.flagged
    assert (summary.tracks, summary.assessed, summary.failed) == (3005, 3000, 5)
    assert summary.verdicts["flagged"] == flags.sum()
    assert summary.verdicts["review"] == ((expit(margins) >= limits.review) & ~flags).sum()
    assert sum(summary.verdicts.values()) == 3000
    assert summary.statuses == {
        "ok": StatusCount(3000, 0, None),
        "empty": StatusCount(5, 5, "the file has no bytes."),
    }
    assert summary.hours == pytest.approx(sum(r.duration_s or 0 for r in rows) / 3600)
    assert summary.ai_share is not None and summary.ai_share.low <= 100 / 3000 <= summary.ai_share.high
    assert summary.false_flags is not None
    assert summary.false_flags.low <= flags[:2900].sum() <= summary.false_flags.high

    assert summary.discoveries is not None
    found = discovered(rows, 0.1)
    assert summary.discoveries.tracks == len(found)
    assert summary.discoveries.score == min(r.score for r in found if r.score is not None)
    of_people = {r.path for r in rows[:2900]}
    assert np.mean([r.path in of_people for r in found]) < 0.25

    assert sum(g.tracks for g in summary.folders) == sum(g.tracks for g in summary.artists) == 3005
    assert sum(g.flagged for g in summary.folders) == sum(g.flagged for g in summary.artists) == flags.sum()
    group = next(g for g in summary.folders if g.name == "C/Artist 02")
    members = [r for r in rows if r.path.startswith("/music/C/Artist 02/")]
    assert group.tracks == len(members) and group.flagged == sum(r.verdict == "flagged" for r in members)
    broken = next(g for g in summary.folders if g.name == "H/broken")
    assert (broken.tracks, broken.assessed, broken.share) == (5, 0, None)
