"""Evidence adds up to the score: in pure arithmetic, through a real model, and in what is shown."""

from __future__ import annotations

import io
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import soundfile
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from matplotlib.figure import Figure
from onnx import helper
from PIL import Image
from scipy.special import logsumexp
from synthesis import TINY_SPEC, calibrated, music, write_model

import sonicscan
from sonicscan.analysis.evidence import Evidence, cell_edges, decompose, explain, window_weights
from sonicscan.analysis.excerpts import excerpts
from sonicscan.audio.windows import WindowPlan
from sonicscan.cli.demo import write_sound
from sonicscan.cli.report import main
from sonicscan.engine.wire import EXCERPT_RATE
from sonicscan.errors import AudioError, ModelError
from sonicscan.model.loading import load_model
from sonicscan.model.sessions import Device
from sonicscan.scoring.aggregate import flagged_ranges, track_margin, trimmed_mean, window_margins
from sonicscan.spec import AudioSpec

maps = st.integers(2, 6).flatmap(
    lambda classes: hnp.arrays(np.float64, (3, classes, 8, 8), elements=st.floats(-60, 60, width=32))
)


@settings(deadline=None, max_examples=60)
@given(maps, st.floats(0.2, 5.0), st.floats(-3.0, 3.0))
def test_cells_and_spread_add_up_to_the_margin(
    class_maps: npt.NDArray[np.float64], temperature: float, offset: float
) -> None:
    cells, spread = decompose(class_maps, temperature, offset)
    margins = window_margins(class_maps.mean(axis=(2, 3)), temperature, offset)
    np.testing.assert_allclose(cells.sum(axis=(1, 2)) + spread, margins, atol=1e-9)
    spread += offset / temperature
    assert (spread >= -1e-12).all() and (spread <= np.log(max(1, class_maps.shape[1] - 1)) / temperature + 1e-12).all()


def test_two_classes_need_nothing_but_cells() -> None:
    class_maps = np.random.default_rng(0).normal(size=(4, 2, 8, 8))
    cells, spread = decompose(class_maps, 2.0)
    assert (spread == 0).all()
    np.testing.assert_allclose(cells, (class_maps[:, 1] - class_maps[:, 0]) / 128)


def test_several_families_by_hand() -> None:
    class_maps = np.zeros((1, 3, 8, 8))
    class_maps[0, 1] += 2.0  # q = (e^2, e^1) / (e^2 + e^1)
    class_maps[0, 2] += 1.0
    cells, spread = decompose(class_maps, 1.0)
    q = np.e / (1 + np.e)
    assert cells.sum() == pytest.approx(2 * q + (1 - q))
    assert cells.sum() + spread[0] == pytest.approx(logsumexp([2.0, 1.0]))


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=60), st.just(0.0) | st.floats(0.0, 20.0))
def test_window_weights_are_those_of_the_track_margin(margins: list[float], shrink: float) -> None:
    weights = window_weights(margins, shrink)
    assert weights.sum() == pytest.approx(len(margins) / (len(margins) + shrink))
    assert weights @ np.array(margins) == pytest.approx(track_margin(margins, shrink), abs=1e-9)
    assert track_margin(margins) == float(trimmed_mean(margins))


def test_cells_have_the_size_that_is_claimed() -> None:
    seconds, hz = cell_edges(AudioSpec())
    np.testing.assert_allclose(np.diff(seconds), 32 * 432 / 22050)
    assert len(hz) == 9 and (np.diff(hz) > 0).all() and hz[0] < 40 and hz[-1] == pytest.approx(8000, rel=0.02)


