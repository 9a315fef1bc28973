"""The ONNX session: what it refuses, and in how many words; batches; memory; devices."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from sonicscan.errors import DeviceError, ModelError
from sonicscan.model.detector import BoundSession, Detector
from sonicscan.model.loading import load_model
from sonicscan.model.sessions import Device
from sonicscan.spec import METADATA_KEY, ModelSpec

MakeModel = Callable[..., Path]


def images(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 3, 256, 256)).astype(np.float32)


def one_sentence(error: pytest.ExceptionInfo[Exception]) -> bool:
    text = str(error.value)
    return "\n" not in text and text.endswith(".") and len(text) < 500


def test_loads_spec_and_digest(tiny_model: Path) -> None:
    model = load_model(tiny_model, Device("cpu"), threads=1)
    assert model.spec.architecture == "tiny"
    assert len(model.digest) == 64
    assert model.device == Device("cpu")


def test_logits_are_the_mean_of_the_class_maps(tiny_model: Path) -> None:
    session = load_model(tiny_model, Device("cpu")).session
    logits, maps = session.run(["logits", "class_maps"], {"spectrogram": images(3)})
    assert maps.shape == (3, 2, 8, 8)
    np.testing.assert_allclose(maps.mean(axis=(2, 3)), logits, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_logits_do_not_depend_on_the_batch_size(tiny_model: Path, batch_size: int) -> None:
    model = load_model(tiny_model, Device("cpu"))
    batch = images(8)
    whole = model.session.run(["logits"], {"spectrogram": batch})[0]
    np.testing.assert_allclose(Detector(model, batch_size).logits(batch, 5), whole[:5], atol=1e-5)


def test_a_bound_session_gives_what_the_session_gives_batch_after_batch(tiny_model: Path) -> None:
    """On the CPU; on CUDA the same calls keep the batch's buffer on the device."""
    session = load_model(tiny_model, Device("cpu")).session
    bound = BoundSession(session, Device("cpu"), (4, 3, 256, 256))
    batches = [images(4, seed) for seed in range(3)]
    found = [bound.logits(batch) for batch in batches]
    for batch, logits in zip(batches, found, strict=True):
        np.testing.assert_array_equal(logits, session.run(["logits"], {"spectrogram": batch})[0])


def test_missing_file() -> None:
    with pytest.raises(ModelError, match="cannot be read: No such file") as error:
        load_model(Path("nowhere.onnx"))
    assert one_sentence(error)


@pytest.mark.parametrize("keep", [0, 20, 0.5, 0.95])
def test_a_cut_model_is_refused(tiny_model: Path, tmp_path: Path, keep: float) -> None:
    whole = tiny_model.read_bytes()
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(whole[: int(keep * len(whole) if keep < 1 else keep)])
    with pytest.raises(ModelError, match=re.escape(str(cut))) as error:
        load_model(cut, Device("cpu"))
    assert one_sentence(error)


def test_text_is_not_a_model(tmp_path: Path) -> None:
    text = tmp_path / "notes.onnx"
    text.write_text("not a model at all\n" * 50)
    with pytest.raises(ModelError) as error:
        load_model(text, Device("cpu"))
    assert one_sentence(error)


def test_a_model_without_the_contract_is_refused(make_model: MakeModel) -> None:
    with pytest.raises(ModelError, match=r"no `sonicscan.spec` metadata; export the model"):
        load_model(make_model(metadata={}), Device("cpu"))


def test_an_unknown_contract_version_is_refused_by_name(make_model: MakeModel) -> None:
    text = ModelSpec("tiny").to_json().replace('"version": 2', '"version": 7')
    with pytest.raises(ModelError, match="version 7, and this sonicscan"):
        load_model(make_model(metadata={METADATA_KEY: text}), Device("cpu"))


def test_another_input_shape_is_refused(make_model: MakeModel) -> None:
    with pytest.raises(ModelError, match=r"the contract is tensor\(float\) \[batch, 3, 256, 256\]"):
        load_model(make_model(image=(1, 256, 256)), Device("cpu"))


def test_another_output_name_is_refused(make_model: MakeModel) -> None:
    with pytest.raises(ModelError, match="has no `logits`"):
        load_model(make_model(logits_name="scores"), Device("cpu"))


