"""The evaluation as Markdown, for the model card: figures are pasted from here and from nowhere else."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from sonicscan_train.bundled.corpus import Excerpt


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def figure(measure: dict[str, Any]) -> str:
    """`0.912 (0.870 to 0.941)`."""
    low, high = measure["ci95"]
    return f"{measure['value']:.3f} ({low:.3f} to {high:.3f})"


def data_table(excerpts: list[Excerpt], judges: list[bool]) -> str:
    """Excerpts by source, on which side they are, and the licences stated for them."""
    counts: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    licences: dict[tuple[str, str], set[str]] = defaultdict(set)
    for excerpt, judge in zip(excerpts, judges, strict=True):
        counts[excerpt.label, excerpt.source][judge] += 1
        licences[excerpt.label, excerpt.source].add(excerpt.license)
    rows = [
        [label, source, str(train), str(judge), "; ".join(sorted(licences[label, source])).replace("|", "/")]
        for (label, source), (train, judge) in sorted(counts.items(), key=lambda item: (item[0][0], -sum(item[1])))
    ]
    return table(["label", "source", "trains", "left out", "licence as stated"], rows) + "\n"


def markdown(evaluation: dict[str, Any]) -> str:
    """Headline, certified thresholds, sources and stress, one table each."""
    names = {"auc": "track AUC", "tpr_at_1pct_fpr": "caught at 1% FPR", "tpr_at_5pct_fpr": "caught at 5% FPR"}
    columns = ("leave_out", "codec", "baseline")
    parts = [
        table(
            ["measure", "left-out AI", "left-out codec", "trivial baseline, left-out AI"],
            [[text, *(figure(evaluation[c][key]) for c in columns)] for key, text in names.items()],
        ),
        f"Mean AUC over left-out generators: {evaluation['mean_auc_over_generators']:.3f}. "
        f"Counts: {evaluation['counts']}; people's excerpts are of {evaluation['human_groups']} groups. "
        f"Temperature: {evaluation['temperature']:.3f}.",
        table(
            ["certified FPR", "threshold", "left-out AI caught"],
            [
                [f"{row['rate']:.0%}", f"{row['threshold']:.4f}", f"{row['caught']:.1%}"]
                for row in (evaluation["certified"], evaluation["certified_5pct"])
            ],
        ),
        table(
            ["label", "source", "excerpts", "groups", "AUC", "flagged at certified 1%", "median score"],
            [
                [
                    row["label"],
                    row["source"],
                    str(row["excerpts"]),
                    str(row["groups"]),
                    f"{row['auc']:.3f}" if "auc" in row else "",
                    f"{row['flagged']:.0%}",
                    f"{row['median_score']:.3f}",
                ]
                for row in evaluation["by_source"]
            ],
        ),
    ]
    if evaluation.get("stress"):
        parts.append(
            table(
                [
                    "condition",
                    "excerpts",
                    "AUC",
                    "change of AUC",
                    "FPR at certified 1%",
                    "caught",
                    "mean change of margin",
                ],
                [
                    [
                        row["condition"],
                        str(row["excerpts"]),
                        f"{row['auc']:.3f}",
                        f"{row['auc'] - evaluation['stress'][0]['auc']:+.3f}",
                        f"{row['fpr']:.1%}",
                        f"{row['caught']:.1%}",
                        f"{row['drift']:+.2f}",
                    ]
                    for row in evaluation["stress"]
                ],
            )
        )
    return "\n\n".join(parts) + "\n"
