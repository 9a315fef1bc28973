"""sonicscan scores every file of an audio library for being AI-generated music.

import sonicscan

for result in sonicscan.scan("library", model="swin.onnx"):
    print(result.path, result.status, result.score, result.verdict)
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sonicscan.report.row import FileResult as FileResult
    from sonicscan.scanning.scan import scan as scan

# ONNX Runtime 1.28 and later report to their maker from the moment they are imported, and leave a file
# behind, unless one of these (the name has changed) is set before. What is audited here stays here.
for _name in ("ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED"):
    os.environ.setdefault(_name, "1")

__version__ = "0.1.0"
__all__ = ["FileResult", "__version__", "scan"]


def __getattr__(name: str) -> object:
    """Import what is public on first use: `sonicscan --help` waits for nothing heavy."""
    if name == "scan":
        from sonicscan.scanning.scan import scan

        return scan
    if name == "FileResult":
        from sonicscan.report.row import FileResult

        return FileResult
    raise AttributeError(f"module 'sonicscan' has no attribute {name!r}")
