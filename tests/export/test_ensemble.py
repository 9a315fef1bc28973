"""Several checkpoints in one file: the mean of their maps over their temperatures, with weights in float16."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner

from sonicscan.errors import ModelError
from sonicscan.model.detector import load_model
from sonicscan.spec import AudioSpec, Calibration, ModelSpec
from sonicscan_export import convert, data
from sonicscan_export.cli import main
from sonicscan_train.nets import checkpoint
from sonicscan_train.nets.backbones import Detector, build
from sonicscan_train.nets.ensemble import mean_of

TINY = "test_byobnet"
TEMPERATURES = (0.5, 2.0, 1.0)


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Detector]]:
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
            calibration=Calibration.of([0.1, 0.2]),
            provenance={"recipe": "small", "fold": k},
        )
        checkpoint.save(folder / f"m{k}", detector, spec)
        made.append((folder / f"m{k}", detector))
    return made


def images(n: int) -> torch.Tensor:
    return torch.from_numpy(data.as_batch(data.synthetic_windows(AudioSpec(), n).images))


def test_the_mean_is_of_maps_over_temperatures(members: list[tuple[Path, Detector]]) -> None:
    together = mean_of([detector for _, detector in members], TEMPERATURES, "three")
    with torch.inference_mode():
        each = [detector.class_maps(images(2)) / t for (_, detector), t in zip(members, TEMPERATURES, strict=True)]
        wanted = torch.stack(each).mean(dim=0)
        torch.testing.assert_close(together.class_maps(images(2)), wanted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(together(images(2)), wanted.mean(dim=(2, 3)), rtol=1e-4, atol=1e-5)


def test_one_file_holds_all_members_at_half_the_size(members: list[tuple[Path, Detector]], tmp_path: Path) -> None:
    out = tmp_path / "three-v1.onnx"
    result = CliRunner().invoke(main, [*(str(folder) for folder, _ in members), "--out", str(out)])
    assert result.exit_code == 0, result.output
    model = load_model(out)
    spec = model.spec
    assert (spec.architecture, spec.temperature, spec.calibration.n) == ("three-v1", 1.0, 0)
    assert spec.provenance["precision"] == "half-weights"
    assert [(m["fold"], m["temperature"]) for m in spec.provenance["members"]] == list(enumerate(TEMPERATURES))
    assert len({m["weights_digest"] for m in spec.provenance["members"]}) == 3
    stored = {t.data_type for t in onnx.load(out).graph.initializer if np.prod(t.dims) >= 1024}
    assert stored == {onnx.TensorProto.FLOAT16}
    detector = convert.from_checkpoints([folder for folder, _ in members], "three-v1").detector
    for n in (1, 3):  # the batch axis is free
        logits, maps = model.session.run(["logits", "class_maps"], {"spectrogram": images(n).numpy()})
        with torch.inference_mode():
            wanted = detector(images(n)).numpy()
        assert np.abs(logits - wanted).max() < 0.01 * np.abs(wanted).max()
        assert np.abs(maps.mean(axis=(2, 3), dtype=np.float64) - logits).max() < 1e-5


def test_members_must_share_audio_and_classes(members: list[tuple[Path, Detector]], tmp_path: Path) -> None:
    other = build(TINY, 3, seed=5)
    checkpoint.save(tmp_path / "other", other, ModelSpec(other.architecture, classes=("human", "a", "b")))
    with pytest.raises(ModelError, match="another AudioSpec or other classes"):
        convert.from_checkpoints([members[0][0], tmp_path / "other"], "x")
