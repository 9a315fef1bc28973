"""The ONNX files of both backbones: the contract inside, the same numbers as PyTorch, nothing of the machine."""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner, Result
from synthesis import calibrated, music, write_model

import sonicscan
from sonicscan.api import scan
from sonicscan.cli.demo import write_sound
from sonicscan.errors import InputError, ModelError
from sonicscan.model.loading import load_model
from sonicscan.spec import METADATA_KEY, AudioSpec, ModelSpec
from sonicscan_export import data, networks, onnxfile
from sonicscan_export.cli import main
from sonicscan_export.graph import to_onnx
from sonicscan_train.nets import checkpoint
from sonicscan_train.nets.backbones import DetectorNet, build

Float32 = npt.NDArray[np.float32]


def run(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def images(n: int) -> Float32:
    return data.as_batch(data.synthetic_windows(AudioSpec(), n).images)


@pytest.fixture(scope="module")
def exported_lambda(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    out = tmp_path_factory.mktemp("lambda") / "lambda.onnx"
    result = run("--backbone", "lambda", "--weights", "none", "--seed", 7, "--classes", "suno,udio", "--out", out)
    assert result.exit_code == 0, result.output
    return out, result


def check_against_torch(model: onnxruntime.InferenceSession, detector: DetectorNet, n: int) -> None:
    logits, maps = model.run(["logits", "class_maps"], {"spectrogram": images(n)})
    with torch.inference_mode():
        features = detector.features(torch.from_numpy(images(n)))
        wanted, wanted_maps = detector.classify(features).numpy(), detector.localise(features).numpy()
    scale = np.abs(wanted).max()
    assert np.abs(logits - wanted).max() <= 1e-4 * scale
    assert np.abs(maps - wanted_maps).max() <= 1e-4 * np.abs(wanted_maps).max()
    assert np.abs(maps.mean(axis=(2, 3), dtype=np.float64) - logits).max() <= 1e-5 * scale


def test_tables_of_indices_are_stored_narrow(exported_lambda: tuple[Path, Result]) -> None:
    graph = onnx.load(exported_lambda[0]).graph
    tables = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer if np.prod(t.dims) >= 1024}
    assert not [name for name, table in tables.items() if table.dtype == np.int64]
    narrow = [table for name, table in tables.items() if name.endswith(".narrow")]
    # Two layers look at 16 x 16 places, and positions lie up to 15 to either side.
    assert sorted((t.dtype.name, t.shape, int(t.max())) for t in narrow)[:2] == [("uint8", (256, 256, 2), 30)] * 2


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_lambda_says_what_pytorch_says_at_any_batch(exported_lambda: tuple[Path, Result]) -> None:
    model = load_model(exported_lambda[0])
    detector = networks.untrained("lambda", "none", 7, ("human", "suno", "udio")).detector.eval()
    for n in (1, 3):
        check_against_torch(model.session, detector, n)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_swin_says_what_pytorch_says() -> None:
    # The tiny one has half of the blocks of `swin`, and the same operators in each.
    detector = networks.untrained("swinv2_tiny_window16_256", "none", 1, ("human", "ai")).detector.eval()
    model = to_onnx(detector)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    check_against_torch(session, detector, 2)
    operators = onnxfile.facts(model).operators
    # What ONNX Runtime runs as one kernel is one node, and what does nothing is gone.
    assert operators["LayerNormalization"] == 29
    assert operators["Gelu"] == 12
    assert "Pad" not in operators
    assert "Expand" not in operators
    assert "Erf" not in operators


@pytest.mark.timeout(900)
def test_the_file_is_complete(exported_lambda: tuple[Path, Result]) -> None:
    path, result = exported_lambda
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    spec = ModelSpec.from_json({p.key: p.value for p in model.metadata_props}[METADATA_KEY])
    assert spec.architecture == "lambda_resnet26rpt_256"
    assert spec.classes == ("human", "suno", "udio")
    assert spec.untrained
    assert spec.audio == AudioSpec()
    assert spec.tool_version == sonicscan.__version__
    assert spec.provenance["precision"] == "fp32"
    assert spec.provenance["audio_digest"] == spec.audio.digest
    assert spec.provenance["seed"] == 7
    assert set(spec.provenance["exporter"]) >= {"torch", "timm", "onnx", "onnxruntime"}
    assert spec.provenance["graph"]["nodes"] == len(model.graph.node)
    verification = spec.provenance["verification"]
    assert [c["batch"] for c in verification["cpu"]["comparisons"]] == [1, 7, 32]
    assert all(c["logits"] < 1e-4 and c["sum"] < 1e-5 for c in verification["cpu"]["comparisons"])
    assert verification["real_windows"] is False
    assert "batch 32: logits within" in result.stderr
    assert onnxfile.digest(path) in result.stderr


def test_without_a_gpu_nothing_claims_to_be_verified_on_one(exported_lambda: tuple[Path, Result]) -> None:
    path, result = exported_lambda
    cuda = onnxfile.read_spec(onnxfile.read(path), path).provenance["verification"]["cuda"]
    assert ("comparisons" in cuda) != ("skipped" in cuda)
    if "comparisons" in cuda:  # there is a GPU: then it was really used
        assert cuda["device"].startswith("cuda")
        assert all(c["logits"] < 1e-2 for c in cuda["comparisons"])
    else:
        assert cuda["skipped"]
        assert f"not verified on CUDA: {cuda['skipped']}" in result.stderr


def test_cuda_runs_the_exported_file(exported_lambda: tuple[Path, Result]) -> None:
    from sonicscan.errors import DeviceError
    from sonicscan.model.sessions import Device

    try:
        model = load_model(exported_lambda[0], Device("cuda"))
    except DeviceError as error:
        pytest.skip(f"no CUDA here: {error}")
    logits = model.session.run(["logits"], {"spectrogram": images(7)})[0]
    on_cpu = load_model(exported_lambda[0], Device("cpu")).session.run(["logits"], {"spectrogram": images(7)})[0]
    assert np.abs(logits - on_cpu).max() <= 1e-2 * np.abs(on_cpu).max()


def test_the_file_tells_nothing_of_the_machine(exported_lambda: tuple[Path, Result]) -> None:
    blob = exported_lambda[0].read_bytes()
    for secret in (
        str(Path(torch.__file__).parents[1]),
        str(Path.home()),
        str(Path(__file__).parents[1]),
        "site-packages",
        "stack_trace",
    ):
        assert secret.encode() not in blob


def test_the_scanner_takes_it_and_gives_no_verdict(exported_lambda: tuple[Path, Result], tmp_path: Path) -> None:
    write_sound(tmp_path / "a.wav", music(6.0))
    (row,) = scan(tmp_path, model=exported_lambda[0], device="cpu")
    assert row.status == "ok"
    assert row.score is not None
    assert row.verdict is None


def test_inspect_for_people_and_for_programs(exported_lambda: tuple[Path, Result]) -> None:
    path, _ = exported_lambda
    result = run("inspect", path)
    assert result.exit_code == 0
    for words in ("UNTRAINED", "human, suno, udio", "22050 Hz", onnxfile.digest(path), "32 Conv", "random weights"):
        assert words in result.stdout
    facts = json.loads(run("inspect", path, "--json").stdout)
    assert facts["sha256"] == onnxfile.digest(path)
    assert facts["bytes"] == path.stat().st_size
    assert facts["spec"]["classes"] == ["human", "suno", "udio"]
    assert facts["graph"]["operators"]["Conv"] == 32


def test_inspect_shows_the_calibration_table(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx", calibrated(n=400))
    text = run("inspect", path).stdout
    assert "400 tracks by people" in text
    assert "not certified: takes 2995 tracks" in text
    table = json.loads(run("inspect", path, "--json").stdout)["spec"]["calibration"]["thresholds"]
    certified = {row["max_fpr"]: row["threshold"] for row in table}
    assert certified[0.001] is None
    assert certified[0.01] > certified[0.1] > 0.3


def test_help_needs_no_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys; sys.argv = ['sonicscan-export', '--help']\n"
        "from sonicscan_export.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'onnx', 'onnxruntime', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "CHECKPOINT... --out MODEL.onnx" in done.stdout


def test_convert_is_the_default_command(tmp_path: Path) -> None:
    by_default, by_name = (run(*args, tmp_path / "none", "--out", tmp_path / "x.onnx") for args in ([], ["convert"]))
    assert by_default.exit_code == by_name.exit_code == 2
    assert "is no checkpoint" in by_default.stderr
    assert by_default.stderr == by_name.stderr
    assert isinstance(main, click.Group)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--out", "x.onnx"], "either a checkpoint or --backbone"),
        (["some", "--backbone", "lambda", "--out", "x.onnx"], "either a checkpoint or --backbone"),
        (["some", "--seed", "1", "--out", "x.onnx"], "need --backbone"),
        (["--backbone", "lambda", "--out", "x.bin"], "must end in .onnx"),
        (["--backbone", "lambda", "--out", "nowhere/x.onnx"], "there is no folder nowhere"),
        (["--backbone", "no_such", "--out", "x.onnx"], "no network named no_such"),
        (["--backbone", "test_byobnet", "--classes", "a,a", "--out", "x.onnx"], "names a class twice"),
        (["--backbone", "test_byobnet", "--weights", "w.safetensors", "--out", "x.onnx"], "there is no weights file"),
        (["--backbone", "test_byobnet", "--precision", "int8", "--out", "x.onnx"], "give --calibration-data MANIFEST"),
        (["inspect", "x.onnx"], "cannot be read: No such file"),
    ],
)
def test_wrong_use_is_one_sentence_and_no_file(
    args: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*args)
    assert result.exit_code == 2
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_broken_checkpoint_is_one_sentence_and_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    network = build("test_byobnet", seed=0)
    checkpoint.save(folder, network, ModelSpec(network.architecture))
    weights = (folder / "model.safetensors").read_bytes()
    spec = (folder / "spec.json").read_text()
    damages = {
        "cut short": ("model.safetensors", weights[: len(weights) // 2]),
        "another architecture": ("spec.json", spec.replace("test_byobnet", "resnet10t").encode()),
        "has version 99": ("spec.json", spec.replace('"version": 2', '"version": 99').encode()),
        "is not JSON": ("spec.json", b"{"),
    }
    for words, (name, content) in damages.items():
        (folder / "spec.json").write_text(spec)
        (folder / "model.safetensors").write_bytes(weights)
        (folder / name).write_bytes(content)
        result = run(folder, "--out", tmp_path / "x.onnx")
        assert result.exit_code == 2
        assert words in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
        assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_weights_outside_the_file_are_refused(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx", calibrated())
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    path.write_bytes(model.SerializeToString())
    result = run("inspect", path)
    assert result.exit_code == 2
    assert "keeps its weights in another file ('../../etc/passwd')" in result.stderr
    # Also where a subgraph's constant hides it.
    model = onnx.load(write_model(tmp_path / "n.onnx", calibrated()))
    hidden = onnx.helper.make_tensor("t", onnx.TensorProto.FLOAT, [1], [0.0])
    hidden.data_location = onnx.TensorProto.EXTERNAL
    hidden.external_data.add(key="location", value="t.bin")
    branch = onnx.helper.make_graph(
        [onnx.helper.make_node("Constant", [], ["c"], value=hidden)],
        "branch",
        [],
        [onnx.helper.make_tensor_value_info("c", onnx.TensorProto.FLOAT, [1])],
    )
    model.graph.node.append(onnx.helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch))
    (tmp_path / "n.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"another file \('t.bin'\)"):
        onnxfile.read(tmp_path / "n.onnx")


def test_files_without_the_contract_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("this is no model")
    with pytest.raises(ModelError, match="is not an ONNX model"):
        onnxfile.read(tmp_path / "text.onnx")
    path = write_model(tmp_path / "bare.onnx", metadata={})
    with pytest.raises(ModelError, match=r"has no `sonicscan.spec` metadata"):
        onnxfile.read_spec(onnxfile.read(path), path)
    path = write_model(tmp_path / "small.onnx", image=(3, 128, 256))
    with pytest.raises(ModelError, match=r"the contract is float32 \[batch, 3, 256, 256\]"):
        onnxfile.read_spec(onnxfile.read(path), path)


def test_a_model_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    model = onnxfile.read(write_model(tmp_path / "m.onnx"))
    folder = tmp_path / "locked"
    folder.mkdir()
    (folder / "m.onnx").mkdir()
    with pytest.raises(InputError, match="could not be written"):
        onnxfile.write(model, folder / "m.onnx")
    assert [path.name for path in folder.iterdir()] == ["m.onnx"]