def evidence_of(model: Path, sound: Path, windows: int | None = 12) -> Evidence:
    return explain(os.fsencode(sound), load_model(model, Device("cpu"), 1), WindowPlan.of(windows))


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute of music with ten seconds of silence in it."""
    sound = music(60.0, 44100, seed=5)
    sound[44100 * 20 : 44100 * 30] = 0.0
    return write_sound(tmp_path_factory.mktemp("song") / "song.wav", sound)


@pytest.mark.parametrize("families", [("ai",), ("alpha", "beta", "gamma")])
def test_evidence_is_about_the_scanner_s_own_score(tmp_path: Path, song: Path, families: tuple[str, ...]) -> None:
    spec = replace(TINY_SPEC, classes=("human", *families), temperature=1.7, offset=-0.3, shrink=2.5)
    model = write_model(tmp_path / "m.onnx", spec)
    found = evidence_of(model, song, None)
    (scanned,) = sonicscan.scan(song, model=model, windows=None)
    assert found.score == pytest.approx(scanned.score, abs=1e-6)
    assert found.silent_windows == scanned.silent_windows == 1
    np.testing.assert_allclose(found.margins, scanned.window_margins, atol=1e-4)
    np.testing.assert_allclose(found.starts_s, scanned.window_starts_s, atol=1e-3)
    np.testing.assert_allclose(found.cells.sum(axis=(1, 2)) + found.spread, found.margins, atol=1e-5)
    assert found.track_cells.sum() + found.track_spread == pytest.approx(found.margin, abs=1e-5)
    assert abs(found.remainder) < 1e-5
    offset = 0.3 / 1.7 * found.weights.sum()
    assert found.weights.sum() == pytest.approx(len(found.margins) / (len(found.margins) + 2.5))
    assert (found.track_spread - offset > 0.1) == (len(families) > 1)


def test_the_shown_window_is_the_strongest_that_counts(tmp_path: Path, song: Path) -> None:
    found = evidence_of(write_model(tmp_path / "m.onnx"), song)
    assert found.weights[found.strongest] > 0
    assert found.margins[found.strongest] == found.margins[found.weights > 0].max()
    assert found.margins.max() > found.margins[found.strongest]  # the very highest is trimmed
    assert found.decibels.shape == (256, 256) and found.decibels.std() > 5


def test_a_map_points_at_the_sound_that_made_it(tmp_path: Path) -> None:
    """The model pools what lies above the window's mean, so its evidence lies where the only tone is."""
    time = np.arange(5 * 44100) / 44100
    tone = 0.5 * np.sin(2 * np.pi * 6000 * time) * (time > 2.5)
    noise = 1e-4 * np.random.default_rng(0).standard_normal(len(time))
    sound = write_sound(tmp_path / "tone.wav", (tone + noise).astype(np.float32)[:, None])
    found = evidence_of(write_model(tmp_path / "m.onnx", bias=0.0), sound)
    row, column = np.unravel_index(found.cells[0].argmax(), (8, 8))
    seconds, hz = cell_edges(found.spec.audio)
    assert hz[row] <= 6000 <= hz[row + 1] and seconds[column + 1] > 2.5


def test_class_maps_that_do_not_average_to_the_logits_are_refused(tmp_path: Path, song: Path) -> None:
    model = onnx.load(write_model(tmp_path / "m.onnx"))
    for node in model.graph.node:
        node.output[:] = ["inner" if name == "logits" else name for name in node.output]
    model.graph.node.append(helper.make_node("Add", ["inner", "inner"], ["logits"]))
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(ModelError, match="do not average to its logits"):
        evidence_of(tmp_path / "odd.onnx", song)


def test_silence_and_snippets_have_nothing_to_explain(tmp_path: Path, tiny_model: Path) -> None:
    silent = write_sound(tmp_path / "silent.wav", np.zeros((44100 * 8, 1), dtype=np.float32))
    short = write_sound(tmp_path / "short.wav", music(0.5))
    for sound, status in ((silent, "silent"), (short, "too_short")):
        with pytest.raises(AudioError) as raised:
            evidence_of(tiny_model, sound)
        assert raised.value.status == status


