"""Writes the digests of the bundled models, after a change of the models: `python -m sonicscan.model.bundled`."""

from __future__ import annotations

from sonicscan.model.bundled import write_digests

print(write_digests())  # noqa: T201
