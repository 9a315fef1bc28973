"""The one-class term: what it measures, that maps with it add up, and that checkpoints and ONNX files carry it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner, Result
from synthesis import music
from training_sound import RATE, people_or_machine, write_manifest

from sonicscan.arrays import Bool, Float64
from sonicscan.cli.demo import write_sound
from sonicscan.errors import InputError, ModelError
from sonicscan.spec import AudioSpec, Calibration, ModelSpec
from sonicscan_export import data, onnxfile, verify
from sonicscan_export.cli import main as export_main
from sonicscan_export.graph import head_nodes, to_onnx
from sonicscan_train.cli import main
from sonicscan_train.nets import checkpoint
from sonicscan_train.nets.backbones import DetectorNet, build
from sonicscan_train.nets.ensemble import mean_of
from sonicscan_train.nets.one_class import OneClassTerm, fit_term

TINY = "test_resnet"


def run(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def images(n: int) -> torch.Tensor:
    return torch.from_numpy(data.as_batch(data.synthetic_windows(AudioSpec(), n).images))


def with_term(seed: int, rank: int = 6) -> DetectorNet:
    """A network of random weights with a term that is fitted to synthetic windows."""
    detector = build(TINY, seed=seed).eval()
    with torch.inference_mode():
        features = detector.features(images(24)).mean(dim=(2, 3)).double().numpy()
    margins = np.random.default_rng(seed).normal(0.0, 2.0, 24)
    detector.one_class = fit_term(features, margins, np.arange(24) < 12, rank, 0.35)
    return detector


def three_kinds(n: int) -> tuple[Float64, Bool]:
    """Features of people's windows, of known AI and of another AI, which differ in three directions of 20."""
    rng = np.random.default_rng(0)
    centres = np.zeros((3, 20))
    centres[[0, 1, 2], [0, 1, 2]] = 3.0
    kinds = np.repeat([0, 1, 2], n)
    return centres[kinds] + rng.normal(0.0, 1.0, (3 * n, 20)), kinds == 0


def test_music_unlike_peoples_gets_less_of_the_term_also_if_it_was_not_in_training() -> None:
    features, human = three_kinds(400)
    known = np.arange(len(features)) < 800
    margins = np.random.default_rng(1).normal(0.0, 3.0, 800)
    term = fit_term(features[known], margins, human[known], 5, 0.35)
    cells = torch.from_numpy(features).float()[:, :, None, None].expand(-1, -1, 8, 8)
    values = term(cells).mean(dim=(1, 2)).numpy()
    people, ai, other = values[:400], values[400:800], values[800:]
    assert np.mean(np.subtract.outer(people, ai) > 0) > 0.95
    assert np.mean(np.subtract.outer(people, other) > 0) > 0.9
    # Its share of the margin: with the margins' deviation as 65%, its own is 35%.
    assert values[:800].std() / margins.std() == pytest.approx(0.35 / 0.65, rel=1e-3)


def test_the_term_is_the_cosine_that_the_docstring_says() -> None:
    term = with_term(3).one_class
    assert isinstance(term, OneClassTerm)
    features = torch.rand(5, term.whitening.shape[1], 8, 8, generator=torch.Generator().manual_seed(1))
    q = features.mean(dim=(2, 3)) @ term.whitening.T - term.origin
    expected = term.scale * torch.cosine_similarity(q, term.direction[None], dim=1)
    torch.testing.assert_close(term(features).mean(dim=(1, 2)), expected, rtol=1e-3, atol=1e-4)
    assert float(term.direction.norm()) == pytest.approx(1.0, abs=1e-6)
    flat = OneClassTerm(4, 2)  # the features of silence may have no direction
    assert float(flat(torch.zeros(1, 4, 8, 8)).abs().max()) == 0.0


def test_maps_still_add_up_and_only_people_gain() -> None:
    detector, bare = with_term(1), build(TINY, seed=1).eval()
    with torch.inference_mode():
        logits, maps = detector(images(3)), detector.class_maps(images(3))
        torch.testing.assert_close(maps.mean(dim=(2, 3)), logits, rtol=1e-4, atol=1e-4)
        before = bare(images(3))
    torch.testing.assert_close(logits[:, 1], before[:, 1])
    assert (logits[:, 0] - before[:, 0]).abs().min() > 1e-3