def test_clips_are_the_sound_of_their_ranges(tmp_path: Path) -> None:
    import base64
    import io

    time = np.arange(30 * 44100) / 44100
    sound = np.where(time < 10, 0.0, 0.4 * np.sin(2 * np.pi * np.where(time < 20, 440, 880) * time))
    path = write_sound(tmp_path / "steps.flac", sound.astype(np.float32)[:, None])
    ranges = [(4.0, 24.0), (11.0, 16.0), (21.0, 26.0), (27.0, 30.0)]
    long, *found = excerpts(os.fsencode(path), ranges, 26.0)
    assert (long.start_s, long.end_s, long.name) == (4.0, 19.0, "4.0 to 24.0 s: the first 15.0 s")
    # The last range does not fit. A shorter excerpt under its name would contradict the report's row.
    np.testing.assert_allclose([(c.start_s, c.end_s) for c in found], [(11, 16), (21, 26)])
    assert [c.name for c in found] == ["11.0 to 16.0 s", "21.0 to 26.0 s"]
    for clip, pitch in zip(found, (440, 880), strict=True):
        heard, rate = soundfile.read(io.BytesIO(base64.b64decode(clip.url.split(",")[1])))
        assert rate == EXCERPT_RATE
        middle = heard[rate // 4 : rate // 4 + rate // 2]
        assert np.abs(np.fft.rfft(middle)).argmax() * 2 == pytest.approx(pitch, abs=4)


def run(*args: object) -> Result:
    return CliRunner().invoke(main, ["explain", *map(str, args)])


def test_the_page_shows_numbers_that_add_up_to_the_score(tmp_path: Path, song: Path) -> None:
    spec = replace(calibrated(), classes=("human", "a", "b"))
    model = write_model(tmp_path / "m.onnx", spec)
    out = tmp_path / "e.html"
    result = run(song, "--model", model, "--threshold", 0.3, "--out", out)
    assert result.exit_code == 0, result.output
    page = out.read_text(encoding="utf-8")
    shown = re.search(r'<script type="application/json" class="figures">(.*?)</script>', page)
    assert shown is not None
    figures = json.loads(shown[1])
    cells, spread, weights = (np.array(figures[name]) for name in ("cells", "spread", "weights"))
    margin = float(weights @ (cells.sum(axis=(1, 2)) + spread))
    (scanned,) = sonicscan.scan(song, model=model)
    assert 1 / (1 + np.exp(-margin)) == pytest.approx(scanned.score, abs=1e-6)
    assert margin == pytest.approx(track_margin(scanned.window_margins or []), abs=1e-4)
    assert f"Score {scanned.score:.4f}" in page and "not proof of a local cause" in page
    assert "0.63 s by 32 mel rows" in page

    ranges = flagged_ranges(figures["starts_s"], figures["margins"], spec.audio.window_s, 0.3)
    assert ranges and page.count("<audio ") == len(ranges)
    assert 'src="http' not in page and "url(http" not in page


def test_a_picture_is_written_whatever_the_name(tmp_path: Path, tiny_model: Path) -> None:
    sound = write_sound(tmp_path / "$x^$ 日本 <b>\n.wav", music(7.0))
    out = tmp_path / "e.png"
    result = run(sound, "--model", tiny_model, "--out", out)
    assert result.exit_code == 0, result.output
    with Image.open(out) as picture:
        assert picture.width > 1200 and len(picture.getcolors(1 << 24) or ()) > 1000


def test_a_picture_says_that_a_threshold_is_not_certified(
    tmp_path: Path, song: Path, calibrated_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text of a PNG cannot be read, so the same figure is also saved as SVG."""
    save, texts = Figure.savefig, []

    def saved(figure: Figure, file: object, **options: object) -> None:
        svg = io.StringIO()
        save(figure, svg, format="svg")
        texts.append(svg.getvalue())
        save(figure, file, **options)

    monkeypatch.setattr(Figure, "savefig", saved)
    for options in ((), ("--windows", "all"), ("--threshold", "0.5")):
        assert run(song, "--model", calibrated_model, "--out", tmp_path / "e.png", *options).exit_code == 0
    certified, other_windows, by_hand = texts
    assert "Not certified" not in certified
    assert "Not certified: the model was calibrated with --windows 12" in other_windows
    assert "Not certified: the threshold was set by hand" in by_hand


@pytest.mark.parametrize(
    ("out", "options", "said"),
    [
        ("e.png", (), "a picture gives no probability for --prior"),
        ("e.html", (), "calibration has too few tracks by people or by AI"),
        ("e.html", ("--windows", "all"), "was calibrated with --windows 12, and not with all"),
    ],
)
def test_a_prior_that_gives_no_probability_is_refused(
    out: str, options: tuple[str, ...], said: str, tmp_path: Path, song: Path, calibrated_model: Path
) -> None:
    result = run(song, "--model", calibrated_model, "--prior", "0.1", "--out", tmp_path / out, *options)
    assert result.exit_code == 2 and said in result.stderr
    words = ["case", song, "--model", calibrated_model, "--prior", "0.1", "--examiner", "A", "--out", tmp_path / "case"]
    if out == "e.html":
        result = CliRunner().invoke(main, [str(word) for word in (*words, *options)])
        assert result.exit_code == 2 and said in result.stderr
    assert not list(tmp_path.glob("[ec]*"))


def test_an_untrained_model_explains_nothing_and_says_so(tmp_path: Path) -> None:
    sound = write_sound(tmp_path / "x.wav", music(7.0))
    model = write_model(tmp_path / "m.onnx", replace(TINY_SPEC, untrained=True))
    result = run(sound, "--model", model, "--out", tmp_path / "e.html")
    assert result.exit_code == 0
    assert "The model is untrained" in (tmp_path / "e.html").read_text()


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("e.gif", (), "must end in .png or .html"),
        ("none/e.png", (), "cannot be written"),
        ("none/e.html", (), "cannot be written"),
        ("e.png", ("--max-fpr", 0.01), "needs 299 calibration tracks"),
        ("e.png", ("--max-fpr", 0.01, "--threshold", 0.5), "mutually exclusive"),
    ],
)
def test_what_cannot_be_done_is_said(
    tmp_path: Path, tiny_model: Path, name: str, options: tuple[object, ...], said: str
) -> None:
    sound = write_sound(tmp_path / "x.wav", music(7.0))
    result = run(sound, "--model", tiny_model, "--out", tmp_path / name, *options)
    assert result.exit_code == 2 and said in result.stderr
    assert run(tmp_path / "gone.wav", "--model", tiny_model, "--out", tmp_path / "e.png").exit_code == 2
