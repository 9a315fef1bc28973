"""float16 and int8: still the same model, certified again on the file that scans, or no file at all."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner, Result
from synthesis import music

from sonicscan.api import scan
from sonicscan.cli.demo import write_sound
from sonicscan.errors import InputError, ModelError
from sonicscan.spec import AudioSpec, Calibration, ModelSpec
from sonicscan_export import calibrate, convert, data, int8, networks, onnxfile, precision, verify
from sonicscan_export.cli import main
from sonicscan_export.graph import early_layers, has_depthwise, layer_names, to_onnx
from sonicscan_train.nets import checkpoint
from sonicscan_train.nets.backbones import DetectorNet, build

Float32 = npt.NDArray[np.float32]
HUMAN_TRACKS, AI_TRACKS = 62, 10


def run(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def write_manifest(path: Path, rows: list[tuple[str, ...]], columns: tuple[str, ...] = ("path", "label")) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


@pytest.fixture(scope="module")
def tracks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of tracks long enough for two windows each; the AI ones hold more noise."""
    folder = tmp_path_factory.mktemp("tracks")
    rows = []
    for k in range(HUMAN_TRACKS + AI_TRACKS):
        ai = k >= HUMAN_TRACKS
        sound = music(6.0, 22050, 1, seed=k)
        if ai:
            sound += np.random.default_rng(k).normal(0, 0.05, sound.shape).astype(np.float32)
        write_sound(folder / f"{k}.wav", sound, 22050)
        rows.append((f"{k}.wav", "ai" if ai else "human"))
    return write_manifest(folder / "tracks.csv", rows)


@pytest.fixture(scope="module")
def network() -> DetectorNet:
    """Random weights whose scores spread around 0.5: the head is turned up, and the tracks' mean margin subtracted."""
    detector = build("test_resnet", seed=3).eval()
    with torch.no_grad():
        detector.head.weight *= 300.0
        detector.head.bias[0] = 37.2
    return detector


