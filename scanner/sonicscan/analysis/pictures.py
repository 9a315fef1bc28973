"""Evidence as drawings: panels for the page (SVG), or one picture of them all (PNG).

The SVG panels carry placeholder colours that `svg_panels` turns into the page's CSS variables, so that
they follow its light or dark theme.
"""

from __future__ import annotations

import base64
import io
import itertools
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sonicscan.analysis.evidence import Evidence, cell_edges
from sonicscan.audio.melspec import mel_edges_hz
from sonicscan.errors import ReportError
from sonicscan.files import replacing
from sonicscan.scoring.aggregate import flagged_ranges, margin_of
from sonicscan.scoring.thresholds import Thresholds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AI, HUMAN = "#d9541e", "#2478b5"  # towards AI, towards a person: colour-blind readers can distinguish them
_INK, _LINE = "#010203", "#030201"  # stand for var(--ink) and var(--line)
_LIGHT_INK, _LIGHT_LINE = "#1c2126", "#c9ced4"
_RANGE_DB = 80.0
_MANY_WINDOWS = 150  # more leave no room for lines between their bars

Panel = Callable[["Axes", Evidence, Thresholds | None], None]


def draw_timeline(ax: Axes, evidence: Evidence, limits: Thresholds | None) -> None:
    """The margin of every window, at its place in the track; flagged ranges are shaded."""
    from matplotlib.colors import to_rgba

    width = evidence.spec.audio.window_s
    ink, line = _colours()
    colours = [
        to_rgba(AI if margin > 0 else HUMAN, 0.85 if weight else 0.25)
        for margin, weight in zip(evidence.margins, evidence.weights, strict=True)
    ]
    edge = 0.6 if len(colours) <= _MANY_WINDOWS else 0.0
    ax.bar(evidence.starts_s, evidence.margins, width, align="edge", color=colours, lw=edge, edgecolor=line)
    ax.axhline(0, color=ink, lw=0.8)
    ax.axhline(evidence.margin, color=ink, lw=1.2, ls=":", label=f"track {evidence.margin:+.2f}")
    limit = margin_of(limits.flagged) if limits is not None else np.inf
    if np.isfinite(limit):
        ax.axhline(limit, color=AI, lw=1.2, ls="--", label=f"flagged from {limit:+.2f}")
    for start, end in ranges_of(evidence, limits):
        ax.axvspan(start, end, color=AI, alpha=0.12, lw=0)
    ax.set_xlim(0, max(evidence.facts.duration_s, float(evidence.starts_s[-1]) + width))
    ax.margins(y=0.12)
    ax.set_xlabel("seconds into the track")
    ax.set_ylabel("margin, log-odds")
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1), fontsize="small", frameon=False, ncols=2)
    ax.set_title("Windows (pale: trimmed, no part of the score)")


def draw_spectrogram(ax: Axes, evidence: Evidence, limits: Thresholds | None) -> None:
    """The strongest window's log-mel."""
    _show_image(ax, evidence, "magma", 0.0)
    ax.set_title(f"Strongest window, from {evidence.starts_s[evidence.strongest]:.1f} s")


def draw_map(ax: Axes, evidence: Evidence, limits: Thresholds | None) -> None:
    """The strongest window's log-mel with what each cell adds to its margin laid over it."""
    from matplotlib.patches import Rectangle

    audio = evidence.spec.audio
    cells = evidence.cells[evidence.strongest]
    _show_image(ax, evidence, "gray", 45.0)  # dark enough for white figures
    largest = max(float(np.abs(cells).max()), 1e-9)
    width, height = audio.n_frames / cells.shape[1], audio.n_mels / cells.shape[0]
    for (row, column), value in np.ndenumerate(cells):
        corner = (column * width, row * height)
        colour = AI if value > 0 else HUMAN
        alpha = 0.75 * abs(float(value)) / largest
        ax.add_patch(Rectangle(corner, width, height, facecolor=colour, alpha=alpha, lw=0))
        middle = (corner[0] + width / 2, corner[1] + height / 2)
        ax.annotate(f"{value:+.2f}", middle, ha="center", va="center", fontsize=6, color="white")
    total = f"{evidence.margins[evidence.strongest]:+.2f}"
    ax.set_title(f"Evidence: adds up to {total} log-odds{_no_place(evidence.spread[evidence.strongest])}")


def draw_profile(ax: Axes, evidence: Evidence, limits: Thresholds | None) -> None:
    """What each band of frequencies adds to the track's margin."""
    bands = evidence.track_cells.sum(axis=1)
    _, edges = cell_edges(evidence.spec.audio)
    rows = np.arange(len(bands))
    ink, _ = _colours()
    ax.barh(rows, bands, height=0.8, color=[AI if b > 0 else HUMAN for b in bands])
    ax.axvline(0, color=ink, lw=0.8)
    ax.set_yticks(rows, [f"{low / 1000:.1f} to {high / 1000:.1f}" for low, high in itertools.pairwise(edges)])
    for row, value in zip(rows, bands, strict=True):
        ax.annotate(
            f"{value:+.2f}",
            (value, row),
            xytext=(3 if value >= 0 else -3, 0),
            textcoords="offset points",
            ha="left" if value >= 0 else "right",
            va="center",
            fontsize=7,
            color=ink,
        )
    ax.margins(x=0.3)
    ax.set_xlabel("log-odds")
    ax.set_ylabel("kHz")
    ax.set_title(f"By frequency, whole track: {evidence.margin:+.2f}{_no_place(evidence.track_spread)}")


