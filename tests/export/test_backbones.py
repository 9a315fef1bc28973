"""Networks and checkpoints: the maps are what they claim to be, and damaged or strange files are one sentence."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import resource
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sonicscan.errors import ModelError
from sonicscan.spec import Calibration, ModelSpec
from sonicscan_export import networks
from sonicscan_train.nets import checkpoint
from sonicscan_train.nets.backbones import DetectorNet, build, full_name

SMALL = "test_byobnet"
# Where the last feature map comes from: hooked by name, so that `features` is not compared with itself.
LAST_LAYERS = {
    "lambda": "backbone.final_conv",
    "swin": "backbone.norm",
    "lite0": "backbone.bn2",
    SMALL: "backbone.final_conv",
}


@pytest.fixture(scope="module", params=list(LAST_LAYERS))
def detector(request: pytest.FixtureRequest) -> DetectorNet:
    network = build(request.param, 3, seed=1).eval()
    with torch.no_grad():
        network.head.bias.copy_(torch.tensor([0.3, -0.2, 0.7]))
    return network


def images(n: int = 2) -> Tensor:
    return torch.randn(n, 3, 256, 256, generator=torch.Generator().manual_seed(5))


def test_logits_are_the_mean_of_class_maps(detector: DetectorNet) -> None:
    with torch.inference_mode():
        logits, maps = detector(images()), detector.class_maps(images())
    assert logits.shape == (2, 3)
    assert maps.shape == (2, 3, 8, 8)
    assert (maps.mean(dim=(2, 3)) - logits).abs().max() <= 1e-5 * logits.abs().max()


def test_class_maps_are_grad_cam_up_to_scale(detector: DetectorNet) -> None:
    """Grad-CAM (Selvaraju et al. 2017) from autograd, without its ReLU: channels weighted by their mean gradient."""
    # In double precision: random weights give maps far smaller than the bias that is taken off them.
    detector = copy.deepcopy(detector).double()
    seen: list[Tensor] = []
    name = next(layer for alias, layer in LAST_LAYERS.items() if full_name(alias) == detector.architecture)
    hook = detector.get_submodule(name).register_forward_hook(lambda module, args, output: seen.append(output))
    try:
        logits = detector(images().double())
    finally:
        hook.remove()
    (activation,) = seen
    channel = 3 if detector.channels_last else 1
    cells = tuple(d for d in (1, 2, 3) if d != channel)
    with torch.inference_mode():
        maps = detector.class_maps(images().double()) - detector.head.bias[:, None, None]
    for k in range(3):
        (gradient,) = torch.autograd.grad(logits[:, k].sum(), activation, retain_graph=True)
        cam = (gradient.mean(dim=cells, keepdim=True) * activation).sum(dim=channel).detach()
        # The gradient of a mean over 64 cells is a 64th of the weight.
        assert (64 * cam - maps[:, k]).abs().max() <= 1e-5 * maps[:, k].abs().max()


def test_random_weights_repeat_with_their_seed_and_leave_the_generator_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, again, other = build(SMALL, seed=4), build(SMALL, seed=4), build(SMALL, seed=5)
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


@pytest.mark.parametrize("alias", list(LAST_LAYERS))
def test_every_part_of_a_network_of_random_weights_counts(alias: str) -> None:
    """Else nothing could be verified on it: timm starts residual branches at zero."""
    network = networks.untrained(alias, "none", 1, ("human", "ai")).detector.eval()
    network(images()).pow(2).sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("convnext_atto", "does more than average pooling"),
        ("vit_tiny_patch16_224", "does not take a 256 x 256 image"),
        ("no_such_network", "no network named no_such_network"),
    ],
)
def test_a_network_outside_the_contract_is_refused(name: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        build(name)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, DetectorNet, ModelSpec]:
    network = build(SMALL, seed=2).eval()
    spec = ModelSpec(network.architecture, calibration=Calibration.of([0.1, 0.2]), metrics={"auc": 0.9})
    folder = tmp_path / "runs" / "best"
    checkpoint.save(folder, network, spec)
    return folder, network, spec


def test_a_checkpoint_comes_back_as_it_was(saved: tuple[Path, DetectorNet, ModelSpec]) -> None:
    folder, network, spec = saved
    loaded, loaded_spec = checkpoint.load(folder)
    assert loaded_spec == spec
    assert not loaded.training
    with torch.inference_mode():
        assert torch.equal(loaded(images(1)), network(images(1)))
    assert sorted(path.name for path in folder.iterdir()) == ["model.safetensors", "spec.json"]
    assert len(checkpoint.weights_digest(folder)) == 64


def test_a_checkpoint_is_replaced_and_other_files_in_its_folder_stay(
    saved: tuple[Path, DetectorNet, ModelSpec],
) -> None:
    folder, _, spec = saved
    (folder / "model.onnx").write_text("exported")
    other = build(SMALL, seed=9)
    checkpoint.save(folder, other, dataclasses.replace(spec, temperature=2.0))
    assert sorted(path.name for path in folder.iterdir()) == ["model.onnx", "model.safetensors", "spec.json"]
    assert [path.name for path in folder.parent.iterdir()] == ["best"]
    loaded, loaded_spec = checkpoint.load(folder)
    assert loaded_spec.temperature == 2.0
    assert torch.equal(loaded.head.weight, other.head.weight)


def test_a_checkpoint_is_written_into_the_current_folder(
    saved: tuple[Path, DetectorNet, ModelSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, network, spec = saved
    monkeypatch.chdir(folder)
    checkpoint.save(Path(), network, dataclasses.replace(spec, temperature=2.0))
    assert checkpoint.load_spec(folder).temperature == 2.0


def test_a_save_that_fails_leaves_the_earlier_checkpoint(saved: tuple[Path, DetectorNet, ModelSpec]) -> None:
    folder, network, spec = saved
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(ModelError, match="File too large"):
            checkpoint.save(folder, network, dataclasses.replace(spec, temperature=3.0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert checkpoint.load_spec(folder) == spec
    assert sorted(path.name for path in folder.iterdir()) == ["model.safetensors", "spec.json"]


def test_a_spec_must_be_the_models(saved: tuple[Path, DetectorNet, ModelSpec], tmp_path: Path) -> None:
    _, network, spec = saved
    with pytest.raises(ModelError, match="the spec says resnet18"):
        checkpoint.save(tmp_path / "x", network, dataclasses.replace(spec, architecture="resnet18"))
    with pytest.raises(ModelError, match="3 classes and the model 2"):
        checkpoint.save(tmp_path / "x", network, dataclasses.replace(spec, classes=("human", "a", "b")))
    assert not (tmp_path / "x").exists()


def test_damaged_checkpoints_are_one_sentence(saved: tuple[Path, DetectorNet, ModelSpec], tmp_path: Path) -> None:
    folder, _, spec = saved
    with pytest.raises(ModelError, match="is no checkpoint: it must be a folder"):
        checkpoint.load(tmp_path / "nowhere")
    (folder / "spec.json").write_text(dataclasses.replace(spec, architecture="resnet10t").to_json())
    with pytest.raises(ModelError, match="is of another architecture: it lacks"):
        checkpoint.load(folder)
    (folder / "spec.json").write_text(dataclasses.replace(spec, classes=("human", "a", "b")).to_json())
    with pytest.raises(ModelError, match=r"`head.weight` has shape \[2, \d+\], not \[3, \d+\]"):
        checkpoint.load(folder)
    (folder / "spec.json").write_text(spec.to_json())
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="damaged, cut short or not a weights file"):
        checkpoint.load(folder)
    (folder / "spec.json").unlink()
    with pytest.raises(ModelError, match=r"has no spec.json"):
        checkpoint.load(folder)


class _Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("pwned"),)


def test_no_pickle_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(_Malicious()))
    torch.save({"model": _Malicious()}, tmp_path / "zipped.pt")
    for name in ("plain.pt", "zipped.pt"):
        with pytest.raises(ModelError, match="cannot be read"):
            build(SMALL, weights=tmp_path / name)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("wrapper", [None, "state_dict"])
def test_weights_come_from_files_of_tensors(tmp_path: Path, wrapper: str | None) -> None:
    source = build("resnet10t", seed=1)
    tensors = dict(source.backbone.state_dict()) | {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    torch.save({wrapper: tensors} if wrapper else tensors, tmp_path / "w.pt")
    loaded = build("resnet10t", 5, tmp_path / "w.pt", seed=2)
    assert all(
        torch.equal(a, b) for a, b in zip(source.backbone.parameters(), loaded.backbone.parameters(), strict=True)
    )
    assert isinstance(loaded.head, nn.Linear)
    assert loaded.head.out_features == 5
    with pytest.raises(ModelError, match="there is no weights file"):
        build("resnet10t", weights=tmp_path / "other.pt")
    with pytest.raises(ModelError, match="of another architecture"):
        build(SMALL, weights=tmp_path / "w.pt")
