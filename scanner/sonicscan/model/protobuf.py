"""Reads the protobuf wire format of ONNX files: finds tensors that keep their values elsewhere, sets metadata.

ONNX Runtime would open that other file; if the model is given as bytes, in the current folder. The scanner does not
depend on the package onnx, so this module reads the few messages that can hold tensors (onnx.proto, version 1.20):

    ModelProto -> GraphProto, FunctionProto, TrainingInfoProto -> NodeProto -> AttributeProto -> TensorProto, GraphProto

Fields may come in any order and more than once, as protobuf allows. Everything is bounded: the nesting, the number of
fields, and each length by the message around it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

MAX_FIELDS = 4_000_000  # of the messages named above; a network of 7,000 nodes has about 100,000
MAX_DEPTH = 100  # protobuf's own limit
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_KEY = 2**32 - 1

# Of each message, by field number, the fields that can hold a tensor, and the type of message that they hold.
_INSIDE: Mapping[str, Mapping[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14


class MalformedError(ValueError):
    """The bytes are not a protobuf message, or the message exceeds the limits of this module."""


def keeps_values_elsewhere(model: bytes) -> bool:
    """Whether a tensor of an ONNX file names another file for its values.

    Args:
        model: the whole file.

    Raises:
        MalformedError: it cannot be read to its end.
    """
    count = 0
    waiting: list[tuple[str, memoryview, int]] = [("ModelProto", memoryview(model), 0)]
    while waiting:
        kind, message, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise MalformedError(f"messages are nested more than {MAX_DEPTH} deep")
        inside = _INSIDE[kind]
        for number, value in _fields(message):
            count += 1
            if count > MAX_FIELDS:
                raise MalformedError(f"it has more than {MAX_FIELDS} fields")
            if kind == "TensorProto" and (number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0)):
                return True
            if number in inside and isinstance(value, memoryview):
                waiting.append((inside[number], value, depth + 1))
    return False


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, value) of each field; the value of a fixed-width field is 0."""
    at = 0
    while at < len(message):
        number, value, at = _field(message, at)
        yield number, value


def _field(message: memoryview, at: int) -> tuple[int, int | memoryview, int]:
    """Number and value of the field that begins at `at`, and where it ends; the value of a fixed-width field is 0."""
    key, at = _varint(message, at)
    number, kind = key >> 3, key & 7
    if not number or key > _MAX_KEY:
        raise MalformedError("a field has an impossible number")
    if kind == _VARINT:
        value, at = _varint(message, at)
        return number, value, at
    if kind == _BYTES:
        length, at = _varint(message, at)
    elif kind in (_FIXED32, _FIXED64):
        length = 4 if kind == _FIXED32 else 8
    else:  # groups, which ONNX has none of, and types that protobuf does not have
        raise MalformedError(f"a field has the wire type {kind}")
    if length > len(message) - at:
        raise MalformedError("a field is longer than the message around it")
    return number, message[at : at + length] if kind == _BYTES else 0, at + length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """The number that begins at `at`, and where it ends."""
    value = 0
    for k, byte in enumerate(message[at : at + 10]):
        value |= (byte & 0x7F) << (7 * k)
        if byte < 0x80:
            return value, at + k + 1
    raise MalformedError("a number does not end")


_METADATA_PROPS, _KEY, _VALUE = 14, 1, 2  # of ModelProto, and of StringStringEntryProto


def with_metadata(model: bytes, key: str, value: str) -> bytes:
    """An ONNX file with the metadata entry `key` set to `value`; every other byte is unchanged.

    Args:
        model: the whole file.

    Raises:
        MalformedError: it cannot be read to its end.
    """
    view = memoryview(model)
    kept: list[bytes | memoryview] = []
    at = 0
    while at < len(view):
        number, content, end = _field(view, at)
        entry_of = _fields(content) if number == _METADATA_PROPS and isinstance(content, memoryview) else ()
        if not any(n == _KEY and isinstance(v, memoryview) and bytes(v) == key.encode() for n, v in entry_of):
            kept.append(view[at:end])
        at = end
    entry = _bytes_field(_KEY, key.encode()) + _bytes_field(_VALUE, value.encode())
    return b"".join([*kept, _bytes_field(_METADATA_PROPS, entry)])


def _bytes_field(number: int, content: bytes) -> bytes:
    return _as_varint(number << 3 | _BYTES) + _as_varint(len(content)) + content


def _as_varint(value: int) -> bytes:
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
