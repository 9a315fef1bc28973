"""Checkpoints from an exported model: the same outputs, and normalisations that training can continue with."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner, Result
from synthesis import music
from torch import nn

from sonicscan.cli.demo import write_sound
from sonicscan.errors import ModelError
from sonicscan.spec import AudioSpec, Calibration, ModelSpec
from sonicscan_export import data, networks, onnxfile, verify
from sonicscan_export.cli import main
from sonicscan_export.convert import export
from sonicscan_export.restore import networks_of
from sonicscan_train.nets import checkpoint
from sonicscan_train.nets.backbones import DetectorNet, as_input, build

TINY, QUANTISED = "test_byobnet", "test_resnet"
MEMBERS = 2


def run(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def tracks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of four tracks that have 75 windows each, some with much noise: the margins spread."""
    folder = tmp_path_factory.mktemp("tracks")
    with (folder / "tracks.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "label"))
        for k in range(4):
            sound = music(75 * 5.02, 11025, 1, seed=k)
            noise = np.random.default_rng(k).normal(0, 0.1, sound.shape).astype(np.float32)
            loud = np.linspace(0, 40, len(sound)).astype(int) % 4 == k
            write_sound(folder / f"{k}.flac", sound + noise * loud.reshape(-1, *[1] * (sound.ndim - 1)), 11025)
            rows.writerow((f"{k}.flac", "human"))
    return folder / "tracks.csv"


def trained(name: str, seed: int) -> DetectorNet:
    """A network of random weights in which each layer counts, and no two norms are equal, as after training."""
    detector = build(name, seed=seed)
    torch.manual_seed(seed)
    with torch.no_grad():
        for norm in (m for m in detector.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.weight.uniform_(0.8, 1.2)
            norm.bias.uniform_(-0.2, 0.2)
        detector.head.weight.mul_(20.0)
    return detector.eval()


def same_maps(first: Path, second: Path, tolerance: float) -> bool:
    """Whether two files give the same class maps within a share of the largest value."""
    images = data.synthetic_windows(AudioSpec(), 4).images
    wanted, found = (verify.run(verify.load_for_cpu(path), images, 4).maps for path in (first, second))
    return bool(np.abs(wanted - found).max() <= tolerance * np.abs(wanted).max())


def test_a_mean_gives_its_members_back(tracks: Path, tmp_path: Path) -> None:
    folders = []
    for k in range(MEMBERS):
        folders.append(tmp_path / f"m{k}")
        spec = ModelSpec(TINY, temperature=0.5 + k, offset=0.1, calibration=Calibration.of([0.1, 0.2]))
        checkpoint.save(folders[-1], trained(TINY, k), spec)
    model, out, again = tmp_path / "pair.onnx", tmp_path / "restored", tmp_path / "again.onnx"
    made = run(*folders, "--out", model)
    assert made.exit_code == 0, made.output

    result = run("restore", model, "--data", tracks, "--out", out)
    assert result.exit_code == 0, result.output
    assert f"{out / 'member-1' / 'best'} is a checkpoint" in result.stderr
    restored = [out / f"member-{k}" / "best" for k in range(MEMBERS)]
    assert run(*restored, "--out", again, "--precision", "fp32").exit_code == 0
    assert same_maps(model, again, 0.002)
    # No trace of the calibration is left, which was of other scores; training can start from the weights.
    detector, spec = checkpoint.load(restored[1])
    assert spec.calibration.n == 0 and (spec.temperature, spec.offset) == (1.0, 0.0) and spec.architecture == TINY
    assert spec.provenance["model_digest"] == onnxfile.digest(model)
    started = build(TINY, weights=restored[1] / checkpoint.WEIGHTS_NAME)
    assert torch.equal(next(started.backbone.parameters()), next(detector.backbone.parameters()))
    # The norms have the statistics of real windows, so those of a batch change the outputs little.
    windows = torch.from_numpy(data.real_windows(data.read_calibration_data(tracks).ranging, spec.audio, 64, "").images)
    with torch.no_grad():
        fixed = detector(as_input(windows))
        moving = detector.train()(as_input(windows))
    assert (fixed - moving).abs().max() < 0.15 * (fixed.max() - fixed.min())

    refused = run("restore", model, "--data", tracks, "--out", out)
    assert refused.exit_code == 2 and "exists already" in refused.output


def test_weights_come_back_without_their_quantisation(tracks: Path, tmp_path: Path) -> None:
    detector = build(QUANTISED, seed=3).eval()
    with torch.no_grad():
        detector.head.weight.mul_(300.0)
    checkpoint.save(tmp_path / "best", detector, ModelSpec(QUANTISED))
    model, out = tmp_path / "bytes.onnx", tmp_path / "restored"
    made = run(tmp_path / "best", "--out", model, "--precision", "int8", "--calibration-data", tracks)
    assert made.exit_code == 0, made.output
    result = run("restore", model, "--data", tracks, "--out", out)
    assert result.exit_code == 0, result.output
    restored, _ = checkpoint.load(out / "best")
    layers = [[m for m in each.backbone.modules() if isinstance(m, nn.Conv2d)] for each in (detector, restored)]
    # The last layers of residual branches have a scale of 0 at first.
    pairs = [(before, after) for before, after in zip(*layers, strict=True) if after.weight.any()]
    assert len(pairs) > 10
    for before, after in pairs:
        # 63 steps on each side of zero, with a scale for each output channel.
        step = before.weight.abs().amax(dim=(1, 2, 3), keepdim=True) / 63
        assert ((after.weight - before.weight).abs() <= 0.51 * step).all()


def test_a_lambda_comes_back_with_its_positions(tmp_path: Path) -> None:
    detector = trained("lambda", 5)
    spec = ModelSpec(detector.architecture)
    path = tmp_path / "lambda.onnx"
    export(networks.Network(detector, spec, {}), path)
    model = onnxfile.read(path)
    images = data.synthetic_windows(spec.audio, 4).images
    said: list[str] = []
    (restored,) = networks_of(model, onnxfile.read_spec(model, path), path, images, said.append)
    assert said == [f"restoring {detector.architecture}."]
    with torch.no_grad():
        wanted, found = (each.class_maps(as_input(torch.from_numpy(images))) for each in (detector, restored))
    assert (wanted - found).abs().max() < 1e-3 * wanted.abs().max()


@pytest.mark.parametrize("other", ["tf_efficientnet_lite0", "swinv2_small_window16_256"])
def test_a_network_that_is_stored_otherwise_is_refused(other: str, tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    export(networks.Network(trained(TINY, 0), ModelSpec(TINY), {}), path)
    model: onnx.ModelProto = onnxfile.read(path)
    images = data.synthetic_windows(AudioSpec(), 2).images
    with pytest.raises(ModelError, match=r"tiny\.onnx .*restored"):
        networks_of(model, ModelSpec(other), path, images, lambda message: None)


def test_the_windows_come_from_readable_tracks(tracks: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    export(networks.Network(trained(TINY, 0), ModelSpec(TINY), {}), path)
    few = tmp_path / "few.csv"
    few.write_text(f"path,label\n{tracks.parent / '0.flac'},human\n")
    result = run("restore", path, "--data", few, "--out", tmp_path / "out")
    assert result.exit_code == 2 and "of readable sound; 296 are needed" in result.output
    assert not (tmp_path / "out").exists()
