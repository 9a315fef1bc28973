"""Checks the box structure of a manifest store before a native library gets it.

JUMBF (ISO/IEC 19566-5): a box is its size, four letters of type, and content; a `jumb` box holds boxes.
"""

from __future__ import annotations

_MAX_BOXES = 10_000
_MAX_DEPTH = 32
_MAX_MANIFESTS = 200


def problem_of(store: bytes) -> str | None:
    """Why a manifest store must not be read, as the end of a sentence; None for a valid store."""
    if store[4:8] != b"jumb":
        return "it is not a JUMBF box"
    boxes = manifests = 0
    inside: list[int] = []  # where the open boxes end
    position = 0
    while position < len(store):
        while inside and position >= inside[-1]:
            inside.pop()
        if not inside and boxes:
            return None  # what follows the store is padding
        end = inside[-1] if inside else len(store)
        size, header = int.from_bytes(store[position : position + 4], "big"), 8
        kind = store[position + 4 : position + 8]
        if size == 1:
            size, header = int.from_bytes(store[position + 8 : position + 16], "big"), 16
        elif size == 0:
            size = end - position
        if size < header or position + size > end:
            return "its boxes are cut or damaged"
        boxes += 1
        if boxes > _MAX_BOXES:
            return f"it has more than {_MAX_BOXES:,} boxes"
        if kind == b"brob":
            return "it is compressed"
        if kind != b"jumb":
            position += size
            continue
        manifests += len(inside) == 1
        if manifests > _MAX_MANIFESTS:
            return f"it has more than {_MAX_MANIFESTS} manifests"
        inside.append(position + size)
        if len(inside) > _MAX_DEPTH:
            return f"its boxes are nested more than {_MAX_DEPTH} deep"
        position += header
    return None
