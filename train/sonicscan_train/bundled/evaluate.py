"""From averaged weights to the finished file and its figures.

The file is written first and judged afterwards: the scanner opens it, scores the left-out excerpts, and what it
gives becomes the calibration. Only the metadata is written again then; graph and weights are never touched.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import sonicscan
from sonicscan.scoring.thresholds import caught_at_rates, certified_threshold
from sonicscan.spec import Calibration, Caught, ModelSpec
from sonicscan_train.bundled.corpus import Excerpt
from sonicscan_train.bundled.export import read_spec, write_spec
from sonicscan_train.bundled.measure import auc, by_source, headline, trivial_baseline
from sonicscan_train.bundled.melcache import cache_decibels
from sonicscan_train.bundled.prepare import Prepared
from sonicscan_train.bundled.score import Scored, fit_temperature, scan_excerpts
from sonicscan_train.bundled.stress import CONDITIONS, write_condition

CERTIFIED = 0.01
CARD = "docs/model-card.md"
LICENSE_NOTE = (
    "Weights MIT. Trained on excerpts from public research demo pages, free game music and published repositories, "
    "many without a stated licence: for triage and evaluation; train on your own licensed data for decisions."
)


def calibrate(path: Path, prepared: Prepared, corpus: Path, run: dict[str, Any]) -> tuple[ModelSpec, Scored]:
    """Scores the left-out excerpts with the scanner on a finished file and writes what they give into its contract.

    Args:
        path: an ONNX file with a contract; graph and weights stay as they are.
        prepared, corpus: the excerpts.
        run: how the file was made, added to its provenance.
    """
    before = read_spec(path)
    bare = ModelSpec(
        architecture=before.architecture,
        audio=before.audio,
        tool_version=sonicscan.__version__,
        provenance={"precision": "fp32", **before.provenance, **run},
    )
    write_spec(path, bare)
    judges = judging(prepared)
    names = [e.path for e in judges]
    temperature = fit_temperature(scan_excerpts(path, corpus, names, judges))
    spec = dataclasses.replace(bare, temperature=temperature)
    write_spec(path, spec)
    scored = scan_excerpts(path, corpus, names, judges)
    human, measured = scored.where(~scored.ai), main_scores(scored)
    calibration = Calibration.of(
        [float(s) for s in human.scores],
        f"{len(human.scores)} excerpts of 7 s by people, {len({e.source for e in human.excerpts})} sources left out of "
        "training whole; mostly free game music and research references",
        ai_scores=[float(s) for s in measured.scores[measured.ai]],
    )
    figures: dict[str, Any] = {"leave_out": headline(measured), "excerpts": len(measured.scores)}
    caught = caught_at_rates(calibration)
    spec = dataclasses.replace(
        spec,
        calibration=calibration,
        caught=caught,
        metrics=figures | {"summary": summary(figures, calibration, caught)},
        data_digest=prepared.data_digest,
        license_note=LICENSE_NOTE,
        card=CARD,
    )
    write_spec(path, spec)
    return spec, scored


def summary(figures: dict[str, Any], calibration: Calibration, caught: tuple[Caught, ...]) -> str:
    """The sentence that the scanner says on stderr."""
    measure = figures["leave_out"]["auc"]
    low, high = measure["ci95"]
    text = (
        f"AUC {measure['value']:.2f} ({low:.2f} to {high:.2f}) on generators, creators and sources unseen in training"
    )
    for flagged in (entry for entry in caught if entry.max_fpr == CERTIFIED):
        text += (
            f"; at the {CERTIFIED:.0%} false-positive rate certified on {calibration.n} excerpts by people it flags "
            f"{flagged.share:.0%} of unseen AI"
        )
    return f"{text}; for ranking, not proof"


def judging(prepared: Prepared) -> list[Excerpt]:
    """The left-out excerpts."""
    return [e for e, judge in zip(prepared.excerpts, prepared.judges, strict=True) if judge]


def main_scores(scored: Scored) -> Scored:
    """Without `codec`, which is reported apart."""
    return scored.where([e.label != "codec" for e in scored.excerpts])


def evaluation(spec: ModelSpec, scored: Scored, prepared: Prepared, cache: Path) -> dict[str, Any]:
    """Everything but the stress table, as plain data."""
    threshold = certified_threshold(spec.calibration, CERTIFIED)
    plain = main_scores(scored)
    codec = scored.where([e.label in ("codec", "human") for e in scored.excerpts])
    ai = plain.scores[plain.ai]
    macro = [r["auc"] for r in by_source(plain, threshold) if r["label"] == "ai"]
    judge_rows = [i for i, judge in enumerate(prepared.judges) if judge]
    train_rows = prepared.training_rows
    baseline = trivial_baseline(
        cache_decibels(prepared.audio, train_rows, cache / "clean_mel.npy", spec.audio),
        [prepared.excerpts[i] for i in train_rows],
        cache_decibels(prepared.audio, judge_rows, cache / "judge_mel.npy", spec.audio),
        [prepared.excerpts[i] for i in judge_rows],
    )
    return {
        "leave_out": headline(plain),
        "codec": headline(codec),
        "baseline": headline(main_scores(baseline)),
        "mean_auc_over_generators": float(np.mean(macro)),
        "counts": {"human": int((~plain.ai).sum()), "ai": int(plain.ai.sum()), "codec": int(codec.ai.sum())},
        "human_groups": len({(e.source, e.group) for e in plain.where(~plain.ai).excerpts}),
        "temperature": spec.temperature,
        "certified": {"rate": CERTIFIED, "threshold": threshold, "caught": float((ai >= threshold).mean())},
        "certified_5pct": {
            "rate": 0.05,
            "threshold": certified_threshold(spec.calibration, 0.05),
            "caught": float((ai >= certified_threshold(spec.calibration, 0.05)).mean()),
        },
        "by_source": by_source(scored, threshold),
    }


def stress_table(
    spec: ModelSpec, model: Path, corpus: Path, excerpts: list[Excerpt], work: Path, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """One row a condition: AUC, flagged shares at the certified threshold, mean change of margin against `none`."""
    threshold = certified_threshold(spec.calibration, CERTIFIED)
    rows: list[dict[str, Any]] = []
    reference: dict[str, float] = {}
    for condition in CONDITIONS:
        folder = work / condition.name.replace(" ", "_").replace("/", "p")
        names = write_condition(condition, corpus, excerpts, folder, seed=0)
        scored = scan_excerpts(model, folder, names, excerpts)
        margins = {e.path: float(m) for e, m in zip(scored.excerpts, scored.margins, strict=True)}
        reference = reference or margins
        row = {
            "condition": condition.name,
            "excerpts": len(scored.scores),
            "auc": auc(scored.ai, scored.scores),
            "fpr": float((scored.scores[~scored.ai] >= threshold).mean()),
            "caught": float((scored.scores[scored.ai] >= threshold).mean()),
            "drift": float(np.mean([margins[p] - reference[p] for p in margins if p in reference])),
        }
        rows.append(row)
        say(json.dumps(row))
        shutil.rmtree(folder)
    return rows


def stress_sample(excerpts: list[Excerpt], per_class: int, seed: int) -> list[Excerpt]:
    """A seeded draw of `per_class` excerpts by people and by AI (`codec` left aside)."""
    rng = np.random.default_rng(seed)
    chosen: list[Excerpt] = []
    for label in ("human", "ai"):
        part = [e for e in excerpts if e.label == label]
        picked = sorted(rng.permutation(len(part))[:per_class])
        chosen += [part[i] for i in picked]
    return chosen
