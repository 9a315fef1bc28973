"""Sound and models for the benchmarks: from folders that are given, or synthesised.

Everything is made once and kept in a folder (`--work`, by default `bench-data`), so that a second run is quick.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import os
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import soundfile
from onnx import TensorProto, helper

from sonicscan.arrays import Float32
from sonicscan.audio.decode import read_mono
from sonicscan.cli.demo import melody, write_sound
from sonicscan.spec import METADATA_KEY, ModelSpec

if TYPE_CHECKING:
    from sonicscan_export.precision import Precision


_RATE = 44100
_OPUS_RATE = 48000
_SOUND = {".mp3", ".ogg", ".opus", ".flac", ".wav"}


def add_folders(parser: argparse.ArgumentParser, *given: str) -> None:
    """Options for those of `library` and `corpus` that a benchmark can use."""
    if "library" in given:
        parser.add_argument("--library", type=Path, help="a folder of music; else a synthesised one")
    if "corpus" in given:
        parser.add_argument("--corpus", type=Path, help="a folder with manifest.csv (path, label, source)")


def library(options: argparse.Namespace) -> Path:
    """The folder of music that was given, or one that is synthesised."""
    if options.library is not None:
        return Path(options.library)
    folder: Path = options.work / "library"
    folder.mkdir(parents=True, exist_ok=True)
    for k, suffix in enumerate((".mp3", ".ogg", ".flac", ".wav") * 2):
        path = folder / f"melody {k + 1}{suffix}"
        if not path.is_file():
            write(path, melody(60.0, _RATE, k), _RATE)
    return folder


def sound_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SOUND)


def tracks(options: argparse.Namespace, seconds: Sequence[float], suffixes: Sequence[str]) -> list[Path]:
    """Stereo tracks of these lengths: the library's files joined, else synthesised notes."""
    given = getattr(options, "library", None)
    folder: Path = options.work / ("joined" if given is not None else "synthesised")
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k, length in enumerate(seconds):
        path = folder / f"{k}-{length:g}{suffixes[k % len(suffixes)]}"
        rate = _OPUS_RATE if path.suffix == ".opus" else _RATE
        if not path.is_file():
            if given is not None:
                mono = _joined(sound_files(given), length, rate, k)
                write(path, np.stack([mono, 0.9 * mono], axis=1), rate)
            else:
                write(path, melody(length, rate, k), rate)
        paths.append(path)
    return paths


def _joined(paths: list[Path], seconds: float, rate: int, seed: int) -> Float32:
    random.Random(seed).shuffle(paths)
    parts: list[Float32] = []
    while sum(map(len, parts)) < seconds * rate:
        parts += [read_mono(bytes(path), rate) for path in paths]
    return np.concatenate(parts)[: round(seconds * rate)]


def write(path: Path, sound: Float32, rate: int) -> None:
    """Write whole or not at all."""
    write_sound(path.with_name("part-" + path.name), sound, rate).rename(path)


@contextlib.contextmanager
def quiet_decoders() -> Iterator[None]:
    """Keep messages of C libraries about odd files off the terminal."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def joined_excerpts(corpus: Path, folder: Path, a_source: int) -> dict[str, str]:
    """Tracks of two to three minutes, each of excerpts of one source drawn at random; their labels by name.

    Sources with less than two minutes of excerpts are left out. `codec` counts as neither label.
    """
    sources: dict[tuple[str, str], list[Path]] = defaultdict(list)
    with (corpus / "manifest.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["label"] in ("human", "ai"):
                sources[row["label"], row["source"]].append(corpus / row["path"])
    folder.mkdir(parents=True, exist_ok=True)
    draw, labels = random.Random(0), {}
    for number, ((label, _), paths) in enumerate(sorted(sources.items())):
        for k in range(a_source):
            draw.shuffle(paths)
            taken = list(_up_to(180.0, paths))
            if sum(soundfile.info(path).duration for path in taken) < 120:
                break
            name = f"{label}-{number:03d}-{k}.flac"
            labels[name] = label
            if not (folder / name).is_file():
                rate = soundfile.info(taken[0]).samplerate
                write(
                    folder / name, np.concatenate([read_mono(bytes(path), rate) for path in taken])[: 180 * rate], rate
                )
    return labels


def _up_to(seconds: float, paths: Iterable[Path]) -> Iterator[Path]:
    total = 0.0
    for path in paths:
        if total >= seconds:
            return
        total += soundfile.info(path).duration
        yield path


def free_model(options: argparse.Namespace) -> Path:
    """An ONNX file with the contract that takes hardly any time: it reads one pixel of each cell."""
    path: Path = options.work / "free.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    nodes = [
        helper.make_node("Slice", ["spectrogram", "from", "to", "axes", "steps"], ["cells"]),
        helper.make_node("Conv", ["cells", "weights"], ["class_maps"]),
        helper.make_node("ReduceMean", ["class_maps", "axes"], ["logits"], keepdims=0),
    ]
    constants: dict[str, np.ndarray] = {
        "from": np.array([0, 0], dtype=np.int64),
        "to": np.array([256, 256], dtype=np.int64),
        "axes": np.array([2, 3], dtype=np.int64),
        "steps": np.array([32, 32], dtype=np.int64),
        "weights": np.array([[0.0] * 3, [1.0] * 3], dtype=np.float32)[:, :, None, None],
    }
    graph = helper.make_graph(
        nodes,
        "free",
        [helper.make_tensor_value_info("spectrogram", TensorProto.FLOAT, ["batch", 3, 256, 256])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2]),
            helper.make_tensor_value_info("class_maps", TensorProto.FLOAT, ["batch", 2, 8, 8]),
        ],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    model.metadata_props.add(key=METADATA_KEY, value=ModelSpec("free").to_json())
    onnx.save(model, path)
    return path


def exported(options: argparse.Namespace, backbone: str, precision: Precision = "fp32") -> tuple[Any, Path]:
    """A backbone with random weights, as timm's own PyTorch module and as the file that sonicscan-export makes of it.

    The file is marked as trained, so that the scanner gives verdicts with `--threshold`.
    """
    import timm

    from sonicscan_export import convert, networks

    network = networks.untrained(backbone, "none", 0, ("human", "ai"))
    detector = network.detector.eval()
    plain = timm.create_model(detector.architecture, num_classes=2).eval()
    plain.load_state_dict(
        {
            name.removeprefix("backbone.")
            if name.startswith("backbone.")
            else name.replace("head.", "head.fc."): tensor
            for name, tensor in detector.state_dict().items()
        }
    )
    path: Path = options.work / f"{backbone}-{precision}.onnx"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        int8 = precision == "int8"  # its ranges of activations come from sound; of random weights no drift is too much
        manifest = _manifest(options) if int8 else None
        with contextlib.redirect_stdout(None):
            convert.export(network, path, precision, manifest, max_drift=1.0 if int8 else None)
        model = onnx.load(path)
        for entry in model.metadata_props:
            if entry.key == METADATA_KEY:
                spec = ModelSpec.from_metadata(entry.value, path)
                entry.value = dataclasses.replace(spec, untrained=False).to_json()
        onnx.save(model, path)
    return plain, path


def _manifest(options: argparse.Namespace) -> Path:
    """A manifest of enough sound to range activations with."""
    path: Path = options.work / "ranges.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label"])
        rows.writerows([str(path.resolve()), "human"] for path in tracks(options, [180.0] * 4, [".mp3", ".ogg"]))
    return path
