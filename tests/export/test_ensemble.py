"""Several checkpoints in one file: the mean of their maps over their temperatures, with weights in float16."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner

from sonicscan.errors import ModelError
from sonicscan.model.loading import load_model
from sonicscan.spec import AudioSpec, Calibration, ModelSpec
from sonicscan_export import data, networks
from sonicscan_export.cli import main
from sonicscan_train.judge.members import Member, Scale, write_fit
from sonicscan_train.nets import checkpoint
from sonicscan_train.nets.backbones import DetectorNet, build

TINY = "test_byobnet"
TEMPERATURES = (0.5, 2.0, 1.0)
OFFSETS = (0.3, -0.2, 0.0)


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, DetectorNet]]:
    """Three checkpoints with calibrations and temperatures of their own."""
    folder = tmp_path_factory.mktemp("members")
    made = []
    for k, temperature in enumerate(TEMPERATURES):
        detector = build(TINY, seed=k).eval()
        with torch.no_grad():
            detector.head.bias.copy_(torch.tensor([0.5, -1.0 * k]))
        spec = ModelSpec(
            detector.architecture,
            temperature=temperature,
            offset=OFFSETS[k],
            calibration=Calibration.of([0.1, 0.2]),
            provenance={"recipe": "small", "fold": k},
        )
        checkpoint.save(folder / f"m{k}", detector, spec)
        made.append((folder / f"m{k}", detector))
    return made


def images(n: int) -> torch.Tensor:
    return torch.from_numpy(data.as_batch(data.synthetic_windows(AudioSpec(), n).images))


def test_the_mean_is_of_maps_on_the_members_own_scales(members: list[tuple[Path, DetectorNet]]) -> None:
    network = networks.from_checkpoints([folder for folder, _ in members], "three-v1")
    spec = network.spec
    assert (spec.architecture, spec.temperature, spec.offset, spec.calibration.n) == ("three-v1", 1.0, 0.0, 0)
    assert [(m["fold"], m["temperature"], m["offset"]) for m in network.origin["members"]] == [
        (k, TEMPERATURES[k], OFFSETS[k]) for k in range(3)
    ]
    with torch.inference_mode():
        margins = torch.stack(
            [
                (maps[:, 1] - maps[:, 0] - offset) / temperature
                for maps, temperature, offset in zip(
                    (detector.class_maps(images(2)) for _, detector in members), TEMPERATURES, OFFSETS, strict=True
                )
            ]
        ).mean(dim=0)
        maps = network.detector.class_maps(images(2))
        torch.testing.assert_close(maps[:, 1] - maps[:, 0], margins, rtol=1e-4, atol=1e-5)
        logits = network.detector(images(2))
        torch.testing.assert_close(logits, maps.mean(dim=(2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("precision", "types"),
    [
        ("half-weights", {onnx.TensorProto.FLOAT16}),
        ("byte-weights", {onnx.TensorProto.FLOAT16, onnx.TensorProto.INT8}),
    ],
)
def test_one_file_holds_all_members_and_the_cross_fitted_calibration(
    precision: str, types: set[int], members: list[tuple[Path, DetectorNet]], tmp_path: Path
) -> None:
    folders = [folder for folder, _ in members]
    found = ModelSpec("named", calibration=Calibration.of([0.1] * 400, "left out"), shrink=1.5, license_note="terms")
    (tmp_path / "fit").mkdir()
    digests = [checkpoint.weights_digest(folder) for folder in folders]
    scored = "fp32" if precision == "half-weights" else precision

    def write(*precisions: str) -> None:
        fitted = [
            Member(d, p, (), Scale(2.0, 0.1 * k)) for k, (d, p) in enumerate(zip(digests, precisions, strict=True))
        ]
        write_fit(found, fitted, tmp_path / "fit")

    write(scored, scored, scored)
    out = tmp_path / "three-v1.onnx"
    command = [*map(str, folders), "--precision", precision, "--crossfit", str(tmp_path / "fit"), "--out", str(out)]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    model = load_model(out)
    spec = model.spec
    assert (spec.architecture, spec.calibration.n, spec.shrink, spec.license_note) == ("three-v1", 400, 1.5, "terms")
    assert spec.provenance["precision"] == precision
    assert [(m["fold"], m["temperature"]) for m in spec.provenance["members"]] == [(0, 2.0), (1, 2.0), (2, 2.0)]
    stored = {t.data_type for t in onnx.load(out).graph.initializer if np.prod(t.dims) >= 1024}
    assert stored <= types
    detector = networks.from_checkpoints(folders, "three-v1", tmp_path / "fit").detector
    for n in (1, 3):  # the batch axis is free
        logits, maps = model.session.run(["logits", "class_maps"], {"spectrogram": images(n).numpy()})
        with torch.inference_mode():
            wanted = detector(images(n)).numpy()
        assert np.abs(logits - wanted).max() < (0.01 if precision == "half-weights" else 0.05) * np.abs(wanted).max()
        assert np.abs(maps.mean(axis=(2, 3), dtype=np.float64) - logits).max() < 1e-5
    wrong = CliRunner().invoke(main, [*command[1:-1], str(tmp_path / "x.onnx")])
    assert wrong.exit_code == 2 and "export the members that it scored" in wrong.stderr
    # The calibration holds for the precision in which the members were scored.
    write("int8", "int8", "int8")
    other = CliRunner().invoke(main, command)
    assert other.exit_code == 2 and "use --precision int8" in other.stderr
    write("int8", "fp32", "int8")
    assert "scored members as fp32 and int8" in CliRunner().invoke(main, command).stderr


def test_one_member_takes_its_scale_from_the_cross_fitting(
    members: list[tuple[Path, DetectorNet]], tmp_path: Path
) -> None:
    folder, detector = members[1]
    found = ModelSpec("named", calibration=Calibration.of([0.1] * 400, "left out"))
    (tmp_path / "fit").mkdir()
    write_fit(found, [Member(checkpoint.weights_digest(folder), "fp32", (), Scale(2.0, 0.5))], tmp_path / "fit")
    out = tmp_path / "one-v1.onnx"
    result = CliRunner().invoke(main, [str(folder), "--crossfit", str(tmp_path / "fit"), "--out", str(out)])
    assert result.exit_code == 0, result.output
    model = load_model(out)
    assert (model.spec.architecture, model.spec.calibration.n) == ("one-v1", 400)
    logits = model.session.run(["logits"], {"spectrogram": images(2).numpy()})[0]
    with torch.inference_mode():
        raw = detector(images(2)).numpy()
    assert np.allclose(logits[:, 1] - logits[:, 0], (raw[:, 1] - raw[:, 0] - 0.5) / 2.0, atol=1e-4)
    alone = CliRunner().invoke(main, ["--backbone", TINY, "--crossfit", str(tmp_path / "fit"), "--out", str(out)])
    assert alone.exit_code == 2 and "needs the checkpoints that it scored" in alone.stderr


def test_members_must_share_audio_and_classes(members: list[tuple[Path, DetectorNet]], tmp_path: Path) -> None:
    other = build(TINY, 3, seed=5)
    checkpoint.save(tmp_path / "other", other, ModelSpec(other.architecture, classes=("human", "a", "b")))
    with pytest.raises(ModelError, match="another AudioSpec or other classes"):
        networks.from_checkpoints([members[0][0], tmp_path / "other"], "x")
