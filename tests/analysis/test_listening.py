"""A sample that people listen to: how it is drawn, and how often its intervals contain the true value."""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from report_samples import World, catalogue_rows, row, sample_report
from scipy.special import expit

from sonicscan.analysis.catalogue import load
from sonicscan.analysis.listening import (
    ListenedEstimates,
    Stratum,
    counted,
    draw,
    estimate,
)
from sonicscan.analysis.reviewed import Decision, Reviewed, load_reviewed
from sonicscan.analysis.statistics import prediction_powered
from sonicscan.cli.report import main
from sonicscan.cli.scan import main as scanner
from sonicscan.errors import InputError
from sonicscan.report.row import FileResult

DAY = dt.date(2026, 2, 1)


def library(rng: np.random.Generator, n: int, share: float) -> tuple[list[FileResult], np.ndarray]:
    """Rows of a poor model whose calibration is wrong, and which of them are AI."""
    ai = rng.random(n) < share
    scores = expit(rng.normal(np.where(ai, 1.0, -1.5), 1.5))
    verdicts = np.where(scores > 0.8, "flagged", np.where(scores > 0.5, "review", "clear"))
    rows = [
        row(f"{i:05d}.mp3", float(s), verdict=str(v)) for i, (s, v) in enumerate(zip(scores, verdicts, strict=True))
    ]
    return rows, ai


def listened(rows: list[FileResult], ai: np.ndarray, n: int, seed: int) -> ListenedEstimates:
    """The estimates from decisions that are all correct."""
    drawn = draw(rows, n, seed)
    kinds = {r.path: "ai" if truth else "human" for r, truth in zip(rows, ai, strict=True)}
    decisions = {t.row.path: Decision(t.row.path, "", kinds[t.row.path], "Kim", DAY, None) for t in drawn}  # type: ignore[arg-type]
    return estimate(rows, {t.row.path: t.stratum for t in drawn}, Reviewed(decisions), DAY)


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_intervals_hold_the_truth_as_often_as_they_say(share: float) -> None:
    """10,000 samples of 120 tracks from one library: each interval contains the true value in 93% to 97% of them."""
    rng = np.random.default_rng(1)
    rows, ai = library(rng, 900, share)
    verdicts = np.array([r.verdict for r in rows])
    flagged = verdicts == "flagged"
    truth = [ai.mean(), (flagged & ~ai).sum() / (~ai).sum(), (flagged & ~ai).sum() / flagged.sum(),
             (ai & ~flagged).sum() / ai.sum()]  # fmt: skip
    sizes = Counter(t.stratum for t in draw(rows, 120))
    strata = [Stratum(name, int((verdicts == name).sum()), n, n, 0) for name, n in sorted(sizes.items())]
    counts = np.stack(
        [rng.hypergeometric((ai & (verdicts == s.name)).sum(), (~ai & (verdicts == s.name)).sum(), s.drawn, 10_000)
         for s in strata], axis=1
    )  # fmt: skip
    held = np.zeros(4)
    for drawn, times in zip(*np.unique(counts, axis=0, return_counts=True), strict=True):
        found = counted([dataclasses.replace(s, ai=int(n)) for s, n in zip(strata, drawn, strict=True)])
        estimates = (found.ai_share, found.false_positive_rate, found.false_discovery_rate, found.miss_rate)
        held += [times * (e is not None and e.low <= t <= e.high) for e, t in zip(estimates, truth, strict=True)]
    assert (held / 10_000 >= 0.93).all() and (held / 10_000 <= 0.97).all(), held / 10_000


