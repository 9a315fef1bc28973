"""The library call, and that scores are the model's own."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.special
import soundfile
from faults import PROGRAM
from synthesis import calibrated, music, write_model

import sonicscan
from sonicscan.api import ScannerOptions
from sonicscan.audio.decode import read_windows
from sonicscan.audio.melspec import LogMel
from sonicscan.audio.windows import WindowPlan
from sonicscan.cli.demo import make_library, write_sound
from sonicscan.errors import AudioError, InputError, ModelError
from sonicscan.model.loading import load_model
from sonicscan.model.sessions import Device
from sonicscan.scanning.scan import Scan, ScanOptions
from sonicscan.scoring import aggregate
from sonicscan.scoring.likelihood import log10_lr
from sonicscan.spec import Caught, ModelSpec


def test_scan_yields_a_typed_result_for_each_file(small_library: Path, calibrated_model: Path) -> None:
    results = list(sonicscan.scan(small_library, model=calibrated_model))
    assert {type(result) for result in results} == {sonicscan.FileResult}
    assert {Path(r.path).name for r in results} == {"1.wav", "2.flac", "3.mp3", "4.ogg", "5.wav", "6.opus"}
    assert all(r.status == "ok" and r.verdict and r.p_value and r.class_scores for r in results)
    by_name = {Path(r.path).name: r for r in results}
    assert by_name["4.ogg"].warnings == ["short"]
    assert by_name["4.ogg"].windows == 1
    assert by_name["3.mp3"].windows == 7
    assert by_name["6.opus"].sample_rate == 48000
    assert by_name["1.wav"].duration_s == pytest.approx(12.0, abs=0.01)


def test_the_score_is_what_the_model_says_of_the_windows(small_library: Path, calibrated_model: Path) -> None:
    """Written out step by step, in this process, without pool, batches or engine."""
    path = small_library / "a" / "3.mp3"
    (result,) = sonicscan.scan(path, model=calibrated_model, windows=4)
    model = load_model(calibrated_model, Device("cpu"))
    spec = model.spec
    logmel = LogMel(spec.audio)
    windows = list(read_windows(str(path).encode(), spec.audio, WindowPlan(4)))
    images = np.stack([np.repeat(logmel(w.samples)[None], 3, axis=0) for w in windows])
    logits = model.session.run(["logits"], {"spectrogram": images})[0].astype(np.float64)
    margins = logits[:, 1] - logits[:, 0]
    assert result.window_starts_s == pytest.approx([w.start_s for w in windows], abs=1e-4)
    assert result.window_margins == pytest.approx(margins.tolist(), abs=1e-4)
    assert result.score == pytest.approx(scipy.special.expit(margins.mean()), abs=1e-5)  # four windows: none trimmed
    assert result.class_scores == pytest.approx({"human": 1 - result.score, "ai": result.score})


def test_several_families_are_attributed(small_library: Path, tmp_path: Path) -> None:
    spec = calibrated(ModelSpec("tiny", classes=("human", "first", "second"), unknown_below=0.5))
    model = write_model(tmp_path / "families.onnx", spec, bias=0.0)
    flagged = list(sonicscan.scan(small_library, model=model, threshold=0.0))
    assert {r.attribution for r in flagged} == {"first"}
    for result in flagged:
        assert result.class_scores is not None
        assert sum(result.class_scores.values()) == pytest.approx(1.0)
        assert result.class_scores["human"] == pytest.approx(1.0 - (result.score or 0))
    # The second family has one logit less, so the first has a share of 73%.
    unsure = write_model(
        tmp_path / "unsure.onnx", calibrated(ModelSpec("t", spec.classes, unknown_below=0.8)), bias=0.0
    )
    assert {r.attribution for r in sonicscan.scan(small_library, model=unsure, threshold=0.0)} == {aggregate.UNKNOWN}
    assert {r.attribution for r in sonicscan.scan(small_library, model=unsure, threshold=1.0)} == {None}


def test_several_paths_and_selection(small_library: Path, tiny_model: Path) -> None:
    found = sonicscan.scan([small_library / "a", small_library / "b" / "4.ogg"], model=tiny_model, exclude=["*.flac"])
    assert {Path(r.path).name for r in found} == {"1.wav", "3.mp3", "4.ogg"}
    every = {"1.wav", "2.flac", "3.mp3", "4.ogg"}
    kept = sonicscan.scan(small_library, model=tiny_model, include="*.mp3")  # a pattern, not five letters
    left = sonicscan.scan(small_library, model=tiny_model, exclude="*.mp3")
    assert {Path(r.path).name for r in kept} & every == {"3.mp3"}
    assert {Path(r.path).name for r in left} & every == every - {"3.mp3"}


def test_leaving_a_scan_early_leaves_no_process_behind(tiny_model: Path, tmp_path: Path) -> None:
    for k in range(8):
        write_sound(tmp_path / f"{k}.wav", music(6.0, seed=k))
    program = f"""
