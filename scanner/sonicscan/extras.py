"""Optional dependencies: the messages for missing ones."""

from __future__ import annotations

import sys

EXTRAS = {
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
    """The extra that installs a module's package; None if no extra installs it."""
    package = (module or "").partition(".")[0]
    return next((extra for extra, packages in EXTRAS.items() if package in packages), None)


def how_to_install(extra: str) -> str:
    """The command that adds an extra to this installation.

    The command names this interpreter, because the machine may have a second Python. pip keeps the installed sonicscan,
    even one from a clone, and adds the packages of the extra.
    """
    return f"{sys.executable or 'python3'} -m pip install 'sonicscan[{extra}]'"


def missing_extra(what: str, extra: str) -> str:
    """One sentence for an error message: what is missing, and the command that installs it."""
    return f"{what}, which is not installed: {how_to_install(extra)}."
