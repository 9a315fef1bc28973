"""The audit: it fails data with shortcuts to the classes, and passes data without."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile
from click.testing import CliRunner, Result
from training_sound import RATE, people_or_machine, write_manifest

from sonicscan_train.cli import main
from sonicscan_train.data.baselines import ALL, baselines
from sonicscan_train.data.features import measure

N = 24  # files of each class


def write_files(folder: Path, *, cut_ai_at: float | None = None) -> list[dict[str, str]]:
    """Files of noise alone, alike in both classes but for what is asked."""
    rows = []
    for label in ("human", "ai"):
        for i in range(N):
            rng = np.random.default_rng([i, label == "ai"])
            sound = (rng.uniform(0.05, 0.2) * rng.standard_normal(int(rng.uniform(1.5, 2.5) * RATE))).clip(-1, 1)
            if label == "ai" and cut_ai_at:
                sound = scipy.signal.sosfilt(scipy.signal.ellip(12, 0.1, 90, cut_ai_at, fs=RATE, output="sos"), sound)
            soundfile.write(folder / f"{label}{i}.wav", sound, RATE, subtype="FLOAT")
            rows.append({"path": f"{label}{i}.wav", "label": label, "source": label, "group": f"{label}{i // 2}"})
    return rows


def audit(folder: Path, rows: list[dict[str, str]], *options: str) -> Result:
    return CliRunner().invoke(main, ["audit", str(write_manifest(folder / "m.csv", rows)), "--workers", "1", *options])


def test_a_harmonised_set_passes(tmp_path: Path) -> None:
    result = audit(tmp_path, write_files(tmp_path), "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, result.stdout
    assert "audit of 48 files: passed" in result.stdout
    found = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert found["passed"] and found["findings"] == []
    assert {row["feature"] for row in found["measured"]} >= {"bandwidth_hz", "codec", "dc", "leading_silence_s", ALL}
    assert (tmp_path / "out" / "audit.png").read_bytes().startswith(b"\x89PNG")


def test_a_set_in_which_bandwidth_alone_differs_fails(tmp_path: Path) -> None:
    rows = write_files(tmp_path, cut_ai_at=8000.0)
    result = audit(tmp_path, rows, "--out", str(tmp_path / "out"))
    assert result.exit_code == 1
    assert "FOUND: bandwidth_hz alone tells AI from people with AUC 1.00" in result.stdout
    found = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert [row["feature"] for row in found["measured"] if row["auc"] > 0.9] == ["bandwidth_hz", ALL]
    assert audit(tmp_path, rows, "--max-auc", "0.999").exit_code == 1
    assert audit(tmp_path, rows, "--max-auc", "1.0").exit_code == 2


def test_a_group_or_an_artist_in_two_parts_fails(tmp_path: Path) -> None:
    rows = [{**row, "split": ("train", "test")[i // 2 % 2]} for i, row in enumerate(write_files(tmp_path))]
    assert audit(tmp_path, rows).exit_code == 0
    torn = [dict(row) for row in rows]
    torn[0]["split"] = "test"
    result = audit(tmp_path, torn)
    assert result.exit_code == 1 and "1 group is in two parts of the split: human0" in result.stdout
    shared = [{**row, "artist": ""} for row in rows]
    shared[0]["artist"] = shared[2]["artist"] = "Ann"
    result = audit(tmp_path, shared)
    assert result.exit_code == 1 and "1 artist is in two parts of the split: Ann" in result.stdout


def test_the_same_sound_in_two_classes_or_parts_fails_in_any_format(tmp_path: Path) -> None:
    rows = write_files(tmp_path)
    rng = np.random.default_rng(0)
    pcm = rng.integers(-8000, 8000, 2 * RATE, dtype=np.int16)
    soundfile.write(tmp_path / "human0.wav", pcm, RATE)
    padded = np.concatenate([np.zeros(100, np.int16), pcm])
    soundfile.write(tmp_path / "ai0.flac", padded, RATE)
    rows[N]["path"] = "ai0.flac"
    result = audit(tmp_path, rows)
    assert result.exit_code == 1 and "1 sound is in two classes" in result.stdout


def test_columns_of_the_manifest_are_reported_but_decide_nothing(tmp_path: Path) -> None:
    rows = [{**r, "orig_format": "wav" if r["label"] == "ai" else "mp3", "orig_rms_db": "-12.5", "orig_number": "1e41"}
            for r in write_files(tmp_path)]  # fmt: skip
    rows[0] |= {"orig_rms_db": "-inf", "orig_number": "inf"}  # a silent file, and numbers over float32's range
    result = audit(tmp_path, rows, "--columns", "orig_*")
    assert result.exit_code == 0 and "orig_format alone reaches AUC 1.00" in result.stdout
    assert audit(tmp_path, rows, "--columns", "none_*").exit_code == 2


def test_an_unreadable_file_is_named_and_limited(tmp_path: Path) -> None:
    rows = write_files(tmp_path)
    (tmp_path / "ai3.wav").write_text("not sound")
    assert audit(tmp_path, rows, "--max-bad", "0").exit_code == 2
    result = audit(tmp_path, rows, "--max-bad", "1")
    assert result.exit_code == 0 and "ai3.wav" in result.stderr


def test_features_are_what_they_say(tmp_path: Path) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(int(1.75 * RATE)) / RATE)
    sound = np.concatenate([np.zeros(RATE // 4), tone]) + 0.0005
    soundfile.write(tmp_path / "a.flac", np.stack([sound, sound], axis=1), RATE, subtype="PCM_24")
    found = measure(str(tmp_path / "a.flac"))
    assert (found.sample_rate, found.channels, found.codec, found.duration_s) == (RATE, 2, "flac", len(sound) / RATE)
    assert found.leading_silence_s == pytest.approx(0.25, abs=0.001)
    assert found.peak_db == pytest.approx(-6.0, abs=0.05)
    assert found.rms_db == pytest.approx(-9.6, abs=0.1)
    assert found.dc == pytest.approx(20 * np.log10(0.0005), abs=0.5)
    assert found.bandwidth_hz == pytest.approx(1000, abs=60)
    soundfile.write(tmp_path / "b.flac", people_or_machine(False, 0, 2.0), RATE)
    assert measure(str(tmp_path / "b.flac")).audio_hash != found.audio_hash


def test_baselines_judge_on_unseen_groups_only() -> None:
    # Each group has its own value: a tree separates known groups perfectly, and unseen groups not at all.
    rng = np.random.default_rng(0)
    groups = [f"g{i}" for i in range(60) for _ in range(10)]
    truth = np.repeat(rng.permutation(np.arange(60) % 2).astype(bool), 10)
    values = np.repeat(rng.permutation(60).astype(float), 10)
    words = ["yes" if t else "no" for t in truth]
    by_name = {b.feature: b for b in baselines({"of the group": list(values), "telling": words}, truth, groups)}
    assert not by_name["of the group"].separates(0.65)
    assert by_name["telling"].auc == 1.0 and by_name["telling"].separates(0.65)