def test_a_mean_has_the_terms_of_its_members() -> None:
    members, temperatures, offsets = (
        [with_term(1), build(TINY, seed=2).eval(), with_term(3)],
        [0.5, 2.0, 1.0],
        [0.1, 0.2, 0.3],
    )
    with torch.inference_mode():
        mean = mean_of(members, temperatures, "three", offsets)
        maps = mean.class_maps(images(2))
        expected = torch.stack(
            [
                (m[:, 1] - m[:, 0] - offset) / t
                for m, t, offset in zip(
                    (member.class_maps(images(2)) for member in members), temperatures, offsets, strict=True
                )
            ]
        ).mean(dim=0)
        torch.testing.assert_close(maps[:, 1] - maps[:, 0], expected, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(mean(images(2)), maps.mean(dim=(2, 3)), rtol=1e-3, atol=1e-3)


def test_a_checkpoint_carries_it(tmp_path: Path) -> None:
    detector = with_term(1)
    checkpoint.save(tmp_path / "m", detector, ModelSpec(detector.architecture))
    loaded, _ = checkpoint.load(tmp_path / "m")
    with torch.inference_mode():
        assert torch.equal(loaded.class_maps(images(2)), detector.class_maps(images(2)))
    assert detector.one_class is not None
    detector.one_class.direction = torch.zeros(5)  # not the rank of the rest
    checkpoint.save(tmp_path / "m", detector, ModelSpec(detector.architecture))
    with pytest.raises(ModelError, match=r"`one_class.direction` has shape \[5\], not \[6\]"):
        checkpoint.load(tmp_path / "m")


def test_too_few_windows_are_refused() -> None:
    features, human = three_kinds(3)
    with pytest.raises(InputError, match="9 windows of 20 features, 3 by people, do not give 9 principal components"):
        fit_term(features, np.zeros(9), human, 9, 0.35)
    with pytest.raises(InputError, match="0 by people"):
        fit_term(features, np.zeros(9), np.zeros(9, dtype=bool), 3, 0.35)


def test_the_head_is_found_with_its_term() -> None:
    bare, full = to_onnx(build(TINY, seed=1)), to_onnx(with_term(1))
    kinds = {node.name: node.op_type for node in full.graph.node}
    assert [{n.name: n.op_type for n in bare.graph.node}[name] for name in head_nodes(bare)] == ["Conv", "ReduceMean"]
    found = [kinds[name] for name in head_nodes(full)]
    assert found.count("Conv") == 2 and "ReduceL2" in found and found[-1] == "ReduceMean"
    assert [output.name for output in full.graph.output] == ["logits", "class_maps"]
    backbone = [node.op_type for node in bare.graph.node if node.name not in head_nodes(bare)]
    assert [node.op_type for node in full.graph.node if node.name not in head_nodes(full)] == backbone


@pytest.fixture(scope="module")
def tracks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest for ranges and verification."""
    folder = tmp_path_factory.mktemp("tracks")
    for k in range(60):
        write_sound(folder / f"{k}.wav", music(6.0, 22050, 1, seed=k), 22050)
    with (folder / "tracks.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *((f"{k}.wav", "human") for k in range(60))])
    return folder / "tracks.csv"


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "half-weights", "byte-weights"])
def test_every_precision_has_it_in_float32_or_as_exact(precision: str, tracks: Path, tmp_path: Path) -> None:
    detector = with_term(1)
    checkpoint.save(tmp_path / "m", detector, ModelSpec(detector.architecture))
    options = ["--precision", precision, "--calibration-data", tracks, "--max-drift", "0.3", "-q"]
    done = CliRunner().invoke(export_main, [str(a) for a in (tmp_path / "m", "--out", tmp_path / "m.onnx", *options)])
    assert done.exit_code == 0, done.output
    model = onnxfile.read(tmp_path / "m.onnx")
    if precision in ("fp16", "int8"):
        stored = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
        assert stored["detector.one_class.whitening"] == onnx.TensorProto.FLOAT
    found = verify.run(verify.load_for_cpu(tmp_path / "m.onnx"), images(3).numpy()[:, 0], 3)
    logits, maps = found.logits, found.maps
    np.testing.assert_allclose(maps.mean(axis=(2, 3)), logits, rtol=1e-4, atol=1e-4)
    with torch.inference_mode():
        expected = detector(images(3)).numpy()
    assert np.abs(logits - expected).max() < {"fp32": 1e-4, "fp16": 0.1, "half-weights": 0.05}.get(precision, 1.0)


def test_the_command_adds_a_term_once_and_knows_the_fold(tmp_path: Path) -> None:
    rows = []
    for k in range(24):
        human = k % 2 == 0
        write_sound(tmp_path / f"{k}.wav", people_or_machine(not human, k), RATE)
        rows.append(
            {"path": f"{k}.wav", "label": "human" if human else "ai", "source": f"s{k % 2}", "fold": str(k % 3)}
        )
    manifest = write_manifest(tmp_path / "m.csv", rows)
    detector = build(TINY, seed=1).eval()
    spec = ModelSpec(detector.architecture, temperature=2.0, calibration=Calibration.of([0.1]), provenance={"fold": 1})
    checkpoint.save(tmp_path / "best", detector, spec)
    common = ("--data", manifest, "--rank", "4", "--workers", "0")
    folds = ("--folds", manifest, "--fold")
    assert "go together" in run("one-class", tmp_path / "best", *common, "--fold", "1", "--out", tmp_path / "x").stderr
    wrong = run("one-class", tmp_path / "best", *common, *folds, "0", "--out", tmp_path / "x")
    assert wrong.exit_code == 2 and "was trained without fold 1, not 0" in wrong.stderr
    done = run("one-class", tmp_path / "best", *common, *folds, "1", "--out", tmp_path / "head")
    assert done.exit_code == 0, done.output
    loaded, found = checkpoint.load(tmp_path / "head")
    assert loaded.one_class is not None and float(loaded.one_class.scale) > 0.0
    assert (found.temperature, found.calibration.n) == (1.0, 0)
    assert found.provenance["one_class"]["tracks"] == 16 and found.provenance["fold"] == 1
    again = run("one-class", tmp_path / "head", *common, *folds, "1", "--out", tmp_path / "x")
    assert again.exit_code == 2 and "has a one-class term already" in again.stderr
    assert not (tmp_path / "x").exists()
