"""PNG pictures of training and evaluation, drawn without a display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sonicscan.analysis.drawing import import_matplotlib
from sonicscan.arrays import Float64
from sonicscan.files import replacing
from sonicscan_train.metrics import auc, roc

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_curves(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Losses and the validation AUC by epoch."""
    figure, (left, right) = _figure(9.0, 3.6, 2)
    epochs = [row["epoch"] for row in history]
    left.plot(epochs, [row["train_loss"] for row in history], marker=".", label="training")
    validated = [row for row in history if "valid_loss" in row]
    left.plot([r["epoch"] for r in validated], [r["valid_loss"] for r in validated], marker=".", label="validation")
    left.set(xlabel="epoch", ylabel="cross-entropy")
    left.legend()
    right.plot([r["epoch"] for r in validated], [r["valid_auc"] for r in validated], marker=".", color="tab:green")
    right.set(xlabel="epoch", ylabel="validation AUC of tracks", ylim=(0.0, 1.0))
    _save(figure, path)


def draw_roc(curves: Mapping[str, tuple[npt.NDArray[np.bool_], Float64]], path: Path) -> None:
    """ROC curves by name, on a logarithmic scale of false positives, since low rates matter most."""
    figure, (axes,) = _figure(5.0, 4.4, 1)
    for name, (truth, scores) in curves.items():
        fpr, tpr, _ = roc(truth, scores)
        axes.step(np.maximum(fpr, 1e-4), tpr, where="post", label=f"{name} (AUC {auc(truth, scores):.3f})")
    axes.set(xscale="log", xlim=(1e-3, 1.0), ylim=(0.0, 1.0))
    axes.set(xlabel="music by people flagged", ylabel="AI music flagged")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")
    _save(figure, path)


def draw_scores(groups: Mapping[str, Sequence[float]], path: Path) -> None:
    """Scores by source, one row of points each, in the order given."""
    figure, (axes,) = _figure(7.0, 1.4 + 0.22 * len(groups), 1)
    for row, scores in enumerate(groups.values()):
        axes.plot(scores, np.full(len(scores), row), "|", alpha=0.6, markersize=7)
    axes.set_yticks(range(len(groups)), list(groups), fontsize=7, parse_math=False)
    axes.invert_yaxis()
    axes.set(xlim=(-0.02, 1.02), xlabel="score")
    _save(figure, path)


def draw_confusion(names: Sequence[str], given: Sequence[str], counts: npt.NDArray[np.int64], path: Path) -> None:
    """A confusion matrix: rows are what tracks are, columns what they were called."""
    figure, (axes,) = _figure(2.5 + 0.35 * len(given), 2.0 + 0.3 * len(names), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    axes.set_xticks(range(len(given)), list(given), rotation=90, fontsize=7, parse_math=False)
    axes.set_yticks(range(len(names)), list(names), fontsize=7, parse_math=False)
    for row, column in np.argwhere(counts > 0):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=6, color=colour)
    axes.set(xlabel="called", ylabel="is")
    _save(figure, path)


def draw_stress(rows: Mapping[str, tuple[float, float]], path: Path) -> None:
    """AUC and drift of scores under each condition."""
    figure, (left, right) = _figure(9.0, 1.4 + 0.28 * len(rows), 2)
    places = range(len(rows))
    left.barh(places, [area for area, _ in rows.values()], color="tab:blue", alpha=0.8)
    left.set(xlim=(0.0, 1.0), xlabel="AUC")
    right.barh(places, [drift for _, drift in rows.values()], color="tab:orange", alpha=0.8)
    right.set(xlabel="mean change of the score")
    left.set_yticks(places, list(rows))
    right.set_yticks(places, [""] * len(rows))
    for axes in (left, right):
        axes.invert_yaxis()
    _save(figure, path)


def draw_baselines(bars: Mapping[str, tuple[float, float, float, bool]], limit: float, path: Path) -> None:
    """AUC, low and high of trivial features by name, red where they separate the classes."""
    figure, (axes,) = _figure(7.0, 1.2 + 0.3 * len(bars), 1)
    areas = [area for area, _, _, _ in bars.values()]
    below = [max(0.0, area - low) for area, low, _, _ in bars.values()]
    above = [max(0.0, high - area) for area, _, high, _ in bars.values()]
    colours = ["tab:red" if separates else "tab:blue" for *_, separates in bars.values()]
    axes.barh(range(len(bars)), areas, xerr=[below, above], color=colours, alpha=0.8)
    axes.set_yticks(range(len(bars)), list(bars), parse_math=False)
    axes.axvline(0.5, color="grey", linewidth=1)
    axes.axvline(limit, color="tab:red", linewidth=1, linestyle="--")
    axes.invert_yaxis()
    axes.set(xlim=(0.0, 1.0), xlabel=f"AUC of one feature alone on unseen groups; {limit:g} is too much")
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=120)


def _figure(width: float, height: float, columns: int) -> tuple[Figure, list[Axes]]:
    import_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])
