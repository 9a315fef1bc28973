"""Odd files that real libraries hold: docs/reliability.md says how each is treated; here each is made."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from sounds import encode
from synthesis import music

from sonicscan.audio.decode import read_windows
from sonicscan.audio.facts import AudioFacts
from sonicscan.audio.windows import WindowPlan
from sonicscan.cli.demo import write_sound
from sonicscan.spec import AudioSpec

RATE = 44100
SOUND = music(6.0, RATE, 2)
PLANS = ("12", "adaptive", "all")
Make = Callable[[Path], Path]


def facts_of(path: Path, plan: str = "12") -> AudioFacts:
    """The facts about a track that gives at least one window with sound in it."""
    reader, peak = read_windows(os.fsencode(path), AudioSpec(), WindowPlan.parse(plan, adaptive=True)), 0.0
    while True:
        try:
            peak = max(peak, float(np.abs(next(reader).samples).max()))
        except StopIteration as end:
            assert peak > 0.05
            return end.value


def mp3(path: Path, **options: str) -> bytes:
    return encode(path, SOUND, RATE, "libmp3lame", "mp3", options=options).read_bytes()


def id3(*frames: tuple[bytes, bytes]) -> bytes:
    body = b"".join(name + struct.pack(">IH", len(content), 0) + content for name, content in frames)
    size = len(body)
    return b"ID3\x03\0\0" + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0)) + body


def ape(**items: bytes) -> bytes:
    body = b"".join(struct.pack("<II", len(v), 0) + k.encode() + b"\0" + v for k, v in items.items())
    return body + b"APETAGEX" + struct.pack("<IIII", 2000, len(body) + 32, len(items), 0) + bytes(8)


def vbr_with_vbri(path: Path) -> Path:
    """A Fraunhofer header: where LAME's would be, its own frame with the number of frames."""
    content = bytearray(mp3(path, q="4"))
    at = max(content[:600].find(b"Xing"), content[:600].find(b"Info"))
    frames = struct.unpack(">I", content[at + 8 : at + 12])[0]
    end = content.find(b"\xff\xfb", at)
    content[at:end] = bytes(end - at)
    header = content.rfind(b"\xff\xfb", 0, at)
    vbri = b"VBRI" + struct.pack(">HHHIIHHHH", 1, 0, 75, len(content), frames, 0, 1, 2, 1)
    content[header + 36 : header + 36 + len(vbri)] = vbri
    path.write_bytes(content)
    return path


def id3_in_wav(path: Path) -> Path:
    content = write_sound(path.with_suffix(".wav"), SOUND, RATE).read_bytes()
    tag = id3((b"TIT2", b"\0title"))
    chunk = b"id3 " + struct.pack("<I", len(tag)) + tag + bytes(len(tag) % 2)
    for name, whole in (("inside", content[:12] + chunk + content[12:]), ("behind", content + chunk)):
        path.with_name(name).write_bytes(whole[:4] + struct.pack("<I", len(whole) - 8) + whole[8:])
    assert facts_of(path.with_name("inside")).status == "ok"
    return path.with_name("behind")


def id3_before(suffix: str) -> Make:
    def make(path: Path) -> Path:
        content = write_sound(path.with_suffix(suffix), SOUND, RATE).read_bytes()
        path.write_bytes(id3((b"TIT2", b"\0title"), (b"PRIV", bytes(5000))) + content)
        return path

    return make


def tags_everywhere(path: Path) -> Path:
    content = mp3(path)
    lyrics = b"LYRICSBEGININD0000210" + b"000027LYRICS200"
    v1 = b"TAG" + b"title".ljust(30, b"\0") + bytes(94) + b"\xff"
    path.write_bytes(
        id3((b"TIT2", b"\0one")) + id3((b"TPE1", b"\0two")) + content + ape(Title=b"x" * 9000) + lyrics + v1
    )
    return path


