"""Statements in tags and XMP, and texts that only look like one."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import av
import pytest
from sounds import encode
from synthesis import music
from tag_files import SUNO, box, comment, frame, free, id3, with_chunk, with_id3

from sonicscan.audio.tags import read_tags
from sonicscan.cli.demo import write_sound
from sonicscan.provenance.reading import read_provenance
from sonicscan.provenance.record import Provenance

Read = Callable[[bytes, str], Provenance]
IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"
PAGE = (Path(__file__).parents[2] / "docs" / "provenance.md").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One second of sound in each container."""
    folder = tmp_path_factory.mktemp("plain")
    kinds = ("mp3", "wav", "flac", "ogg")
    return {kind: write_sound(folder / f"a.{kind}", music(1.0)).read_bytes() for kind in kinds}


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(content: bytes, kind: str) -> Provenance:
        path = tmp_path / f"track.{kind}"
        path.write_bytes(content)
        return declared_by(path)

    return read


def declared_by(path: Path) -> Provenance:
    name = os.fsencode(path)
    found = read_provenance(name, read_tags(name).texts)
    assert found is not None
    return found


def remuxed(path: Path, source: Path, tags: dict[str, str], **options: str) -> Path:
    """The sound of `source` in another container or with tags, by FFmpeg."""
    with av.open(str(source)) as given, av.open(str(path), "w", container_options=options) as target:
        stream = target.add_stream_from_template(given.streams.audio[0])
        target.metadata.update(tags)
        for packet in given.demux(given.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return path


@pytest.mark.parametrize(
    ("frames", "generator"),
    [
        ([comment(SUNO)], "Suno"),
        ([free("comment", SUNO)], "Suno"),
        ([comment("Made by Suno")], "Suno"),
        ([frame("TPE1", b"\x03Udio")], "Udio"),
        ([free("AIGC", '{"Label":"1","ContentProducer":"Acme","ProduceID":"2"}')], "Acme"),
        ([free("AIGC", '{"ContentProducer": "Acme", "Label": "1"}')], "Acme"),
        ([free("AIGC", '{"Label": 1, "ContentProducer": "Acme", "ReservedCode1": "' + "x" * 3000 + '"}')], "Acme"),
        ([free("Iptc4xmpExt:DigitalSourceType", IPTC + "trainedAlgorithmicMedia")], None),
        ([free("aigc", '{"aigc": {"Label": "1", "ProduceID": "2"}}')], None),
    ],
)
def test_a_generators_statement_in_id3(
    read: Read, plain: dict[str, bytes], frames: list[bytes], generator: str | None
) -> None:
    found = read(with_id3(plain["mp3"], *frames), "mp3")
    assert (found.claim, found.generator, found.source, found.signature) == ("generated", generator, "tag", "absent")


def test_a_statement_in_the_second_of_two_id3_tags(read: Read, plain: dict[str, bytes]) -> None:
    """Some programs write a new tag before the one that is there."""
    first = id3(frame("TIT2", b"\x03Title"), frame("TPE1", b"\x03Artist"), frame("TALB", b"\x03Album"))
    found = read(first + with_id3(plain["mp3"], comment(SUNO)), "mp3")
    assert (found.claim, found.generator) == ("generated", "Suno")


@pytest.mark.parametrize(
    "frames",
    [
        [comment("Not made with suno")],
        [comment("recorded at home; the cover was made with suno")],
        [comment("made with sunoco; id=1")],
        [frame("TPE1", b"\x03Udionysos")],
        [frame("TPE1", b"\x03DJ Suno")],
        [frame("TPE1", b"\x03Mureka")],
        [frame("TIT2", b"\x03" + SUNO.encode())],
        [frame("TSSE", b"\x03Suno")],
        [frame("TSSE", b"\x03Lavf60.16.100")],
        [frame("WOAS", b"https://suno.com/song/1")],
        [free("AIGC", '{"Label":"2","ContentProducer":"Acme"}')],
        [free("AIGC", '{"Label":"10"}')],
        [free("AIGC", "Label")],
    ],
)
def test_what_only_looks_like_a_statement_does_not_count(
    read: Read, plain: dict[str, bytes], frames: list[bytes]
) -> None:
    assert read(with_id3(plain["mp3"], *frames), "mp3") == Provenance()


def test_an_editor_with_generated_parts_is_not_called_a_generator(read: Read, plain: dict[str, bytes]) -> None:
    found = read(with_id3(plain["mp3"], comment("made with suno studio; id=1")), "mp3")
    assert (found.claim, found.generator) == ("edited_with_ai", "Suno Studio")


@pytest.mark.parametrize("kind", ["flac", "ogg", "wav", "m4a"])
def test_a_statement_in_other_containers(tmp_path: Path, kind: str) -> None:
    """Vorbis comments, RIFF INFO and MP4 atoms."""
    plain = tmp_path / f"plain.{kind}"
    if kind == "m4a":
        encode(plain, music(1.0), 44100, "aac")
    else:
        write_sound(plain, music(1.0))
    assert declared_by(plain) == Provenance()
    found = declared_by(remuxed(tmp_path / f"tagged.{kind}", plain, {"comment": SUNO}))
    assert (found.claim, found.generator, found.statement) == ("generated", "Suno", SUNO)


@pytest.mark.parametrize("kind", ["mp3", "flac", "ogg", "opus", "m4a"])
def test_the_aigc_label_in_other_containers(tmp_path: Path, kind: str) -> None:
    """A metadata key of FFmpeg's: free ID3 frame, Vorbis comment, MP4 metadata key."""
    codec = {"m4a": "aac", "opus": "libopus"}.get(kind)
    plain, tagged = tmp_path / f"plain.{kind}", tmp_path / f"tagged.{kind}"
    write_sound(plain, music(1.0)) if codec is None else encode(plain, music(1.0), 48000, codec)
    options = {"movflags": "use_metadata_tags"} if kind == "m4a" else {}
    for label, claim in (("1", "generated"), ("3", "none")):
        text = f'{{"Label":"{label}","ContentProducer":"Acme","ProduceID":"7","ReservedCode1":""}}'
        found = declared_by(remuxed(tagged, plain, {"AIGC": text}, **options))
        assert (found.claim, found.generator) == (claim, "Acme" if claim == "generated" else None)


def xmp(properties: str) -> bytes:
    return f"<x:xmpmeta><rdf:RDF><rdf:Description {properties}/></rdf:RDF></x:xmpmeta>".encode()


@pytest.mark.parametrize(
    ("packet", "claim"),
    [
        (xmp(f'Iptc4xmpExt:DigitalSourceType="{IPTC}trainedAlgorithmicMedia"'), "generated"),
        (f"<Iptc4xmpExt:DigitalSourceType>{IPTC}digitalCapture</Iptc4xmpExt:DigitalSourceType>".encode(), "captured"),
        (f'<x:DigitalSourceType rdf:resource="{IPTC}compositeSynthetic"/>'.encode(), "edited_with_ai"),
        (xmp(f'Iptc4xmpExt:DigitalSourceType="{IPTC}composite"'), "none"),
        (xmp(f'dc:description="DigitalSourceType: {IPTC}trainedAlgorithmicMedia"'), "none"),
        (f'<!-- DigitalSourceType="{IPTC}trainedAlgorithmicMedia" -->'.encode(), "none"),
        (b'<TC260:AIGC>{"Label":"1","ContentProducer":"Acme"}</TC260:AIGC>', "generated"),
        (
            b"<TC260:AIGC>{&quot;ProduceID&quot;:&quot;7&quot;,&quot;Label&quot;:&quot;1&quot;}</TC260:AIGC>",
            "generated",
        ),
        (xmp('TC260:AIGC=\'{"Label":"1"}\''), "generated"),
        (xmp('TC260:AIGC="{&quot;Label&quot;:&quot;1&quot;}"'), "generated"),
        (b'<TC260:AIGC>{"Label":"2","ContentProducer":"Acme"}</TC260:AIGC>', "none"),
        (xmp('dc:description="TC260:AIGC {&quot;Label&quot;:&quot;1&quot;}"'), "none"),
        (b"\xff\xfe<" * 1000, "none"),
        (b"", "none"),
    ],
)
def test_a_digital_source_type_in_xmp(read: Read, plain: dict[str, bytes], packet: bytes, claim: str) -> None:
    source = "xmp" if claim != "none" else None
    files = {
        "mp3": with_id3(plain["mp3"], frame("PRIV", b"XMP\0" + packet)),
        "wav": with_chunk(plain["wav"], b"_PMX", packet),
    }
    for kind, content in files.items():
        found = read(content, kind)
        assert (found.claim, found.source) == (claim, source), kind


def test_xmp_in_mp4(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.m4a", music(1.0), 44100, "aac")
    packet = xmp(f'Iptc4xmpExt:DigitalSourceType="{IPTC}trainedAlgorithmicMedia"')
    uuid = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
    path.write_bytes(path.read_bytes() + box(b"uuid", uuid + packet))
    assert declared_by(path).claim == "generated"


@pytest.mark.parametrize("version", [2, 3, 4])
def test_xmp_in_every_version_of_id3(read: Read, plain: dict[str, bytes], version: int) -> None:
    if version == 2:  # no PRIV frame: a GEO frame of another type is passed over
        frames = [frame("GEO", b"\0text/plain\0a\0b\0" + b"jumb" * 9, 2), frame("COM", b"\0eng\0" + SUNO.encode(), 2)]
    else:
        packet = xmp(f'Iptc4xmpExt:DigitalSourceType="{IPTC}trainedAlgorithmicMedia"')
        frames = [frame("TIT2", b"\3" + b"x" * 300, version), frame("PRIV", b"XMP\0" + packet, version)]
    found = read(id3(*frames, version=version) + plain["mp3"], "mp3")
    assert found.claim == "generated"


def test_the_columns_of_tags_are_read_as_before(tmp_path: Path, plain: dict[str, bytes]) -> None:
    path = tmp_path / "t.mp3"
    path.write_bytes(with_id3(plain["mp3"], frame("TIT2", b"\3Fjord\0"), frame("TSRC", b"\3NOX001200001")))
    tags = read_tags(os.fsencode(path))
    assert (tags.title, tags.artist, tags.isrc) == ("Fjord", None, "NOX001200001")


def test_every_statement_has_a_source_and_a_date_and_is_documented() -> None:
    text = resources.files("sonicscan.provenance").joinpath("statements.toml").read_text(encoding="utf-8")
    known = tomllib.loads(text)
    for entry in [*known["source_type"], *known["tag"]]:
        assert len(entry["source"]) > 20 and entry["date"].year >= 2025
    for entry in known["tag"]:
        re.compile(entry["pattern"])
        assert entry.get("generator", "AIGC") in PAGE
    for entry in known["source_type"]:
        assert all(f"`{code}`" in PAGE for code in entry["codes"])
