"""Models from strangers: weights in other files, loops without end, text for terminals, downloads of any size."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper
from synthesis import music, write_model

from sonicscan.cli.demo import write_sound
from sonicscan.cli.scan import main
from sonicscan.errors import ModelError
from sonicscan.model import detector, loading
from sonicscan.model.bundled import bundled_models
from sonicscan.model.detector import Detector
from sonicscan.model.loading import load_model
from sonicscan.model.protobuf import MalformedError, keeps_values_elsewhere
from sonicscan.model.sessions import Device
from sonicscan.spec import METADATA_KEY, ModelSpec


def field(number: int, content: bytes) -> bytes:
    """A protobuf field of bytes, with the shortest encoding of its length."""
    key, length, out = number << 3 | 2, len(content), b""
    for value in (key, length):
        while value > 0x7F:
            out += bytes([value & 0x7F | 0x80])
            value >>= 7
        out += bytes([value])
    return out + content


# `location` behind its value, which protobuf allows and a search for the usual bytes does not find.
SWAPPED = field(13, field(2, b"weights.bin") + field(1, b"location"))
TENSOR = b"\x08\x02\x10\x01" + SWAPPED
PLACES = {
    "an initializer": field(7, field(5, TENSOR)),
    "only its location": field(7, field(5, b"\x08\x02\x70\x01")),
    "an attribute": field(7, field(1, field(5, field(5, TENSOR)))),
    "a list attribute": field(7, field(1, field(5, field(10, TENSOR)))),
    "a subgraph": field(7, field(1, field(5, field(6, field(5, TENSOR))))),
    "a sparse initializer": field(7, field(15, field(2, TENSOR))),
    "a sparse attribute": field(7, field(1, field(5, field(22, field(1, TENSOR))))),
    "a function": field(25, field(7, field(5, field(5, TENSOR)))),
    "a function's default": field(25, field(11, field(5, TENSOR))),
    "training": field(20, field(1, field(5, TENSOR))),
    "the second of two graphs": field(7, b"") + field(7, field(5, TENSOR)),
}


@pytest.mark.parametrize("place", PLACES)
def test_weights_in_another_file_are_found_wherever_they_are_named(place: str) -> None:
    assert keeps_values_elsewhere(field(2, b"maker") + PLACES[place])


def test_a_tensor_with_its_own_values_is_not_taken_for_one_without() -> None:
    own = field(9, SWAPPED) + b"\x70\x00"  # the bytes as raw data, and the location that is the default
    assert not keeps_values_elsewhere(field(7, field(5, own)) + field(14, field(1, b"location") + field(2, b"x")))
    assert not any(keeps_values_elsewhere(path.read_bytes()) for path in bundled_models().values())


@pytest.mark.parametrize(
    "content",
    [b"\x3a", b"\x3a\x05\x00", b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x3b", b"\x00\x00", b"\xff" * 30],
)
def test_bytes_that_are_no_message_are_an_error(content: bytes) -> None:
    with pytest.raises(MalformedError):
        keeps_values_elsewhere(content)


def test_nesting_is_bounded() -> None:
    graph = b""
    for _ in range(60):
        graph = field(1, field(5, field(6, graph)))
    with pytest.raises(MalformedError, match="nested"):
        keeps_values_elsewhere(field(7, graph))


def test_weights_of_the_current_folder_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The published digest would stay the same whatever `weights.bin` holds."""
    model = onnx.load(write_model(tmp_path / "m.onnx"))
    weights = model.graph.initializer[0]
    (tmp_path / "weights.bin").write_bytes(weights.raw_data)
    weights.ClearField("raw_data")
    bare = weights.SerializeToString()
    del model.graph.initializer[0]
    graph = model.graph.SerializeToString() + field(5, bare + SWAPPED + b"\x70\x01")
    model.ClearField("graph")
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString() + field(7, graph))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="keeps weights in another file"):
        load_model(tmp_path / "m.onnx", Device("cpu"))


@pytest.mark.parametrize(("rows", "shape"), [("none", "(0, 2)"), ("twice", "(2, 2)")])
def test_another_number_of_rows_than_of_windows_is_refused(rows: str, shape: str, tmp_path: Path) -> None:
    model = onnx.load(write_model(tmp_path / "m.onnx"))
    next(node for node in model.graph.node if "logits" in node.output).output[0] = "all"
    if rows == "none":
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0]), "first"))
        model.graph.node.append(helper.make_node("Slice", ["all", "first", "first", "first"], ["logits"]))
    else:
        model.graph.node.append(helper.make_node("Concat", ["all", "all"], ["logits"], axis=0))
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "rows"
    onnx.save(model, tmp_path / "m.onnx")
    loaded = load_model(tmp_path / "m.onnx", Device("cpu"))
    with pytest.raises(ModelError) as refused:
        Detector(loaded, 1).logits(np.zeros((1, 3, 256, 256), dtype=np.float32), 1)
    assert f"gives `logits` of shape {shape} instead of (1, 2)" in str(refused.value)


