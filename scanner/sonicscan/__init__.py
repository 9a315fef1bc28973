"""sonicscan scores every file of an audio library for being AI-generated music.

import sonicscan

for result in sonicscan.scan("library", model="swin.onnx"):
    print(result.path, result.status, result.score, result.verdict)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sonicscan.results import FileResult as FileResult
    from sonicscan.scanning import scan as scan

__version__ = "0.1.0"
__all__ = ["FileResult", "__version__", "scan"]


def __getattr__(name: str) -> object:
    """Import what is public on first use: `sonicscan --help` waits for nothing heavy."""
    if name == "scan":
        from sonicscan.scanning import scan

        return scan
    if name == "FileResult":
        from sonicscan.results import FileResult

        return FileResult
    raise AttributeError(f"module 'sonicscan' has no attribute {name!r}")
