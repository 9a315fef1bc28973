"""Tags: by content and never by name, in every container, within a second and four megabytes."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

import av
import numpy as np
import pytest
from sounds import encode
from synthesis import music

from sonicscan.audio.tags import MAX_BYTES, MAX_SECONDS, Tags, read_tags
from sonicscan.cli.demo import write_sound
from sonicscan.library.ranges import RemoteFile

WANTED = Tags("Fjord", "Ann Åsdóttir", "Vår", None)
METADATA = {"title": "Fjord", "artist": "Ann Åsdóttir", "album": "Vår"}


def tagged(path: Path, codec: str, container: str) -> Path:
    with av.open(str(path), "w", format=container) as output:
        output.metadata.update(METADATA)
        stream = output.add_stream(codec, rate=44100, layout="stereo")
        stream.bit_rate = 128_000
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(music(1.0).T), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = 44100, 0
        resampler = av.AudioResampler(stream.format, "stereo", 44100, frame_size=stream.frame_size or 1024)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    return path


def ape(**items: str) -> bytes:
    body = b"".join(struct.pack("<II", len(v.encode()), 0) + k.encode() + b"\0" + v.encode() for k, v in items.items())
    return body + b"APETAGEX" + struct.pack("<IIII", 2000, len(body) + 32, len(items), 0) + bytes(8)


@pytest.mark.parametrize(
    ("codec", "container"),
    [
        ("libmp3lame", "mp3"),
        ("aac", "ipod"),
        ("flac", "flac"),
        ("flac", "ogg"),
        ("flac", "matroska"),
        ("wmav2", "asf"),
        ("pcm_s16be", "caf"),
        ("pcm_s16le", "wav"),
        ("wavpack", "wv"),
    ],
)
def test_tags_are_read_in_every_container_whatever_its_name(codec: str, container: str, tmp_path: Path) -> None:
    path = tagged(tmp_path / "sound.txt", codec, container)
    assert read_tags(os.fsencode(path)) == WANTED


@pytest.mark.parametrize("codec", ["libmp3lame", "mp2", "wavpack", "tta"])
def test_an_ape_tag_at_the_end_is_read(codec: str, tmp_path: Path) -> None:
    container = {"libmp3lame": "mp3", "mp2": "mp2", "wavpack": "wv", "tta": "tta"}[codec]
    options = {"write_id3v2": "0", "id3v2_version": "0"} if container == "mp3" else {}
    path = encode(tmp_path / "sound.wav", music(1.0), 44100, codec, container, container_options=options)
    path.write_bytes(path.read_bytes() + ape(Title="Fjord", Artist="Ann Åsdóttir", Album="Vår"))
    assert read_tags(os.fsencode(path)) == WANTED


def test_tags_of_mp2_and_behind_an_id3v1_tag_are_read(tmp_path: Path) -> None:
    plain = encode(tmp_path / "sound.mp2", music(1.0), 44100, "mp2", "mp2").read_bytes()
    tagged_head = tagged(tmp_path / "sound.mp3", "libmp3lame", "mp3").read_bytes()
    path = tmp_path / "tagged"
    size = tagged_head[6] << 21 | tagged_head[7] << 14 | tagged_head[8] << 7 | tagged_head[9]
    path.write_bytes(tagged_head[: 10 + size] + plain)
    assert read_tags(os.fsencode(path)) == WANTED
    path.write_bytes(plain + ape(Title="Fjord", Artist="Ann Åsdóttir", Album="Vår") + b"TAG" + bytes(125))
    assert read_tags(os.fsencode(path)) == WANTED


def test_a_file_without_tags_or_sound_has_none(tmp_path: Path) -> None:
    path = tmp_path / "text.mp3"
    path.write_bytes(b"Dear Sir or Madam,\n" * 50)
    assert read_tags(os.fsencode(path)) == Tags()
    assert read_tags(os.fsencode(tmp_path / "gone.mp3")) == Tags()


def vorbis_comments(n: int) -> bytes:
    comments = b"".join(struct.pack("<I", 11) + b"X=%09d" % k for k in range(n))
    return struct.pack("<I", 0) + struct.pack("<I", n) + comments


def test_many_comments_of_one_name_take_no_longer_than_the_limit(tmp_path: Path) -> None:
    """Each is compared with all before it: 200,000 of them would take hours."""
    sound = write_sound(tmp_path / "sound.flac", music(1.0)).read_bytes()
    body = vorbis_comments(200_000)
    path = tmp_path / "many.flac"
    path.write_bytes(b"fLaC" + sound[4:42] + b"\x84" + len(body).to_bytes(3, "big") + body)
    began = time.process_time()
    assert read_tags(os.fsencode(path)) == Tags()
    assert time.process_time() - began < MAX_SECONDS + 0.5


def test_a_wav_that_zeros_follow_is_read_within_the_limits(tmp_path: Path) -> None:
    """700 MB of them are 88 million chunks without a name or content."""
    path = write_sound(tmp_path / "sound.wav", music(1.0))
    size = path.stat().st_size + (700 << 20)
    os.truncate(path, size)
    fetched = 0

    def fetch(start: int, stop: int) -> bytes:
        nonlocal fetched
        fetched += stop - start
        with path.open("rb") as file:
            file.seek(start)
            return file.read(stop - start)

    began = time.process_time()
    with RemoteFile(fetch, size) as file:
        assert read_tags(file) == Tags()
    assert time.process_time() - began < MAX_SECONDS + 1.0
    assert fetched < 3 * MAX_BYTES  # what is read, and what is fetched ahead of it