@pytest.mark.parametrize("rates", [(0.3, 0.001, 0.0), (0.5, 0.0, 0.0), (1.0, 0.9, 0.5)])
def test_strata_of_one_kind_do_not_move_the_share(rates: tuple[float, float, float]) -> None:
    """Rare AI in 100,000 tracks, or a stratum of AI alone: the share is in its interval in 93% of 400 samples."""
    rng = np.random.default_rng(2)
    sizes, held = {"flagged": (500, 40), "review": (5000, 60), "clear": (94_500, 100)}, 0
    for _ in range(400):
        ai = [rng.binomial(tracks, rate) for (tracks, _), rate in zip(sizes.values(), rates, strict=True)]
        strata = [
            Stratum(name, tracks, n, n, int(rng.hypergeometric(of_ai, tracks - of_ai, n)))
            for (name, (tracks, n)), of_ai in zip(sizes.items(), ai, strict=True)
        ]
        share = counted(strata).ai_share
        held += share.low <= sum(ai) / 100_000 <= share.high
    assert held / 400 >= 0.93


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_prediction_powered_intervals_hold_the_truth_as_often_as_they_say(share: float) -> None:
    """2,000 samples of 120 tracks: between 93% and 97%, and two standard deviations of the count."""
    rng = np.random.default_rng(1)
    rows, ai = library(rng, 900, share)
    scores = np.array([r.score for r in rows])
    sizes = Counter(t.stratum for t in draw(rows, 120))
    members = {name: np.flatnonzero([r.verdict == name for r in rows]) for name in sizes}
    held, widths = 0, []
    for _ in range(2000):
        chosen = {name: rng.choice(found, sizes[name], replace=False) for name, found in members.items()}
        parts = [(scores[members[name]], scores[at], ai[at].astype(float)) for name, at in chosen.items()]
        found = prediction_powered(parts)
        assert found is not None
        held += found.low <= ai.mean() <= found.high
        widths.append(found.high - found.low)
    assert 0.93 - 0.011 <= held / 2000 <= 0.97 + 0.008
    assert np.mean(widths) < 0.25


def test_the_estimates_of_a_sample_are_those_of_its_counts() -> None:
    rows, ai = library(np.random.default_rng(1), 900, 0.3)
    found = listened(rows, ai, 120, 5)
    counts = counted(found.strata)
    assert all(getattr(found, f.name) == getattr(counts, f.name) for f in dataclasses.fields(counts))
    assert found.ai_share_with_scores is not None and found.ai_share.low <= ai.mean() <= found.ai_share.high


def test_a_sample_is_stratified_repeatable_and_fair() -> None:
    rows, _ = library(np.random.default_rng(2), 5000, 0.02)
    drawn = draw(rows, 200)
    assert len(drawn) == 200 == len({t.row.path for t in drawn})
    assert [t.row.path for t in drawn] == [t.row.path for t in draw(list(reversed(rows)), 200)]
    counts = {name: sum(t.stratum == name for t in drawn) for name in ("flagged", "review", "clear")}
    assert min(counts.values()) >= 20 and counts["clear"] > counts["flagged"]
    assert [t.stratum for t in drawn] != sorted(t.stratum for t in drawn)
    clear = sorted(r.path for r in rows if r.verdict == "clear")
    times = np.zeros(len(clear))
    for seed in range(60):
        chosen = {t.row.path for t in draw(rows, 200, seed)}
        times += np.array([path in chosen for path in clear])
    half = len(clear) // 2
    assert abs(times[:half].sum() / times.sum() - 0.5) < 0.02
    assert {t.row.path for t in draw(rows[:50], 500)} == {r.path for r in rows[:50]}


