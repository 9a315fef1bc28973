"""Optional dependencies: what to say where one is missing."""

from __future__ import annotations

import sys

_EXTRAS = {
    "train": ("torch", "torchvision", "timm", "accelerate", "audiomentations", "sklearn", "safetensors"),
    "export": ("onnx", "onnxscript", "onnx_ir"),
    "report": ("jinja2", "matplotlib", "itables", "plotly"),
    "sign": ("cryptography",),
    "provenance": ("c2pa",),
    "ray": ("ray",),
    "s3": ("s3fs",),
    "gs": ("gcsfs",),
    "hf": ("huggingface_hub",),
}


def extra_of(module: str | None) -> str | None:
    """The extra that a module's package belongs to; None for a module of another kind."""
    package = (module or "").partition(".")[0]
    return next((extra for extra, packages in _EXTRAS.items() if package in packages), None)


def how_to_install(extra: str) -> str:
    """The command that adds an extra to this very installation.

    The command names this interpreter, so that a second Python on the machine is no trap. pip takes the
    requirement for satisfied by the sonicscan that is installed, from a clone too, and adds the extra's packages.
    """
    return f"{sys.executable or 'python3'} -m pip install 'sonicscan[{extra}]'"


def missing_extra(what: str, extra: str) -> str:
    """One sentence for an error message: `what` cannot work, and the command that changes that."""
    return f"{what}, which is not installed: {how_to_install(extra)}."
