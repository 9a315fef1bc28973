"""The contract survives its JSON, and whatever lies in it is refused by name."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonicscan.errors import ModelError
from sonicscan.spec import (
    MAX_CLASSES,
    MAX_LOWER_SCORES,
    MAX_STORED_SCORES,
    PRESETS,
    AudioSpec,
    Calibration,
    Caught,
    Material,
    ModelSpec,
)

LAW = settings(derandomize=True, deadline=None, max_examples=100)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
SPECS = st.builds(
    ModelSpec,
    architecture=TEXT,
    classes=st.lists(TEXT.filter(lambda t: t != "human"), min_size=1, max_size=8, unique=True).map(
        lambda names: ("human", *names)
    ),
    audio=st.builds(
        AudioSpec,
        sample_rate=st.integers(16000, 48000),
        hop_length=st.integers(100, 1000),
        fmin=st.floats(0, 200),
        fmax=st.floats(1000, 8000),
        reference=st.sampled_from(["max", "unit"]),
    ),
    temperature=st.floats(0.01, 100),
    offset=st.floats(-10, 10),
    shrink=st.floats(0, 30),
    calibration=st.builds(
        Calibration.of,
        st.lists(st.floats(0, 1), max_size=30),
        TEXT,
        ai_scores=st.lists(st.floats(0, 1), max_size=30),
        windows=st.sampled_from(["12", "all", "1", "unknown"]),
        material=st.none() | st.builds(Material.of, st.lists(TEXT), st.lists(st.integers(1, 10**6))),
    ),
    caught=st.lists(st.builds(Caught, st.just(0.01), st.floats(0, 1), st.integers(1, 9)), max_size=2).map(tuple),
    untrained=st.booleans(),
    unknown_below=st.none() | st.floats(0, 1),
    metrics=st.dictionaries(TEXT, JSON, max_size=4),
    provenance=st.dictionaries(TEXT, JSON, max_size=4),
    license_note=TEXT,
)


@LAW
@given(SPECS)
def test_round_trip(spec: ModelSpec) -> None:
    again = ModelSpec.from_json(spec.to_json())
    assert again == spec
    assert again.to_json() == spec.to_json()
    assert again.audio.digest == spec.audio.digest


@LAW
@given(SPECS, st.sampled_from([f.name for f in dataclasses.fields(AudioSpec)]))
def test_digest_changes_with_every_field(spec: ModelSpec, name: str) -> None:
    changed = {"reference": "unit" if spec.audio.reference == "max" else "max", "n_mels": 256, "n_frames": 256}
    value = changed.get(name) or getattr(spec.audio, name) * 0.99 + 1e-3
    if name in ("sample_rate", "n_fft", "hop_length"):
        value = getattr(spec.audio, name) + 1
    if name == "db_floor":
        value = 2e-10
    other = dataclasses.replace(spec.audio, **{name: value})
    assert (other.digest == spec.audio.digest) == (name in ("n_mels", "n_frames"))


def test_windows_have_the_frames_the_model_takes() -> None:
    for spec in PRESETS.values():
        assert 1 + spec.window_samples // spec.hop_length == spec.n_frames
    assert PRESETS["default"].window_s == pytest.approx(4.996, abs=1e-3)
    assert PRESETS["seed"].window_s == pytest.approx(5.921, abs=1e-3)


LIES: list[tuple[str, Any]] = [
    ("audio.hop_length", 0),
    ("audio.hop_length", -432),
    ("audio.hop_length", 10**9),
    ("audio.hop_length", 432.0),
    ("audio.hop_length", "432"),
    ("audio.hop_length", True),
    ("audio.hop_length", None),
    ("audio.sample_rate", 10**9),
    ("audio.sample_rate", 10**400),
    ("audio.n_fft", 2**40),
    ("audio.n_fft", 1),
    ("audio.n_mels", 128),
    ("audio.n_frames", 10**9),
    ("audio.fmin", -1.0),
    ("audio.fmin", 7999.9),
    ("audio.fmax", 20000.0),
    ("audio.fmax", math.nan),
    ("audio.fmax", 10**400),
    ("audio.top_db", math.inf),
    ("audio.top_db", 0.0),
    ("audio.db_floor", 0.0),
    ("audio.db_floor", [1e-10]),
    ("audio.reference", "median"),
    ("audio.reference", 1),
    ("audio.colour", "blue"),
    ("audio", None),
    ("audio", []),
    ("classes", []),
    ("classes", ["human"]),
    ("classes", ["ai", "human"]),
    ("classes", ["human", "ai", "ai"]),
    ("classes", ["human", 5]),
    ("classes", "human"),
    ("classes", {"human": 0, "ai": 1}),
    ("classes", ["human", *map(str, range(MAX_CLASSES))]),
    ("temperature", 0.0),
    ("temperature", -1.0),
    ("temperature", math.nan),
    ("temperature", 1e400),
    ("temperature", "1"),
    ("temperature", 1e-300),
    ("temperature", 1e300),
    ("calibration.scores", [0.5, 0.4]),
    ("calibration.scores", [-0.1, 0.5]),
    ("calibration.scores", [0.5, 1.1]),
    ("calibration.scores", [0.5, math.nan]),
    ("calibration.scores", [0.5, "0.6"]),
    ("calibration.scores", [0.5, True]),
    ("calibration.scores", 0.5),
    ("calibration.n", 3),
    ("calibration.n", 10**9),
    ("calibration.n", -1),
    ("calibration.n", 2.0),
    ("calibration.data", 7),
    ("calibration.lower", [0.1]),
    ("calibration.ai_scores", [0.9]),
    ("calibration.n_ai", -1),
    ("calibration.windows", "12 windows"),
    ("calibration.windows", 12),
    ("calibration.windows", "9" * 1000),
    ("calibration.material", 3),
    ("calibration.material", {"codecs": {}}),
    ("offset", math.inf),
    ("offset", -1e308),
    ("offset", "0"),
    ("shrink", -0.1),
    ("shrink", math.nan),
    ("shrink", 1e9),
    ("caught", [{"max_fpr": 0.01, "share": 1.5, "n": 3}]),
    ("caught", [{"max_fpr": 0.01}]),
    ("caught", [{"max_fpr": 0.01, "share": 0.5, "n": 3}] * 1000),
    ("calibration", [0.5]),
    ("unknown_below", -0.1),
    ("unknown_below", 1.5),
    ("unknown_below", "half"),
    ("untrained", "no"),
    ("untrained", 0),
    ("architecture", None),
    ("metrics", [1]),
    ("provenance", "me"),
    ("data_digest", 5),
    ("tool_version", {}),
    ("license_note", ["MIT"]),
    ("card", 1),
    ("threshold", -0.5),
]


@pytest.mark.parametrize(("field", "lie"), LIES, ids=[f"{field}={str(lie)[:20]}" for field, lie in LIES])
def test_a_lying_field_is_refused_by_name(field: str, lie: object) -> None:
    spec = ModelSpec("tiny", calibration=Calibration.of([0.4, 0.6]))
    raw = json.loads(spec.to_json())
    *parents, name = field.split(".")
    inner = raw[parents[0]] if parents else raw
    inner[name] = lie
    with pytest.raises(ModelError) as refused:
        ModelSpec.from_json(json.dumps(raw))
    said = str(refused.value)
    names = {"classes": "class", "n": "calibration", "n_ai": "ai_scores", "scores": "calibration"}
    assert names.get(name, name) in said.lower()
    assert len(said) < 400
    assert "\n" not in said.lower()


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(ModelSpec)])
def test_a_missing_field_is_refused_by_name(field: str) -> None:
    raw = json.loads(ModelSpec("tiny").to_json())
    del raw[field]
    with pytest.raises(ModelError, match=f"lacks '{field}'"):
        ModelSpec.from_json(json.dumps(raw))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"human"', "[" * 100_000, "\0", "9" * 5000])
def test_what_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(ModelError, match="metadata is not"):
        ModelSpec.from_json(text)


@pytest.mark.parametrize("depth", [99, 700])
def test_values_nested_without_end_are_refused(depth: int) -> None:
    deep: dict[str, object] = {}
    for _ in range(depth):
        deep = {"a": deep}
    text = ModelSpec("tiny").to_json().replace('"provenance": {}', f'"provenance": {json.dumps(deep)}')
    with pytest.raises(ModelError, match="nested more than 100 levels deep"):
        ModelSpec.from_json(text)


@pytest.mark.parametrize("version", [None, 0, 3, True, "1", 10**30, [1]])
def test_an_unknown_version_is_refused_by_name(version: object) -> None:
    raw = json.loads(ModelSpec("tiny").to_json()) | {"version": version}
    with pytest.raises(ModelError, match="has version"):
        ModelSpec.from_json(json.dumps(raw))


def test_calibration_keeps_the_highest_scores() -> None:
    scores = [(k * 7919 % 5000) / 5000 for k in range(5000)]
    calibration = Calibration.of(scores, "five thousand")
    assert calibration.n == 5000
    assert list(calibration.scores) == sorted(scores)[-MAX_STORED_SCORES:]
    assert ModelSpec.from_json(ModelSpec("x", calibration=calibration).to_json()).calibration == calibration
    assert len(calibration.lower) == MAX_LOWER_SCORES
    assert np.median(calibration.lower) == pytest.approx(0.3, abs=0.002)  # of the 3,000 that are not stored


@pytest.mark.parametrize("n", [10**10, 10**400])
def test_a_calibration_of_more_tracks_than_there_are_is_refused(n: int) -> None:
    """Numbers of this size fit neither into memory nor into a float."""
    stored = [0.5] * MAX_STORED_SCORES
    for calibration in (
        {"n": n, "scores": stored},
        {"n_ai": n, "ai_scores": stored},
        {"material": dataclasses.asdict(Material()) | {"codecs": {"mp3": n}}},
    ):
        raw = json.loads(ModelSpec("x").to_json())
        raw["calibration"] |= calibration
        with pytest.raises(ModelError, match="1,000,000,000"):
            ModelSpec.from_json(json.dumps(raw))
    with pytest.raises(ModelError, match="caught"):
        Caught(0.01, 0.5, n)


def test_a_calibration_can_be_a_key() -> None:
    assert hash(Calibration.of([0.5], material=Material.of(["mp3"], [44100]))) == hash(Calibration.of([0.5]))


def test_of_many_ai_scores_even_ranks_are_kept() -> None:
    calibration = Calibration.of([], ai_scores=[(k * 7919 % 5000) / 5000 for k in range(5000)])
    assert (calibration.n, calibration.n_ai, len(calibration.ai_scores)) == (0, 5000, MAX_STORED_SCORES)
    assert np.mean(calibration.ai_scores) == pytest.approx(0.5, abs=1e-3)


def test_material_counts_and_quantiles() -> None:
    material = Material.of(
        ["mp3", "flac", "mp3", None], [44100, 48000, 44100, None], [None, 16000.0, 11000.0, math.nan], range(101)
    )
    assert material.codecs == {"mp3": 2, "flac": 1} and material.sample_rates == {"44100": 2, "48000": 1}
    assert material.bandwidth_hz == (11000.0, 16000.0) and material.loudness_db == ()
    assert material.duration_s == tuple(float(round(2.5 * i)) for i in range(41))


def version_1(**changes: Any) -> dict[str, Any]:
    """The JSON of a version 1 contract, as sonicscan 0.1 wrote it."""
    calibration = {"scores": [0.1, 0.2], "n": 2, "data": "two tracks"}
    return {
        "version": 1, "architecture": "tiny", "classes": ["human", "ai"], "temperature": 2.0, "untrained": False,
        "audio": dataclasses.asdict(PRESETS["seed"]), "calibration": calibration, "unknown_below": None,
        "metrics": {}, "data_digest": "", "provenance": {}, "tool_version": "0.1", "license_note": "", "card": "",
        **changes,
    }  # fmt: skip


def test_version_1_is_read() -> None:
    spec = ModelSpec.from_json(json.dumps(version_1()))
    assert spec.audio == PRESETS["seed"] and (spec.temperature, spec.offset, spec.shrink) == (2.0, 0.0, 0.0)
    assert spec.calibration == Calibration.of([0.1, 0.2], "two tracks") and spec.calibration.windows == "12"
    assert spec.caught == ()
    assert ModelSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    ("named", "plan"), [("all", "all"), ("30", "30"), ("an unknown number of", "unknown"), ([], "unknown")]
)
def test_version_1_named_the_plan_of_a_recalibration_in_its_provenance(named: object, plan: str) -> None:
    raw = version_1(provenance={"recalibrated": {"windows": named}})
    assert ModelSpec.from_json(json.dumps(raw)).calibration.windows == plan


@pytest.mark.parametrize(
    "broken", ["0.8", {"0.05": 0.8}, {"0.05": {"tpr": 1.8, "n_ai": 5}}, {"0.05": {"tpr": 0.8}}, {}]
)
def test_version_1_said_in_its_metrics_how_much_ai_is_caught(broken: object) -> None:
    table = {"0.01": {"tpr": 0.8, "n_ai": 200}} | broken if isinstance(broken, dict) else broken
    spec = ModelSpec.from_json(json.dumps(version_1(metrics={"tpr_at_fpr": table})))
    assert spec.caught == ((Caught(0.01, 0.8, 200),) if isinstance(broken, dict) else ())


@pytest.mark.parametrize("name", ["shrink", "offset", "caught"])
def test_version_1_has_no_fields_of_version_2(name: str) -> None:
    with pytest.raises(ModelError, match=f"unknown field '{name}'"):
        ModelSpec.from_json(json.dumps(version_1(**{name: 0.0})))


def test_half_a_surrogate_pair_in_a_class_name_is_refused() -> None:
    text = ModelSpec("x").to_json().replace('"ai"', '"\\ud800"')
    with pytest.raises(ModelError, match="not JSON in UTF-8"):
        ModelSpec.from_json(text)