def _no_place(spread: float) -> str:
    """A second line of a title, about the part of a margin that belongs to no cell; empty if it rounds to zero."""
    return f"\nof which no cell has {spread:+.2f}" if abs(spread) >= 0.005 else ""


PANELS: dict[str, tuple[Panel, tuple[float, float]]] = {
    "timeline": (draw_timeline, (10.5, 2.4)),
    "map": (draw_map, (4.0, 3.7)),
    "spectrogram": (draw_spectrogram, (4.0, 3.7)),
    "profile": (draw_profile, (4.0, 3.7)),
}


def _show_image(ax: Axes, evidence: Evidence, colours: str, headroom_db: float) -> None:
    """A log-mel with seconds and kHz on its axes; its loudest point lies `headroom_db` under the lightest colour."""
    audio = evidence.spec.audio
    top = float(evidence.decibels.max())
    ax.imshow(
        evidence.decibels,
        origin="lower",
        aspect="auto",
        cmap=colours,
        vmin=top - _RANGE_DB,
        vmax=top + headroom_db,
        extent=(0, audio.n_frames, 0, audio.n_mels),
        interpolation="nearest",
    )
    seconds = np.arange(0, audio.window_s + 0.01)
    ax.set_xticks(seconds * audio.sample_rate / audio.hop_length, [f"{s:.0f}" for s in seconds])
    centres = mel_edges_hz(audio)[1:-1]
    marks = [hz for hz in (250, 500, 1000, 2000, 4000, 8000, 16000) if hz < audio.fmax]
    ax.set_yticks(np.searchsorted(centres, marks), [f"{hz / 1000:g}" for hz in marks])
    ax.set_xlabel("seconds into the window")
    ax.set_ylabel("kHz")


def ranges_of(evidence: Evidence, limits: Thresholds | None) -> list[tuple[float, float]]:
    """Start and end, in seconds, of the ranges whose windows reach the threshold."""
    if limits is None:
        return []
    found = flagged_ranges(
        evidence.starts_s.tolist(),
        evidence.margins.tolist(),
        evidence.spec.audio.window_s,
        limits.flagged,
        evidence.facts.duration_s,
    )
    return [(r["start_s"], r["end_s"]) for r in found]


def svg_panels(evidence: Evidence, limits: Thresholds | None) -> dict[str, str]:
    """Each panel as an inline SVG in the page's colours."""
    from matplotlib.figure import Figure

    panels = {}
    with _style(_INK, _LINE):
        for name, (draw, size) in PANELS.items():
            figure = Figure(figsize=size, layout="constrained")
            draw(figure.subplots(), evidence, limits)
            text = io.StringIO()
            figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
            panels[name] = _inline(text.getvalue())
    return panels


def _inline(svg: str) -> str:
    """The `<svg>` element alone, sized by its container, its placeholder colours as variables."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    # Its style sheet would reach the whole page, and its group names would collide with other pictures'.
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="[A-Za-z]+_[^"]*"', "", svg)
    svg = re.sub(r'"data:image/png;base64,([^"]*)"', _as_jpeg, svg)
    return svg.replace(_INK, "var(--ink)").replace(_LINE, "var(--line)")


def _as_jpeg(image: re.Match[str]) -> str:
    """An embedded PNG as a JPEG, a quarter of the size: a page holds many."""
    from PIL import Image

    file = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(image[1]))) as picture:
        picture.convert("RGB").save(file, format="JPEG", quality=88)
    return f'"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode("ascii")}"'


def write_png(evidence: Evidence, limits: Thresholds | None, title: str, notes: Sequence[str], path: Path) -> None:
    """All panels in one picture.

    Args:
        title: its head line.
        notes: sentences under it.
        path: the PNG.

    Raises:
        ReportError: it cannot be written.
    """
    from matplotlib.figure import Figure

    lines = [line for note in notes for line in textwrap.wrap(note, 190)]
    with _style(_LIGHT_INK, _LIGHT_LINE):
        figure = Figure(figsize=(13.5, 9), layout="constrained", dpi=110, facecolor="white")
        head, body = figure.subfigures(2, 1, squeeze=False, height_ratios=(0.5 + 0.2 * len(lines), 8))[:, 0]
        head.text(0.01, 0.95, title, va="top", fontsize=13, fontweight="bold", parse_math=False)
        head.text(0.01, 0.6, "\n".join(lines), va="top", fontsize=9, parse_math=False, linespacing=1.4)
        grid = body.add_gridspec(2, 3, height_ratios=(1, 2), width_ratios=(1.2, 1.2, 1))
        places = {"timeline": grid[0, :], "map": grid[1, 0], "spectrogram": grid[1, 1], "profile": grid[1, 2]}
        for name, (draw, _) in PANELS.items():
            draw(body.add_subplot(places[name]), evidence, limits)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Glyph .* missing from font")  # any script may be in a name
                with replacing(path) as file:
                    figure.savefig(file, format="png", metadata={"Software": None})
        except OSError as error:
            raise ReportError(f"the picture {path} cannot be written: {error.strerror or error}.") from error


def _colours() -> tuple[str, str]:
    """Ink and line colour of the style in force."""
    from matplotlib import rcParams

    return str(rcParams["text.color"]), str(rcParams["grid.color"])


@contextmanager
def _style(ink: str, line: str) -> Iterator[None]:
    from matplotlib import rc_context

    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "sonicscan",
        "font.size": 9,
        "axes.titlesize": 9.5,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": line,
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), ink),
    }
    with rc_context(style):
        yield
