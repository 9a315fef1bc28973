"""sonicscan scores every file of an audio library for being AI-generated music.

import sonicscan

for result in sonicscan.scan("library", model="swin.onnx"):
    print(result.path, result.status, result.score, result.verdict)

with sonicscan.Scanner() as scanner:  # loads the model once
    print(scanner.score_file("song.mp3").score)
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

from sonicscan.version import __version__ as __version__

if TYPE_CHECKING:
    from sonicscan.api import Scanner as Scanner
    from sonicscan.api import scan as scan
    from sonicscan.errors import AudioError as AudioError
    from sonicscan.errors import DeviceError as DeviceError
    from sonicscan.errors import InputError as InputError
    from sonicscan.errors import ModelError as ModelError
    from sonicscan.errors import RemoteError as RemoteError
    from sonicscan.errors import ReportError as ReportError
    from sonicscan.errors import SignatureError as SignatureError
    from sonicscan.errors import SonicscanError as SonicscanError
    from sonicscan.report.row import FileResult as FileResult
    from sonicscan.spec import ModelSpec as ModelSpec

# ONNX Runtime 1.28 and later send telemetry as soon as they are imported, and leave a file behind. Setting
# one of these variables (the name has changed) before the import prevents both.
for _name in ("ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED"):
    os.environ.setdefault(_name, "1")

# The home of each public name; it is imported on first use, so that `sonicscan --help` loads nothing heavy.
_HOMES = {
    "AudioError": "errors",
    "DeviceError": "errors",
    "FileResult": "report.row",
    "InputError": "errors",
    "ModelError": "errors",
    "ModelSpec": "spec",
    "RemoteError": "errors",
    "ReportError": "errors",
    "Scanner": "api",
    "SignatureError": "errors",
    "SonicscanError": "errors",
    "scan": "api",
}
__all__ = [
    "AudioError",
    "DeviceError",
    "FileResult",
    "InputError",
    "ModelError",
    "ModelSpec",
    "RemoteError",
    "ReportError",
    "Scanner",
    "SignatureError",
    "SonicscanError",
    "__version__",
    "scan",
]


def __getattr__(name: str) -> object:
    """Import a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'sonicscan' has no attribute {name!r}")
    return getattr(importlib.import_module(f"sonicscan.{_HOMES[name]}"), name)