def multiplexed_ogg(path: Path) -> Path:
    with av.open(str(path), "w", format="ogg") as output:
        streams = [output.add_stream(codec, rate=48000, layout="stereo") for codec in ("libopus", "flac")]
        sound = music(6.0, 48000)
        for stream in streams:
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound.T), format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = 48000, 0
            resampler = av.AudioResampler(stream.format, "stereo", 48000, frame_size=stream.frame_size or 1024)
            for piece in [*resampler.resample(frame), *resampler.resample(None)]:
                output.mux(stream.encode(piece))
            output.mux(stream.encode(None))
    return path


def chained_ogg(path: Path) -> Path:
    first = write_sound(path.with_suffix(".ogg"), SOUND, RATE).read_bytes()
    second = write_sound(path.with_suffix(".ogg"), music(6.0, RATE, seed=5), RATE).read_bytes()
    path.write_bytes(first + second)
    return path


def dsf(path: Path) -> Path:
    """A second-order-free delta-sigma of a sine, as DSD64 in Sony's container."""
    rate, blocks = 2_822_400, 4096
    n = rate * 2 // (8 * blocks) * 8 * blocks
    wave = 0.4 * np.sin(2 * np.pi * 440 * np.arange(n) / rate)
    error, bits = 0.0, np.empty(n, dtype=np.uint8)
    for k, value in enumerate(wave.tolist()):
        error += value
        bits[k] = error > 0
        error -= 1.0 if bits[k] else -1.0
    data = np.packbits(bits, bitorder="little").tobytes()
    head = struct.pack("<4sQQQ", b"DSD ", 28, 28 + 52 + 12 + len(data), 0)
    form = struct.pack("<4sQIIIIIIQII", b"fmt ", 52, 1, 0, 1, 1, rate, 1, n, blocks, 0)
    path.write_bytes(head + form + struct.pack("<4sQ", b"data", 12 + len(data)) + data)
    return path


def written(container: str, subtype: str) -> Make:
    def make(path: Path) -> Path:
        soundfile.write(path, SOUND, RATE, format=container, subtype=subtype)
        return path

    return make


def encoded(codec: str, container: str, **options: object) -> Make:
    return lambda path: encode(path, SOUND, RATE, codec, container, **options)  # type: ignore[arg-type]


def rewritten(change: Callable[[bytes], bytes], **options: str) -> Make:
    def make(path: Path) -> Path:
        path.write_bytes(change(mp3(path, **options)))
        return path

    return make


def without_xing(content: bytes) -> bytes:
    return content.replace(b"Xing", b"    ", 1).replace(b"Info", b"    ", 1)