@pytest.fixture(scope="module")
def trained(network: DetectorNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with a calibration, as training leaves it."""
    folder = tmp_path_factory.mktemp("runs") / "best"
    calibration = Calibration.of(np.linspace(0.1, 0.9, 400).tolist(), "somewhere else")
    checkpoint.save(folder, network, ModelSpec(network.architecture, calibration=calibration, data_digest="d1"))
    return folder


@pytest.fixture(scope="module")
def graph(network: DetectorNet) -> onnx.ModelProto:
    return to_onnx(network)


@pytest.fixture(scope="module")
def windows(tracks: Path) -> data.WindowSet:
    return data.real_windows(data.read_calibration_data(tracks).ranging, AudioSpec(), 60, "tracks.csv")


@pytest.mark.parametrize("wanted", ["int8", "fp16", "byte-weights"])
def test_conversion_is_verified_and_calibrated_again(wanted: str, trained: Path, tracks: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.onnx"
    result = run(trained, "--out", out, "--precision", wanted, "--calibration-data", tracks)
    assert result.exit_code == 0, result.output
    model = onnxfile.read(out)
    spec = onnxfile.read_spec(model, out)
    assert spec.calibration.n == HUMAN_TRACKS
    assert spec.calibration.data == f"{HUMAN_TRACKS} tracks of tracks.csv, one of each group, 12 windows each"
    # A scan with this file can tell whether its tracks are like those of the calibration.
    assert spec.calibration.material is not None
    assert spec.calibration.material.codecs == {"pcm_16": HUMAN_TRACKS}
    assert spec.data_digest == "d1"
    assert spec.provenance["precision"] == wanted
    assert spec.provenance["weights_digest"] == checkpoint.weights_digest(trained)
    verification = spec.provenance["verification"]
    assert verification["real_windows"] is True
    assert 0 < verification["cpu"]["drift"] <= convert.MAX_DRIFT[wanted]  # type: ignore[index]
    assert all(c["sum"] < 1e-5 for c in verification["cpu"]["comparisons"])
    facts = verification["tracks"]
    assert (facts["human_tracks"], facts["other_tracks"]) == (HUMAN_TRACKS, AI_TRACKS)
    assert facts["agreement"] > 0.9
    assert abs(facts["auc"] - facts["auc_fp32"]) < 0.05
    assert f"{HUMAN_TRACKS} tracks by people certify false-positive rates from 5.0% on" in result.stderr
    # What certifies is what the scanner gives with this very file.
    rows = list(scan([tracks.parent / f"{k}.wav" for k in range(4)], model=out, device="cpu", threshold=0.5))
    for row in rows:
        assert row.score is not None
        assert min(abs(row.score - score) for score in spec.calibration.scores) < 1e-5
    # int8 takes a quarter of float32 and fp16 half, but for the layers that stay.
    stored = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    assert stored < 0.6 * 4 * sum(p.numel() for p in build("test_resnet").parameters())


def test_one_ai_track_of_each_group_counts_after_a_conversion(trained: Path, tracks: Path, tmp_path: Path) -> None:
    rows = [
        (str(tracks.parent / f"{k}.wav"), "ai" if k >= HUMAN_TRACKS else "human", "album" if k >= HUMAN_TRACKS else "")
        for k in range(HUMAN_TRACKS + AI_TRACKS)
    ]
    manifest = write_manifest(tmp_path / "m.csv", rows, ("path", "label", "group"))
    result = run(trained, "--out", tmp_path / "m.onnx", "--precision", "fp16", "--calibration-data", manifest)
    assert result.exit_code == 0, result.output
    calibration = onnxfile.read_spec(onnxfile.read(tmp_path / "m.onnx"), tmp_path / "m.onnx").calibration
    assert (calibration.n, calibration.n_ai) == (HUMAN_TRACKS, 1)


def test_half_keeps_float32_at_its_ends(graph: onnx.ModelProto, network: DetectorNet, windows: data.WindowSet) -> None:
    half = precision.to_half(graph)
    assert onnxfile.contract_problem(half, 2) == ""
    kinds = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    assert kinds["detector.head.bias"] == onnx.TensorProto.FLOAT
    assert list(kinds.values()).count(onnx.TensorProto.FLOAT16) >= 9
    assert onnxfile.contract_problem(graph, 2) == ""
    assert 0 < precision.largest_activation(network, windows.images[:4]) < precision.LARGEST_ACTIVATION


def test_what_would_overflow_in_float16_is_refused(tracks: Path, tmp_path: Path) -> None:
    loud = build("test_resnet", seed=3)
    with torch.no_grad():
        next(m for m in loud.modules() if isinstance(m, torch.nn.Conv2d)).weight *= 1e6
    network = networks.Network(loud, ModelSpec(loud.architecture), {})
    with pytest.raises(ModelError, match="fp16 would overflow"):
        convert.export(network, tmp_path / "m.onnx", "fp16", tracks)
    assert list(tmp_path.iterdir()) == []


def test_the_layers_that_hurt_most_stay_in_float32(
    graph: onnx.ModelProto, network: DetectorNet, windows: data.WindowSet, tmp_path: Path
) -> None:
    reference = verify.reference_outputs(network, windows.images[:16])

    def measure(model: onnx.ModelProto) -> float:
        path = tmp_path / "m.onnx"
        onnxfile.write(onnxfile.with_spec(model, ModelSpec(network.architecture)), path)
        return verify.drift(reference.logits, verify.run(verify.load_for_cpu(path), windows.images[:16], 8).logits)

    quantiser = int8.GraphQuantiser(graph, windows.images[16:])
    all_int8 = quantiser.quantise()
    drift = measure(all_int8)
    assert quantiser.within(drift, measure, lambda message: None).kept == ()
    alone = {layer: measure(quantiser.quantise([layer])) for layer in quantiser.layers}
    worst = min(alone, key=lambda layer: (alone[layer], layer))
    found = quantiser.within(alone[worst], measure, lambda message: None)
    assert found.kept == (worst,)
    assert found.drift <= alone[worst] < drift
    (node,) = [node for node in found.model.graph.node if node.name == worst]
    weights = {tensor.name: tensor.data_type for tensor in found.model.graph.initializer}
    assert weights[node.input[1]] == onnx.TensorProto.FLOAT
    with pytest.raises(ModelError, match=r"use fp16 or fp32"):
        quantiser.within(1e-9, measure, lambda message: None)


def test_int8_weights_leave_room_for_cpus_that_add_in_16_bits(
    graph: onnx.ModelProto, network: DetectorNet, windows: data.WindowSet
) -> None:
    model = int8.GraphQuantiser(graph, windows.images[:8]).quantise()
    weights = [onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8]
    kernels = [w for w in weights if w.ndim == 4]
    assert len(kernels) == sum(isinstance(m, torch.nn.Conv2d) for m in network.modules())
    assert max(int(np.abs(w.astype(int)).max()) for w in kernels) <= 64
    scales = [t for t in model.graph.initializer if t.name.endswith("weight_scale")]
    assert {tuple(t.dims) for t in scales} >= {(w.shape[0],) for w in kernels}  # per channel


def test_the_clip_of_a_relu6_disappears_in_int8(tmp_path: Path) -> None:
    """Left between two convolutions in float32, it would make each of them a float32 convolution."""
    rng = np.random.default_rng(0)
    shapes = {"w1": (8, 3, 3, 3), "w2": (8, 8, 3, 3), "w3": (2, 8, 1, 1)}
    weights = [onnx.numpy_helper.from_array(rng.normal(0, 0.2, s).astype(np.float32), n) for n, s in shapes.items()]
    limits = [onnx.numpy_helper.from_array(np.float32(value), name) for name, value in (("zero", 0.0), ("six", 6.0))]
    node = onnx.helper.make_node
    nodes = [
        node("Conv", ["spectrogram", "w1"], ["a"], "one", strides=[8, 8]),
        node("Clip", ["a", "zero", "six"], ["b"], "clip"),
        node("Conv", ["b", "w2"], ["c"], "two", strides=[4, 4], pads=[1, 1, 0, 0]),
        node("Conv", ["c", "w3"], ["class_maps"], "head"),
        node("ReduceMean", ["class_maps"], ["logits"], "mean", axes=[2, 3], keepdims=0),
    ]
    float32, value = onnx.TensorProto.FLOAT, onnx.helper.make_tensor_value_info
    outputs = [value("class_maps", float32, ["n", 2, 8, 8]), value("logits", float32, ["n", 2])]
    plain = onnx.helper.make_graph(
        nodes, "g", [value("spectrogram", float32, ["n", 3, 256, 256])], outputs, [*weights, *limits]
    )
    model = onnx.helper.make_model(plain, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    images = rng.normal(size=(8, 256, 256)).astype(np.float32)
    quantised = int8.GraphQuantiser(model, images).quantise()
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    session = onnxruntime.InferenceSession(quantised.SerializeToString(), options, ["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert kinds.count("QLinearConv") == 2 and "Clip" not in kinds
    whole = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    fed = {"spectrogram": data.as_batch(images)}
    wanted, found = (s.run(["class_maps"], fed)[0] for s in (whole, session))
    assert np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()


def test_the_first_two_layers_of_depthwise_networks_stay_in_float32() -> None:
    """A mean of two members, of which one has a depthwise convolution: four layers are early, two for each member."""
    rng = np.random.default_rng(0)
    nodes, weights = [], []
    for member, groups in (("p", 8), ("q", 1)):
        shapes = {"1": (8, 3, 8, 8), "2": (8, 8 // groups, 1, 1), "3": (8, 8, 4, 4), "4": (2, 8, 1, 1)}
        name = "spectrogram"
        for layer, shape in shapes.items():
            values = rng.normal(0, 0.2, shape).astype(np.float32)
            weights.append(onnx.numpy_helper.from_array(values, f"{member}w{layer}"))
            group = groups if layer == "2" else 1
            nodes.append(
                onnx.helper.make_node(
                    "Conv", [name, f"{member}w{layer}"], [f"{member}{layer}"], f"{member}{layer}",
                    strides=[shape[2], shape[3]], group=group,
                )
            )  # fmt: skip
            name = f"{member}{layer}"
    nodes += [
        onnx.helper.make_node("Add", ["p4", "q4"], ["class_maps"], "sum"),
        onnx.helper.make_node("ReduceMean", ["class_maps"], ["logits"], "mean", axes=[2, 3], keepdims=0),
    ]
    float32, value = onnx.TensorProto.FLOAT, onnx.helper.make_tensor_value_info
    outputs = [value("class_maps", float32, ["n", 2, 8, 8]), value("logits", float32, ["n", 2])]
    inputs = [value("spectrogram", float32, ["n", 3, 256, 256])]
    graph = onnx.helper.make_graph(nodes, "g", inputs, outputs, weights)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    assert has_depthwise(model) and early_layers(model) == ["p1", "p2", "q1", "q2"]
    images = rng.normal(size=(4, 256, 256)).astype(np.float32)
    made = int8.GraphQuantiser(model, images).within(1.0, lambda candidate: 0.0, lambda message: None)
    assert made.kept == ("p1", "p2", "q1", "q2")
    kinds = {tensor.name: tensor.data_type for tensor in made.model.graph.initializer}
    assert {name for name, kind in kinds.items() if kind == float32 and name[1] == "w" and len(name) == 3} == {
        "pw1", "pw2", "qw1", "qw2",
    }  # fmt: skip


def test_a_file_that_fails_verification_is_not_written(trained: Path, tracks: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.onnx"
    result = run(
        trained, "--out", out, "--precision", "int8", "--calibration-data", tracks, "--max-drift", "1e-7", "-q"
    )
    assert result.exit_code == 2
    assert "--max-drift allows" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_mean_keeps_the_float32_layers_of_its_cross_fitted_members(
    network: DetectorNet, graph: onnx.ModelProto, tracks: Path, tmp_path: Path
) -> None:
    """However small its drift is: its calibration is of scores that were made so."""
    layer = list(layer_names(graph).values())[3]
    members = networks.Network(network, ModelSpec("mean"), {}, scored_as="int8", float32_layers=(layer,))
    done = convert.export(members, tmp_path / "mean.onnx", "int8", tracks, max_drift=0.5)
    assert done.spec.provenance["int8"]["float32_layers"] == ["head", layer]
    types = {tensor.name: tensor.data_type for tensor in onnx.load(done.path).graph.initializer}
    assert types[layer] == onnx.TensorProto.FLOAT
    other = dataclasses.replace(members, float32_layers=("no.such.weight",))
    with pytest.raises(InputError, match=r"cannot keep the same layers in float32 \(no.such.weight\)"):
        convert.export(other, tmp_path / "other.onnx", "int8", tracks, max_drift=0.5)
    assert [path.name for path in tmp_path.iterdir()] == ["mean.onnx"]


def test_a_graph_that_says_something_else_fails(
    graph: onnx.ModelProto, network: DetectorNet, windows: data.WindowSet, tmp_path: Path
) -> None:
    reference = verify.reference_outputs(network, windows.images[:40])
    wrong = verify.Outputs(reference.logits * 1.001, reference.maps)
    onnxfile.write(onnxfile.with_spec(graph, ModelSpec(network.architecture)), tmp_path / "m.onnx")
    model = verify.load_for_cpu(tmp_path / "m.onnx")
    right = verify.verify(model, reference, windows)
    verify.check(right, "fp32", 1e-3)
    with pytest.raises(ModelError, match="logits differ from PyTorch's by"):
        verify.check(verify.verify(model, wrong, windows), "fp32", 1e-3)
    with pytest.raises(ModelError, match="margins drift by"):
        verify.check(verify.verify(model, verify.Outputs(-reference.logits, reference.maps), windows), "int8", 0.05)


def test_verdicts_must_stay(tracks: Path) -> None:
    facts = {"human_tracks": 90, "other_tracks": 10, "agreement": 0.98}
    assert "only 98.00% of the verdicts on 100 tracks" in calibrate.too_far(facts)
    assert calibrate.too_far({**facts, "agreement": 0.99}) == ""
    assert calibrate.too_far({**facts, "other_tracks": 9}) == ""


@pytest.mark.parametrize("wanted", ["int8", "fp16", "byte-weights"])
def test_conversion_of_a_calibrated_model_needs_data(wanted: str, trained: Path, tmp_path: Path) -> None:
    result = run(trained, "--out", tmp_path / "m.onnx", "--precision", wanted)
    assert result.exit_code == 2
    assert "give --calibration-data MANIFEST" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_calibration_data_must_be_unseen_and_by_people(tracks: Path, tmp_path: Path) -> None:
    columns = ("path", "label", "split")
    only_train = write_manifest(tmp_path / "a.csv", [("a.wav", "human", "train"), ("b.wav", "ai", "valid")], columns)
    with pytest.raises(InputError, match="a split without a calibration part"):
        data.read_calibration_data(only_train)
    only_ai = write_manifest(tmp_path / "b.csv", [("a.wav", "ai")])
    with pytest.raises(InputError, match="no track labelled human"):
        data.read_calibration_data(only_ai)
    rows = [("a.wav", "human", "train"), ("b.wav", "human", "calibration"), ("c.wav", "codec", "calibration")]
    found = data.read_calibration_data(write_manifest(tmp_path / "c.csv", rows, columns))
    assert [Path(clip.path).name for clip in found.human] == ["b.wav"]
    assert found.other == ()
    assert [Path(clip.path).name for clip in found.ranging] == ["a.wav"]
    with pytest.raises(InputError, match=r"c.csv has 0 windows of readable sound; 5 are needed"):
        data.real_windows(found.ranging, AudioSpec(), 5, found.name)


def test_tracks_that_cannot_be_scored_are_not_passed_over(trained: Path, tracks: Path, tmp_path: Path) -> None:
    rows = [(str(tracks.parent / f"{k}.wav"), "human") for k in range(HUMAN_TRACKS)]
    manifest = write_manifest(tmp_path / "m.csv", [*rows, *[(f"missing{k}.wav", "human") for k in range(10)]])
    result = run(trained, "--out", tmp_path / "m.onnx", "--precision", "fp16", "--calibration-data", manifest)
    assert result.exit_code == 2
    assert "10 of the 72 tracks of m.csv cannot be scored" in result.stderr
    assert not (tmp_path / "m.onnx").exists()


def test_an_export_repeats_bit_for_bit(trained: Path, tmp_path: Path) -> None:
    first, second = (
        convert.export(networks.from_checkpoint(trained), tmp_path / name) for name in ("a.onnx", "b.onnx")
    )
    assert first.digest == second.digest
