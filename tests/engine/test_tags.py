"""Tags come into the report, whatever they hold."""

from __future__ import annotations

import os
from pathlib import Path

import av
import pytest
from synthesis import music

import sonicscan
from sonicscan.cli.demo import write_sound

TAGS = {"title": "Fjord", "artist": "Ann\tÅsdóttir", "album": "=1+1", "TSRC": "NOX001200001"}


def tagged(path: Path, tags: dict[str, str]) -> Path:
    """Copy the sound of an MP3 into one with tags, by FFmpeg's muxer."""
    plain = write_sound(path.with_name("plain.mp3"), music(6.0))
    with av.open(str(plain)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        target.metadata.update(tags)
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    plain.unlink()
    return path


def test_tags_are_reported(tmp_path: Path, tiny_model: Path) -> None:
    (result,) = sonicscan.scan(tagged(tmp_path / "t.mp3", TAGS), model=tiny_model)
    assert (result.title, result.artist, result.album, result.isrc) == tuple(TAGS.values())


def test_without_tags_the_columns_are_null(tmp_path: Path, tiny_model: Path) -> None:
    (result,) = sonicscan.scan(write_sound(tmp_path / "t.wav", music(6.0)), model=tiny_model)
    assert (result.title, result.artist, result.album, result.isrc) == (None, None, None, None)


@pytest.mark.parametrize("text", ["\0\0", "\ud7ff\U0010ffff", "x" * 50_000, "<img src=x onerror=alert(1)>"])
def test_strange_tags_cost_nothing(tmp_path: Path, tiny_model: Path, text: str) -> None:
    path = tagged(tmp_path / "t.mp3", {"title": text or "-"})
    (result,) = sonicscan.scan(path, model=tiny_model)
    assert result.status == "ok"
    assert result.title is None or (result.title in text and len(result.title) <= 2000)


def test_a_damaged_tag_costs_the_tag_and_not_the_track(tmp_path: Path, tiny_model: Path) -> None:
    path = tagged(tmp_path / "t.mp3", {"title": "Fjord"})
    bytes_ = bytearray(path.read_bytes())
    at = bytes_.index(b"TIT2")
    bytes_[at + 4 : at + 8] = b"\x7f\x7f\x7f\x7f"  # a frame of 256 MB in a tag of a few hundred bytes
    path.write_bytes(bytes_)
    (result,) = sonicscan.scan(path, model=tiny_model)
    assert result.status == "ok"
    assert result.score is not None


def test_slow_tags_do_not_count_as_decoding(tmp_path: Path, tiny_model: Path) -> None:
    """Zeros behind a WAV are chunks without a name or content, and take all the time that tags may take."""
    path = write_sound(tmp_path / "t.wav", music(6.0))
    os.truncate(path, path.stat().st_size + (700 << 20))
    (result,) = sonicscan.scan(path, model=tiny_model, timeout_s=0.3)
    assert result.status == "ok", result.error
    assert result.warnings == ["tags_cut"]
