"""Manifests, tags and containers that were made to harm: an answer, quickly, and never an exception."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path
from typing import Any

import pytest
from c2pa_files import GENERATED, MIME, signed, sound
from hypothesis import given, settings
from hypothesis import strategies as st
from tag_files import box, frame, id3, synchsafe, with_chunk, with_id3

from sonicscan.provenance import jumbf
from sonicscan.provenance.containers import MAX_STORE
from sonicscan.provenance.manifests import declared_in_manifests
from sonicscan.provenance.reading import read_provenance
from sonicscan.provenance.record import Provenance


def declared_by(path: Path) -> Provenance:
    began = time.process_time()
    found = read_provenance(os.fsencode(path), ())
    assert found is not None
    assert time.process_time() - began < 5.0
    return found


def geob(store: bytes) -> bytes:
    return frame("GEOB", b"\0application/c2pa\0c2pa\0c2pa manifest store\0" + store)


def superbox(kind: bytes, label: bytes, *children: bytes) -> bytes:
    description = kind + bytes.fromhex("0011001080000 0aa00389b71".replace(" ", "")) + b"\3" + label + b"\0"
    return box(b"jumb", box(b"jumd", description) + b"".join(children))


def store_of(claim: bytes) -> bytes:
    """A manifest store whose claim is this CBOR."""
    made = superbox(b"c2cl", b"c2pa.claim.v2", box(b"cbor", claim))
    signature = superbox(b"c2cs", b"c2pa.signature", box(b"cbor", b"\x40"))
    return superbox(b"c2pa", b"c2pa", superbox(b"c2ma", b"urn:c2pa:a", made, signature))


def test_a_manifest_of_a_gigabyte_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    content = with_chunk(sound("wav"), b"C2PA", b"\0\0\0\x20jumb" + b"\0" * 100, 1 << 30)
    path.write_bytes(content)
    os.truncate(path, len(content) + (1 << 30))  # sparse: it takes no room
    found = declared_by(path)
    assert (found.claim, found.signature) == ("none", "unverified")
    assert found.statement is not None and "1,073,741,824 bytes is too large" in found.statement


def test_a_frame_that_claims_more_than_the_file_has(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    beginning = b"\0application/c2pa\0c2pa\0\0\0\0\1\0jumb"
    path.write_bytes(id3(b"GEOB" + synchsafe((1 << 28) - 1) + b"\0\0" + beginning, size=(1 << 28) - 1) + sound("mp3"))
    assert declared_by(path).signature == "unverified"


@pytest.mark.parametrize(
    ("store", "why"),
    [
        (b"\0\0\0\x10jumb" + box(b"cbor", b"") * 20_000, None),
        (box(b"jumb", box(b"cbor", b"") * 20_000), "more than 10,000 boxes"),
        (superbox(b"c2pa", b"c2pa", *[superbox(b"c2ma", b"m")] * 300), "more than 200 manifests"),
        (superbox(b"c2pa", b"c2pa", box(b"brob", b"c2ma" + b"\0" * 50)), "compressed"),
        (box(b"jumb", b"\0\0\0\2free"), "cut or damaged"),
        (b"\0\0\0\1jumb" + b"\xff" * 8, "cut or damaged"),
        (b"jumb", "not a JUMBF box"),
        (b"", "not a JUMBF box"),
    ],
)
def test_stores_that_are_not_given_to_the_library(store: bytes, why: str | None) -> None:
    found = jumbf.problem_of(store)
    assert found is None if why is None else found is not None and why in found


def test_boxes_nested_without_end_are_not_given_to_the_library() -> None:
    store = b""
    for _ in range(50):
        store = box(b"jumb", store)
    found = jumbf.problem_of(store)
    assert found is not None and "nested" in found


@pytest.mark.parametrize(
    "claim",
    [
        b"\x81" * 1_000_000,  # arrays in arrays
        b"\xc1" * 1_000_000,
        b"\x9b\0\0\0\x7f\xff\xff\xff\xff",  # an array of half a million million
        b"\x5b\0\0\0\x7f\xff\xff\xff\xff",
        b"\xa0",
        b"",
    ],
)
def test_a_claim_made_to_exhaust_the_reader(tmp_path: Path, claim: bytes) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(with_id3(sound("mp3"), geob(store_of(claim))))
    assert declared_by(path).signature == "unverified"


@pytest.mark.parametrize("kind", MIME)
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_a_manifest_that_is_cut(tmp_path: Path, kind: str, share: float) -> None:
    content = signed(kind)
    start, end = content.index(b"jumb") - 4, content.rindex(b"c2pa.signature")
    path = tmp_path / f"a.{kind}"
    path.write_bytes(content[: start + round(share * (end - start))])
    found = declared_by(path)
    assert (found.claim, found.signature) == ("none", "unverified")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_files_are_answered(data: st.DataObject) -> None:
    import tempfile

    content = bytearray(_signed(data.draw(st.sampled_from(list(MIME)))))
    manifest = content.index(b"jumb")
    for _ in range(data.draw(st.integers(1, 20))):
        at = data.draw(st.integers(max(0, manifest - 100), min(len(content) - 1, manifest + 3000)))
        content[at] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        path.write_bytes(content)
        assert declared_by(path).signature in ("absent", "unverified", "invalid", "valid_untrusted", "expired")


_FILES: dict[str, bytes] = {}


def _signed(kind: str) -> bytes:
    if kind not in _FILES:
        _FILES[kind] = signed(kind)
    return _FILES[kind]


def manifest(source_type: str, *ingredients: tuple[str, str]) -> dict[str, Any]:
    action = {"action": "c2pa.created", "digitalSourceType": source_type}
    return {
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}],
        "ingredients": [{"active_manifest": label, "relationship": relation} for label, relation in ingredients],
    }


def test_xmp_of_open_comments_is_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(with_chunk(sound("wav"), b"_PMX", b"<!--" * 65536))
    began = time.monotonic()
    assert read_provenance(os.fsencode(path), ()) == Provenance()
    assert time.monotonic() - began < 2.0
    source = b'<x DigitalSourceType="trainedAlgorithmicMedia"/>'
    for xmp, claim in ((b"<!-- " + source, "generated"), (b"<!-- <!-- " + source + b" --> -->", "none")):
        path.write_bytes(with_chunk(sound("wav"), b"_PMX", xmp))
        found = read_provenance(os.fsencode(path), ())
        assert found is not None and found.claim == claim


def test_ingredients_that_contain_each_other() -> None:
    manifests = {
        "a": manifest("digitalCapture", ("b", "componentOf"), ("a", "parentOf")),
        "b": manifest("composite", ("a", "componentOf"), ("c", "componentOf")),
        "c": manifest(GENERATED, ("b", "parentOf")),
    }
    assert declared_in_manifests({"active_manifest": "a", "manifests": manifests}).claim == "edited_with_ai"


@pytest.mark.parametrize("relations", [*itertools.permutations(["componentOf", "parentOf", "inputTo"])])
def test_a_track_that_is_parent_and_component_counts_as_both(relations: tuple[str, ...]) -> None:
    manifests = {
        "edited": manifest("composite", *(("made", relation) for relation in relations)),
        "made": manifest(GENERATED),
    }
    assert declared_in_manifests({"active_manifest": "edited", "manifests": manifests}).claim == "generated"


def test_a_chain_of_thousands_of_ingredients_ends() -> None:
    manifests = {str(k): manifest("composite", (str(k + 1), "componentOf")) for k in range(5000)}
    assert declared_in_manifests({"active_manifest": "0", "manifests": manifests}).claim == "none"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(GENERATED),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["label", "data", "actions", "action", "name", "softwareAgent"]), inner)
    ),
    max_leaves=10,
)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["assertions", "ingredients", "claim_generator_info", "claim_generator", "relationship"]), _JSON
    )
)
def test_a_manifest_of_any_shape_is_answered(values: dict[str, Any]) -> None:
    found = declared_in_manifests({"active_manifest": "a", "manifests": {"a": values}})
    assert found.source == "c2pa"


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(
        [b"ID3", b"RIFF\0\0\0\0WAVE", b"\0\0\0\x08ftyp", b"OggS\0\2" + b"\0" * 20, b"RF64\0\0\0\0WAVEds64"]
    ),
    st.binary(max_size=300),
)
def test_containers_of_any_bytes_are_walked(head: bytes, rest: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        path.write_bytes(head + rest)
        assert declared_by(path).claim == "none"


def test_a_store_at_the_limit_is_still_read(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(with_chunk(sound("wav"), b"C2PA", box(b"jumb", b"\0" * (MAX_STORE - 8))))
    found = declared_by(path)
    assert found.statement is not None and "too large" not in found.statement