def test_more_classes_in_the_contract_than_in_the_graph(make_model: MakeModel) -> None:
    text = ModelSpec("tiny", classes=("human", "suno", "udio")).to_json()
    with pytest.raises(ModelError, match=r"the contract is tensor\(float\) \[batch, 3\]"):
        load_model(make_model(metadata={METADATA_KEY: text}), Device("cpu"))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_numbers_are_refused(make_model: MakeModel, bad: float) -> None:
    model = load_model(make_model(bias=bad), Device("cpu"))
    with pytest.raises(ModelError, match="not numbers") as error:
        Detector(model, 2).logits(images(2), 2)
    assert one_sentence(error)


def hungry_model(path: Path, floats_a_window: int) -> Path:
    """A model that needs `floats_a_window` floats of memory for each window of the batch."""
    spec = ModelSpec("hungry")
    nodes = [
        helper.make_node("Shape", ["spectrogram"], ["batch"], start=0, end=1),
        helper.make_node("Mul", ["batch", "each"], ["count"]),
        helper.make_node("ConstantOfShape", ["count"], ["food"]),
        helper.make_node("ReduceSum", ["food"], ["eaten"], keepdims=0),
        helper.make_node("AveragePool", ["spectrogram"], ["cells"], kernel_shape=[32, 32], strides=[32, 32]),
        helper.make_node("Slice", ["cells", "from", "to", "axis"], ["two"]),
        helper.make_node("Add", ["two", "eaten"], ["class_maps"]),
        helper.make_node("ReduceMean", ["class_maps", "axes"], ["logits"], keepdims=0),
    ]
    constants = {"each": [floats_a_window], "from": [0], "to": [2], "axis": [1], "axes": [2, 3]}
    graph = helper.make_graph(
        nodes,
        "hungry",
        [helper.make_tensor_value_info("spectrogram", TensorProto.FLOAT, ["batch", 3, 256, 256])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2]),
            helper.make_tensor_value_info("class_maps", TensorProto.FLOAT, ["batch", 2, 8, 8]),
        ],
        [onnx.numpy_helper.from_array(np.array(v, dtype=np.int64), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    model.metadata_props.add(key=METADATA_KEY, value=spec.to_json())
    onnx.save(model, path)
    return path


def test_a_model_that_fits_not_even_once_is_a_device_error(tmp_path: Path) -> None:
    path = hungry_model(tmp_path / "hungry.onnx", 1 << 50)  # four petabytes: more than any address space
    detector = Detector(load_model(path, Device("cpu")), 8)
    with pytest.raises(DeviceError, match="does not fit into the memory of cpu, even one window at a time"):
        detector.logits(images(8), 8)
    assert detector.batch_size == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs an address-space limit that holds")
def test_the_batch_is_halved_until_it_fits(tmp_path: Path) -> None:
    path = hungry_model(tmp_path / "hungry.onnx", 1 << 26)  # 256 MB a window, under a limit of 1.5 GB
    program = f"""
import resource, numpy as np
from pathlib import Path
from sonicscan.model.detector import Detector
from sonicscan.model.loading import load_model
from sonicscan.model.sessions import Device
detector = Detector(load_model(Path({str(path)!r}), Device("cpu"), threads=1), 8)
images = np.zeros((8, 3, 256, 256), dtype=np.float32)
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + 3 * 2**29,) * 2)
print(detector.logits(images, 8).shape, detector.batch_size)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout in ("(8, 2) 4\n", "(8, 2) 2\n")


@pytest.mark.parametrize("text", ["gpu", "cpu:1", "cuda:", "cuda:x", ""])
def test_devices_that_make_no_sense(text: str) -> None:
    with pytest.raises(DeviceError, match="--device takes"):
        Device.parse(text)


def test_device_names() -> None:
    assert Device.parse("cuda:2") == Device("cuda", 2)
    assert str(Device.parse("cuda")) == "cuda:0"
    assert str(Device.parse("auto")) == "auto"


def test_cuda_that_does_not_start_is_an_error_that_names_what_is_missing(tiny_model: Path) -> None:
    if load_model(tiny_model, Device("auto")).device.kind == "cuda":
        pytest.skip("CUDA works here")
    with pytest.raises(DeviceError, match=r"--device cuda:0 does not start: (the NVIDIA|this onnxruntime)") as error:
        load_model(tiny_model, Device("cuda"))
    assert one_sentence(error)


def test_auto_says_what_it_took(tiny_model: Path) -> None:
    model = load_model(tiny_model, Device("auto"))
    assert (model.device.kind == "cuda") != bool(model.note)
