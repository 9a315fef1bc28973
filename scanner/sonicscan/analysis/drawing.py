"""Imports matplotlib without reading a `matplotlibrc` of the current folder, which another user may have written."""

from __future__ import annotations

import importlib
import os
import sys

_O_PATH = getattr(os, "O_PATH", os.O_RDONLY)


def import_matplotlib() -> None:
    """Import matplotlib from the root folder, whatever the current folder is.

    Matplotlib reads `./matplotlibrc` when it is imported. Call this before any thread or process needs the current
    folder.
    """
    if "matplotlib" in sys.modules:
        return
    here = os.open(".", _O_PATH)
    try:
        os.chdir(os.sep)
        importlib.import_module("matplotlib")
    finally:
        os.fchdir(here)
        os.close(here)
