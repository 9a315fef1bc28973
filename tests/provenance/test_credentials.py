"""Content Credentials in files that are signed here."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from c2pa_files import (
    GENERATED,
    MIME,
    TYPES,
    Authority,
    Ingredient,
    authority,
    outlived,
    signed,
    signed_elsewhere,
    sound,
    time_service,
)
from tag_files import comment, with_id3

from sonicscan.audio.tags import read_tags
from sonicscan.provenance.reading import read_provenance
from sonicscan.provenance.record import Provenance

Read = Callable[..., Provenance]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(content: bytes, trust: str | None = None, kind: str = "mp3") -> Provenance:
        path = tmp_path / f"track.{kind}"
        path.write_bytes(content)
        name = os.fsencode(path)
        found = read_provenance(name, read_tags(name).texts, trust)
        assert found is not None
        return found

    return read


@pytest.mark.parametrize("kind", MIME)
def test_a_generator_that_signs_is_named(read: Read, kind: str) -> None:
    content = signed(kind)
    found = read(content, kind=kind)
    assert found == Provenance(
        claim="generated",
        generator="Acme Music",
        generator_version="v7",
        signer="Acme Records",
        signature="valid_untrusted",
        source="c2pa",
        statement=GENERATED,
    )
    assert read(content, authority().pem, kind).signature == "trusted"
    assert read(content, Authority.new().pem, kind).signature == "valid_untrusted"


@pytest.mark.parametrize("kind", MIME)
def test_altered_audio_is_invalid(read: Read, kind: str) -> None:
    content = bytearray(signed(kind))
    content[len(content) * 6 // 10] ^= 1
    found = read(bytes(content), authority().pem, kind)
    assert (found.signature, found.claim) == ("invalid", "generated")


@pytest.mark.parametrize("kind", MIME)
def test_an_altered_manifest_is_invalid(read: Read, kind: str) -> None:
    content = signed(kind, TYPES + "digitalCapture").replace(b"digitalCapture", b"digitalCapturf")
    found = read(content, authority().pem, kind)
    assert (found.signature, found.claim) == ("invalid", "none")


@pytest.mark.parametrize("kind", MIME)
def test_a_file_without_a_manifest_declares_nothing(read: Read, kind: str) -> None:
    assert read(sound(kind), kind=kind) == Provenance()


def test_a_certificate_that_has_expired(read: Read) -> None:
    found = read(outlived(), authority().pem)
    assert (found.signature, found.claim, found.signer) == ("expired", "generated", "Acme Records")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_a_certificate_that_expired_after_a_time_stamp(read: Read, tmp_path: Path) -> None:
    """The confirmed time of signing counts; for `trusted`, the time stamp service must be vouched for too."""
    with time_service(tmp_path) as address:
        content = outlived(address)
    for trust, signature in (
        (None, "valid_untrusted"),
        (Authority.new().pem, "valid_untrusted"),
        (authority().pem, "trusted"),
    ):
        found = read(content, trust)
        assert (found.signature, found.claim) == (signature, "generated")
        assert found.signed_at is not None
        signed_at = dt.datetime.fromisoformat(found.signed_at)
        assert abs(dt.datetime.now(dt.UTC) - signed_at) < dt.timedelta(minutes=5)


@pytest.mark.parametrize("kind", MIME)
@pytest.mark.parametrize(
    ("source_type", "claim"), [("digitalCapture", "captured"), ("composite", "none"), ("humanEdits", "none")]
)
def test_a_recorder_or_editor_is_not_called_a_generator(read: Read, kind: str, source_type: str, claim: str) -> None:
    found = read(signed(kind, TYPES + source_type, generator=("Acme Recorder", "2")), authority().pem, kind)
    assert (found.claim, found.signature, found.generator) == (claim, "trusted", "Acme Recorder")
    assert found.statement == TYPES + source_type


@pytest.mark.parametrize("kind", ["mp3", "wav", "m4a"])
def test_an_ingredient_that_is_ai_in_a_recorded_track(read: Read, kind: str) -> None:
    part = Ingredient(signed(kind, generator=("Acme Stems", "3")), kind)
    found = read(signed(kind, TYPES + "digitalCapture", ingredients=[part]), kind=kind)
    assert (found.claim, found.generator) == ("edited_with_ai", "Acme Stems")


def test_an_edited_copy_of_a_generated_track_stays_generated(read: Read) -> None:
    generated = signed("mp3", generator=("Acme Music", "v7"))
    found = read(signed("mp3", [], content=generated, generator=("Acme Editor", "1"), edit=True))
    assert (found.claim, found.generator, found.signature) == ("generated", "Acme Music", "valid_untrusted")


def test_an_input_such_as_a_prompt_is_no_part_of_the_track(read: Read) -> None:
    prompt = Ingredient(signed("wav"), "wav", "inputTo")
    assert read(signed("mp3", TYPES + "digitalCapture", ingredients=[prompt])).claim == "captured"


def test_ai_edits_of_a_recording(read: Read) -> None:
    actions = [
        {"action": "c2pa.created", "digitalSourceType": TYPES + "digitalCapture"},
        {
            "action": "c2pa.edited",
            "digitalSourceType": GENERATED,
            "softwareAgent": {"name": "Vocal AI", "version": "9"},
        },
    ]
    found = read(signed("mp3", actions))
    assert (found.claim, found.generator, found.generator_version) == ("edited_with_ai", "Vocal AI", "9")


def test_two_generators_are_both_named(read: Read) -> None:
    content = with_id3(sound("mp3"), comment("made with suno; created=2026-01-01T00:00:00Z; id=1"))
    found = read(signed("mp3", content=content), authority().pem)
    assert (found.claim, found.generator, found.source) == ("generated", "Acme Music, Suno", "c2pa")
    assert found.signature == "trusted"


def test_a_signed_recording_with_a_generators_tag_is_conflicting(read: Read) -> None:
    content = with_id3(sound("mp3"), comment("made with suno; id=1"))
    found = read(signed("mp3", TYPES + "digitalCapture", content=content))
    assert (found.claim, found.generator) == ("conflicting", "Acme Music, Suno")
    assert found.statement == TYPES + "digitalCapture; made with suno; id=1"


@pytest.mark.parametrize("kind", ["mp3", "wav", "m4a"])
def test_a_manifest_elsewhere_is_named_and_not_fetched(read: Read, kind: str) -> None:
    found = read(signed_elsewhere(kind, "http://127.0.0.1:9/acme.c2pa"), kind=kind)
    assert (found.claim, found.signature, found.source) == ("none", "unverified", "xmp")
    assert found.statement == "Content Credentials are stored elsewhere, not fetched: http://127.0.0.1:9/acme.c2pa"


@pytest.mark.parametrize("kind", MIME)
def test_without_c2pa_a_manifest_is_present_and_not_verified(
    read: Read, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = signed(kind)
    monkeypatch.setitem(sys.modules, "c2pa", None)
    found = read(content, kind=kind)
    assert (found.claim, found.signature, found.source) == ("none", "unverified", "c2pa")
    assert found.statement is not None and "present, not verified" in found.statement