import os, subprocess, sonicscan
results = sonicscan.scan({str(tmp_path)!r}, model={str(tiny_model)!r}, workers=2, batch_size=1)
print(next(results).status)
results.close()
ps = ["ps", "-o", "pid=", "--ppid", str(os.getpid())]
print(len(subprocess.run(ps, capture_output=True, text=True).stdout.split()))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    status, children = done.stdout.splitlines()
    assert status == "ok"
    assert children == "1"  # ps itself


def test_no_guard_is_needed_in_a_script(small_library: Path, tiny_model: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"import sonicscan\nprint(len(list(sonicscan.scan({str(small_library)!r}, model={str(tiny_model)!r}))))\n"
    )
    assert subprocess.run([sys.executable, script], capture_output=True, check=True).stdout == b"6\n"


def test_modules_in_the_current_folder_are_not_imported(small_library: Path, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('taken over')\n")
    done = subprocess.run([PROGRAM, small_library, "--model", tiny_model, "-q"], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_errors_come_before_the_first_result(small_library: Path, calibrated_model: Path) -> None:
    with pytest.raises(InputError, match="there is no file or folder"):
        sonicscan.scan("nowhere", model=calibrated_model)
    with pytest.raises(ModelError, match="cannot be read"):
        sonicscan.scan(small_library, model="nowhere.onnx")
    windows: Any = 2.5
    with pytest.raises(InputError, match=r"a whole number, None for all, or 'adaptive', not 2\.5"):
        sonicscan.scan(small_library, model=calibrated_model, windows=windows)
    with pytest.raises(InputError, match="needs 2995"):
        sonicscan.scan(small_library, model=calibrated_model, max_fpr=0.001)


def test_every_parameter_is_documented() -> None:
    for call in (sonicscan.scan, sonicscan.Scanner):
        document = inspect.getdoc(call) or ""
        for name in inspect.signature(call).parameters:
            assert name in document
    assert ScannerOptions.__annotations__.keys() == inspect.signature(sonicscan.Scanner).parameters.keys()


def test_the_demo_library_is_scored_in_all_its_formats(tiny_model: Path, tmp_path: Path) -> None:
    paths = make_library(tmp_path / "demo")
    found = {Path(r.path): r for r in sonicscan.scan(tmp_path / "demo", model=tiny_model)}
    assert set(found) == set(paths)
    assert {r.codec for r in found.values()} == {"pcm_16", "flac", "vorbis", "opus", "mp3", "aac"}
    assert {r.status for r in found.values()} == {"ok"}
    assert all(r.duration_s == pytest.approx(12.0, abs=0.1) for r in found.values())


@pytest.mark.parametrize(
    ("calibrated_with", "windows", "certified"),
    [("12", 12, True), ("12", None, False), ("12", 4, False), ("all", None, True), ("all", 12, False)],
)
def test_a_certificate_holds_for_the_windows_that_the_model_was_calibrated_with(
    calibrated_with: str, windows: int | None, certified: bool, tmp_path: Path
) -> None:
    """Those that `sonicscan-train calibrate --windows all` and `sonicscan-export recalibrate` record."""
    spec = calibrated()
    known = dataclasses.replace(
        spec.calibration, windows=calibrated_with, ai_scores=tuple(np.linspace(0.3, 0.9, 40)), n_ai=40
    )
    spec = dataclasses.replace(spec, calibration=known)
    model = write_model(tmp_path / "m.onnx", spec)
    scan = Scan(ScanOptions(model=model, windows=WindowPlan.of(windows), device=Device("cpu")))
    assert any("is not certified" in note for note in scan.notes) != certified
    assert (log10_lr(0.5, scan.judged_by.calibration) is not None) == certified


def wav(path: Path, samples: np.ndarray, rate: int) -> Path:
    soundfile.write(path, samples, rate, subtype="FLOAT")
    return path


@pytest.mark.parametrize(("channels", "rate"), [(1, 22050), (2, 44100), (3, 48000)])
def test_sound_in_memory_scores_as_the_same_sound_in_a_file(
    channels: int, rate: int, calibrated_model: Path, tmp_path: Path
) -> None:
    sound = music(31.0, rate, channels=channels, seed=channels)
    path = wav(tmp_path / "x.wav", sound, rate)
    with sonicscan.Scanner(calibrated_model, windows=4) as scanner:
        here = scanner.score(sound, rate, name=str(path))
        (there,) = scanner.scan(path)
        assert scanner.score_file(path).score == there.score
        assert scanner.explain(path).score == pytest.approx(there.score, abs=1e-6)
    assert here.score == pytest.approx(there.score, abs=1e-9)
    same = {"size": 0, "mtime_ns": 0, "elapsed_ms": None, "score": None, "p_value": None, "class_scores": None}
    same |= {"window_margins": None, "log10_lr": None}
    assert here.provenance is None  # samples have no tags
    same |= {"provenance": None}
    assert dataclasses.replace(here, **same) == dataclasses.replace(there, **same)
    assert here.window_margins == pytest.approx(there.window_margins, abs=1e-5)


def test_score_and_explain_use_all_windows_where_a_scan_would_be_adaptive(
    calibrated_model: Path, tmp_path: Path
) -> None:
    sound = music(60.0, 22050, channels=1, seed=5)
    path = wav(tmp_path / "x.wav", sound, 22050)
    with sonicscan.Scanner(calibrated_model, windows="adaptive") as scanner:
        here, evidence = scanner.score(sound, 22050), scanner.explain(path)
    assert here.windows == len(evidence.margins) == 12
    assert evidence.score == pytest.approx(here.score, abs=1e-6)


def test_sound_in_memory_that_cannot_be_scored_has_a_status(calibrated_model: Path) -> None:
    with sonicscan.Scanner(calibrated_model) as scanner:
        assert scanner.score(np.zeros(22050 * 6), 22050).status == "silent"
        assert scanner.score(music(0.5, 22050), 22050).status == "too_short"
        assert scanner.score(np.zeros((0, 2)), 22050).score is None
        for wrong in (np.zeros((2, 2, 2)), np.zeros(9, dtype=np.int16), np.zeros((9, 0)), np.zeros((9, 999))):
            with pytest.raises(InputError, match="float array"):
                scanner.score(wrong, 22050)
        assert scanner.score(music(6.0, 22050), 22050.0).status == "ok"
        for rate in (0, -1, 10**7, 22050.5, float("nan")):
            with pytest.raises(InputError, match="sample rate"):
                scanner.score(np.zeros(9), rate)


def test_a_scanner_says_what_it_is(calibrated_model: Path, small_library: Path) -> None:
    with sonicscan.Scanner(calibrated_model, max_fpr=0.05, device="cpu") as scanner:
        assert scanner.device == "cpu" and scanner.spec.classes[0] == "human"
        assert scanner.thresholds is not None and scanner.thresholds.max_fpr == 0.05
        with pytest.raises(InputError, match="holds more than one file"):
            scanner.score_file(small_library)
        with pytest.raises(AudioError, match=r"no such file\.wav cannot be explained: No such file"):
            scanner.explain("no such file.wav")
    with pytest.raises(ModelError, match="closed"):
        scanner.scan(small_library)


def test_one_pattern_and_numbers_of_numpy_are_taken_and_parts_of_windows_refused(
    calibrated_model: Path, small_library: Path
) -> None:
    windows: Any
    for windows in (2.5, "2.5", [2]):
        with pytest.raises(InputError, match=r"takes? a whole number|windows is a whole number"):
            sonicscan.Scanner(calibrated_model, windows=windows)
    windows = np.int64(2)
    with sonicscan.Scanner(calibrated_model, windows=windows) as scanner:
        every = [result.path for result in scanner.scan(small_library)]
        wav = {path for path in every if path.endswith(".wav")}
        assert 0 < len(wav) < len(every)
        assert {result.path for result in scanner.scan(small_library, include="*.wav")} == wav
        assert {result.path for result in scanner.scan(small_library, exclude="*.wav")} == set(every) - wav


def test_the_example_of_the_docs_runs(tmp_path: Path) -> None:
    docs = Path(__file__).parents[1] / "docs"
    script = docs / "examples" / "library.py"
    code = script.read_text(encoding="utf-8").split('"""\n\n', 1)[1]
    assert f"```python\n{code}```" in (docs / "api.md").read_text(encoding="utf-8")
    make_library(tmp_path / "demo")
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 10
    assert done.stdout.splitlines()[-1].startswith("the model no such model.onnx")


def test_a_scan_says_how_much_ai_is_caught_at_its_rate(tmp_path: Path) -> None:
    spec = dataclasses.replace(calibrated(), caught=(Caught(0.05, 0.41, 300),))
    model = write_model(tmp_path / "m.onnx", spec)
    said = "at a false-positive rate of 0.05 the model flags 41% of 300 AI tracks."
    assert said in Scan(ScanOptions(model=model, max_fpr=0.05, device=Device("cpu"))).notes
    assert not any("AI tracks" in note for note in Scan(ScanOptions(model=model, device=Device("cpu"))).notes)