@pytest.mark.parametrize("size", [2e30, 3e38, np.inf])
def test_logits_that_no_report_can_hold_are_refused(size: float, tmp_path: Path) -> None:
    loaded = load_model(write_model(tmp_path / "m.onnx", gain=0.0, bias=size), Device("cpu"))
    with pytest.raises(ModelError, match="or far too large"):
        Detector(loaded, 1).logits(np.zeros((1, 3, 256, 256), dtype=np.float32), 1)


def endless_model(path: Path) -> Path:
    """A model that adds 0 to its class maps 2^62 times."""
    model = onnx.load(write_model(path))
    maps = next(node for node in model.graph.node if "class_maps" in node.output)
    maps.output[0] = "first_maps"
    shape = ["batch", 2, 8, 8]
    body = helper.make_graph(
        [helper.make_node("Identity", ["going"], ["going_on"]), helper.make_node("Add", ["maps", "zero"], ["again"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("maps", TensorProto.FLOAT, shape),
        ],
        [
            helper.make_tensor_value_info("going_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("again", TensorProto.FLOAT, shape),
        ],
        [onnx.numpy_helper.from_array(np.zeros((), dtype=np.float32), "zero")],
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(2**62), "turns"))
    loop = helper.make_node("Loop", ["turns", "", "first_maps"], ["class_maps"], body=body)
    model.graph.node.insert(3, loop)
    onnx.save(model, path)
    return path


def test_a_model_that_loops_for_ever_ends_after_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(endless_model(tmp_path / "m.onnx"), Device("cpu"), threads=1)
    images = np.zeros((1, 3, 256, 256), dtype=np.float32)
    for module in (detector, loading):
        monkeypatch.setattr(module, "batch_limit_s", lambda windows: 0.5 * windows)
    for run in (lambda: Detector(model, 1).logits(images, 1), lambda: model.outputs(["logits"], images)):
        with pytest.raises(ModelError, match=r"took more than 0\.5 s for 1 windows"):
            run()


@pytest.mark.parametrize("command", ["scan", "explain"])
def test_the_first_interrupt_ends_a_model_that_loops(command: str, tmp_path: Path) -> None:
    model, sound = endless_model(tmp_path / "m.onnx"), write_sound(tmp_path / "x.wav", music(6.0))
    programs = {
        "scan": ["sonicscan.cli.scan", sound, "--model", model, "--device", "cpu"],
        "explain": ["sonicscan.cli.report", "explain", sound, "--model", model, "--out", tmp_path / "x.html"],
    }
    module, *arguments = map(str, programs[command])
    code = f"from {module} import main; main()"
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE)
    threads = Path(f"/proc/{process.pid}/task")
    while not any(_cpu_s(thread) > 0.5 for thread in threads.iterdir() if thread.name != str(process.pid)):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130


def _cpu_s(task: Path) -> float:
    """CPU time of a thread, seconds; 0 once it has ended."""
    try:
        fields = (task / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("name", [b"\x1b]0;owned\x07", b"\xff\xfe\x1b[2J"])
def test_names_in_a_model_that_does_not_load_are_printed_nowhere(
    name: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """ONNX Runtime prints why it falls back to another provider, on standard output."""
    path = write_model(tmp_path / "m.onnx")
    content = path.read_bytes().replace(b"class_maps", name.ljust(10, b"x"))
    path.write_bytes(content.replace(b"AveragePool", b"\x1b[2JagePool"))
    result = CliRunner().invoke(main, [str(tmp_path), "--model", str(path), "--device", "cpu"])
    assert result.exit_code == 2 and not result.stdout
    assert all(character.isprintable() or character == "\n" for character in result.stderr)
    assert capfd.readouterr() == ("", "")


def test_metadata_cannot_send_commands_to_a_terminal(tmp_path: Path) -> None:
    spec = ModelSpec("\x1b]0;owned\x07net", card="\x9b2J", metrics={"summary": "good\u202e"})
    model = write_model(tmp_path / "m.onnx", metadata={METADATA_KEY: spec.to_json()})
    sound = write_sound(tmp_path / "x.wav", music(6.0))
    code = "from sonicscan.cli.scan import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, str(sound), "--model", str(model), "--device", "cpu"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "\\x1b]0;owned\\x07net" in done.stderr
    assert not any(not c.isprintable() and c != "\n" for c in done.stderr)