ODD: dict[str, tuple[Make, str]] = {
    "VBR MP3 without a Xing header": (rewritten(without_xing, q="4"), "mp3"),
    "VBR MP3 with LAME's header": (rewritten(bytes, q="2"), "mp3"),
    "CBR MP3 with an Info header": (rewritten(bytes), "mp3"),
    "VBR MP3 with a VBRI header": (vbr_with_vbri, "mp3"),
    "MP3 behind 10 kB of zeros": (rewritten(lambda content: bytes(10_000) + content), "mp3"),
    "MP3 behind text": (rewritten(lambda content: b"HTTP/1.1 200 OK\r\n\r\n" + content), "mp3"),
    "two MP3s joined": (rewritten(lambda content: content + content), "mp3"),
    "MP3 with ID3 twice, APE, Lyrics3 and ID3v1": (tags_everywhere, "mp3"),
    "MP3 with APE before it": (rewritten(lambda content: ape(Title=b"x") + content), "mp3"),
    "ID3 in WAV": (id3_in_wav, "pcm_16"),
    "ID3 before FLAC": (id3_before(".flac"), "flac"),
    "multiplexed Ogg": (multiplexed_ogg, "opus"),
    "chained Ogg": (chained_ogg, "vorbis"),
    "FLAC in Ogg": (encoded("flac", "ogg"), "flac"),
    "M4A with cover art": (encoded("aac", "mp4", cover=True), "aac"),
    "Matroska with a picture stream": (encoded("flac", "matroska", cover=True), "flac"),
    "24-bit WAV": (written("WAV", "PCM_24"), "pcm_24"),
    "float WAV": (written("WAV", "FLOAT"), "float"),
    "WAVE_FORMAT_EXTENSIBLE": (written("WAVEX", "PCM_24"), "pcm_24"),
    "MP3 in WAV": (encoded("libmp3lame", "wav"), "mp3"),
    "AC-3 in WAV": (encoded("ac3", "wav"), "ac3"),
    "ALAC": (encoded("alac", "ipod"), "alac"),
    "24-bit FLAC (as MQA is)": (written("FLAC", "PCM_24"), "flac"),
    "AAC in ADTS": (encoded("aac", "adts"), "aac"),
    "AAC in LOAS": (encoded("aac", "latm"), "aac_latm"),
    "AC-3": (encoded("ac3", "ac3"), "ac3"),
    "E-AC-3": (encoded("eac3", "eac3"), "eac3"),
    "fragmented MP4": (
        encoded("aac", "mp4", container_options={"movflags": "frag_keyframe+empty_moov", "frag_duration": "1000000"}),
        "aac",
    ),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_files_are_scored_and_every_window_plan_finds_the_same_length(kind: str, tmp_path: Path) -> None:
    make, codec = ODD[kind]
    path = make(tmp_path / "odd")
    found = {plan: facts_of(path, plan) for plan in PLANS}
    for facts in found.values():
        assert facts.status == "ok", found
        assert facts.codec == codec
        assert 5.5 < facts.duration_s < 12.6
    lengths = [facts.duration_s for facts in found.values()]
    assert max(lengths) - min(lengths) < 0.06, found  # two frames of MP3


def test_dsd_is_scored(tmp_path: Path) -> None:
    path = dsf(tmp_path / "odd")
    for plan in PLANS:
        facts = facts_of(path, plan)
        assert facts.status == "ok"
        assert facts.codec.startswith("dsd")
        assert facts.duration_s == pytest.approx(2.0, abs=0.05)
        assert facts.sample_rate == 352_800


def test_every_kind_is_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs/reliability.md").read_text(encoding="utf-8")
    assert [kind for kind in [*ODD, "DSD (DSF)", "HE-AAC", "ADIF AAC"] if f"| {kind} |" not in page] == []


def streams_of(path: Path, container: str = "vorbis", seconds: tuple[float, ...] = (6.0, 7.0, 8.0)) -> list[bytes]:
    """Ogg files of different music."""
    found = []
    for k, length in enumerate(seconds):
        part, sound = path / f"{k}.ogg", music(length, RATE, 2, seed=k)
        found.append(
            (
                encode(part, sound, RATE, "flac", "ogg") if container == "flac" else write_sound(part, sound, RATE)
            ).read_bytes()
        )
        part.unlink()
    return found


def without_header(stream: bytes) -> bytes:
    """An Ogg stream whose first packet says nothing about the codec."""
    return stream[:28] + b"unknown" + stream[35:]


@pytest.mark.parametrize("plan", PLANS)
def test_a_stream_of_a_chain_that_cannot_be_decoded_loses_no_other_stream(plan: str, tmp_path: Path) -> None:
    first, second, third = streams_of(tmp_path)
    path = tmp_path / "chain.ogg"
    path.write_bytes(first + without_header(second) + third)
    facts = facts_of(path, plan)
    assert facts.duration_s == pytest.approx(14.0, abs=0.05)
    assert facts.warnings == ("damaged",)
    assert facts.error == "it holds 3 streams, one after the other. stream 2 of 3 could not be decoded."


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("kind", ["FLAC", "the same file twice", "the first stream again", "zeros between"])
def test_every_stream_of_a_chain_is_read(kind: str, plan: str, tmp_path: Path) -> None:
    first, second, third = streams_of(tmp_path, "flac" if kind == "FLAC" else "vorbis")
    path, seconds = tmp_path / "chain.ogg", 21.0
    if kind == "the same file twice":
        path.write_bytes(second + second)
        seconds = 14.0
    elif kind == "the first stream again":
        path.write_bytes(first + third + first)
        seconds = 20.0
    else:
        path.write_bytes(first + bytes(300_000 * (kind == "zeros between")) + second + third)
    facts = facts_of(path, plan)
    assert facts.status == "ok" and facts.duration_s == pytest.approx(seconds, abs=0.05)
    assert "one after the other" in (facts.error or "")