def test_names_like_formulas_are_escaped_in_the_list_and_keep_their_decisions(
    tmp_path: Path, small_library: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the scan of the current folder, where paths are bare names."""
    names = ("=cmd.wav", "'=cmd.wav", "@a.wav", "-1, =2.wav", "\tb.wav", "'\tb.wav", "plain.wav")
    library = tmp_path / "library"
    library.mkdir()
    for name in names:
        (library / name).write_bytes((small_library / "b" / "5.wav").read_bytes())
    report, hear = tmp_path / "r.parquet", tmp_path / "hear.csv"
    monkeypatch.chdir(library)
    words = [".", "--model", str(tiny_model), "--threshold", "0.5", "--out", str(report), "-q", "--device", "cpu"]
    assert CliRunner().invoke(scanner, words).exit_code == 0
    assert CliRunner().invoke(main, ["sample", str(report), "--out", str(hear)]).exit_code == 0
    with hear.open(newline="") as file:
        header, *lines = csv.reader(file)
    assert {"'=cmd.wav", "''=cmd.wav", "'@a.wav", "'-1, '=2.wav", "'\tb.wav", "plain.wav"} < {line[0] for line in lines}
    with hear.open("w", newline="") as file:
        csv.writer(file).writerows(
            [header, *([path, "", "human", "Kim", "2100-01-01", "", s] for path, *_, s in lines)]
        )
    reviewed = load_reviewed(hear)
    assert set(reviewed.by_path) == set(reviewed.strata) == {r.path for r in load(report).rows} == set(names)
    found = CliRunner().invoke(main, ["estimate", str(report), "--decisions", str(hear)])
    assert found.exit_code == 0 and "not in this report" not in found.stdout


@pytest.mark.parametrize("entry", ["human,Kim,2026-02-01,", "maybe,,,", ",Kim,,", ",,,2026-12-31"])
def test_a_list_that_people_have_filled_in_is_not_replaced(tmp_path: Path, entry: str) -> None:
    report = sample_report(tmp_path / "r.parquet", [row(f"{k}.mp3", k / 10) for k in range(10)])
    hear = tmp_path / "hear.csv"
    for _ in range(2):  # a list without entries may be drawn again
        assert CliRunner().invoke(main, ["sample", str(report), "--out", str(hear)]).exit_code == 0
    text = hear.read_text().replace("3.mp3,,,,,", f"3.mp3,,{entry}")
    for content in (text.encode(), text.replace(",", ";").encode(), text.encode("utf-16")):
        hear.write_bytes(content)
        result = CliRunner().invoke(main, ["sample", str(report), "--out", str(hear)])
        assert result.exit_code == 2 and hear.read_bytes() == content
        assert "hear.csv" in result.stderr and len(result.stderr.splitlines()) == 1


def test_a_sample_that_tells_nothing_is_refused() -> None:
    rows, _ = library(np.random.default_rng(3), 100, 0.5)
    with pytest.raises(InputError, match="no track of the report has a score"):
        draw([row("a.mp3")], 5)
    with pytest.raises(InputError, match="--n must be at least 3"):
        draw(rows, 2)
    strata = {t.row.path: t.stratum for t in draw(rows, 30)}
    with pytest.raises(InputError, match="no decision on a drawn track that is"):
        estimate(rows, strata, Reviewed(), DAY)
    with pytest.raises(InputError, match="names no track of this report"):
        estimate(rows, {"other.mp3": "clear"}, Reviewed(), DAY)
    wrong = dict.fromkeys(strata, "flagged")
    with pytest.raises(InputError, match="another verdict than when the sample was drawn"):
        estimate(rows, wrong, Reviewed(), DAY)


def test_from_a_report_to_figures_on_the_command_line(tmp_path: Path) -> None:
    world, rng = World(), np.random.default_rng(4)
    spec = world.model(rng)
    from sonicscan.scoring.thresholds import certified_thresholds

    limits = certified_thresholds(spec.calibration, 0.01)
    rows = catalogue_rows(world.margins(rng, 270, 30), spec, limits)
    report = sample_report(tmp_path / "r.parquet", rows, spec, limits)
    hear, filled = tmp_path / "to_hear.csv", tmp_path / "filled.csv"
    invoke = CliRunner().invoke
    drawn = invoke(main, ["sample", str(report), "--n", "90", "--out", str(hear)])
    assert drawn.exit_code == 0 and "90 tracks written" in drawn.stderr
    header, *lines = hear.read_text().splitlines()
    assert header == "path,content_hash,decision,by,date,expires,stratum"
    empty = invoke(main, ["estimate", str(report), "--decisions", str(hear)])
    assert empty.exit_code == 2 and "decide at least one of them" in empty.stderr
    ai = {r.path for r in rows[270:]}
    done = []
    for i, line in enumerate(lines):
        path, *_, stratum = line.split(",")
        kind = "unsure" if i == 5 else "ai" if path in ai else "human"
        done.append(f"{path},,{kind if i != 7 else ''},Kim,2026-02-01,,{stratum}")
    filled.write_text("\n".join([header, *done, "gone.mp3,,ai,Kim,2026-02-01,,clear", ""]))
    found = invoke(main, ["estimate", str(report), "--decisions", str(filled)])
    assert found.exit_code == 0, found.stderr
    assert "Share of AI: " in found.stdout and "Miss rate" in found.stdout
    assert "2 drawn tracks have no decision" in found.stdout
    assert "1 drawn tracks are not in this report, such as gone.mp3" in found.stdout
    sizes = estimate(load(report).rows, load_reviewed(filled).strata, load_reviewed(filled)).strata
    assert sum(s.decided for s in sizes) == 88 and all(isinstance(s, Stratum) for s in sizes)
    plain = tmp_path / "plain.csv"
    plain.write_text("path,content_hash,decision,by,date\na.mp3,,ai,Kim,2026-02-01\n")
    refused = invoke(main, ["estimate", str(report), "--decisions", str(plain)])
    assert refused.exit_code == 2 and "has no column `stratum`" in refused.stderr
