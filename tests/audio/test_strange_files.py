"""Files with a wrong length, with damage, or without sound: every window plan finds the same.

docs/reliability.md lists the kinds.
"""

from __future__ import annotations

import io
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from sounds import encode
from synthesis import music
from tag_files import ogg_checksum

from sonicscan.audio.claims import longer_data
from sonicscan.audio.containers import refuse_encrypted
from sonicscan.audio.decode import read_mono, read_windows
from sonicscan.audio.downmix import Downmix, bitstream_in
from sonicscan.audio.facts import AudioFacts
from sonicscan.audio.windows import WindowPlan
from sonicscan.cli.demo import write_sound
from sonicscan.errors import AudioError
from sonicscan.library.discovery import AUDIO_SUFFIXES
from sonicscan.spec import AudioSpec

RATE = 44100
SECONDS = 14.0
SOUND = music(SECONDS, RATE, 2)
PLANS = ("12", "adaptive", "all")
Make = Callable[[Path], Path]


def heard(path: Path, plan: str) -> tuple[AudioFacts, int, float]:
    """Facts, windows that are not silent, and the loudest sample."""
    reader, loud, peak = (
        read_windows(os.fsencode(path), AudioSpec(), WindowPlan.parse(plan, adaptive=True)),
        0,
        0.0,
    )
    while True:
        try:
            window = next(reader)
        except StopIteration as end:
            return end.value, loud, peak
        loud += not window.silent
        peak = max(peak, float(np.abs(window.samples).max()))


def refusal(path: Path) -> AudioError:
    errors = []
    for plan in PLANS:
        with pytest.raises(AudioError) as refused:
            heard(path, plan)
        errors.append((refused.value.status, str(refused.value)))
    assert len(set(errors)) == 1
    return refused.value


def snd(container: str, change: Callable[[bytearray], None], subtype: str | None = None) -> Make:
    def make(path: Path) -> Path:
        soundfile.write(path, SOUND, RATE, format=container, subtype=subtype)
        content = bytearray(path.read_bytes())
        change(content)
        path.write_bytes(content)
        return path

    return make


def ff(codec: str, container: str, change: Callable[[bytearray], None], **options: str) -> Make:
    def make(path: Path) -> Path:
        encode(path, SOUND, RATE, codec, container, options=options, bit_rate=128_000)
        content = bytearray(path.read_bytes())
        change(content)
        path.write_bytes(content)
        return path

    return make


def put(name: bytes, offset: int, form: str, value: float) -> Callable[[bytearray], None]:
    def change(content: bytearray) -> None:
        struct.pack_into(form, content, content.index(name) + offset, value)

    return change


def flac_total(content: bytearray) -> None:
    content[21] &= 0xF0
    content[22:26] = struct.pack(">I", 2 * RATE)


def xing(change: Callable[[bytearray, int], None]) -> Callable[[bytearray], None]:
    def changed(content: bytearray) -> None:
        change(content, max(content[:600].find(tag) for tag in (b"Xing", b"Info")))

    return changed


def zero_frames(content: bytearray, at: int) -> None:
    content[at + 8 : at + 12] = bytes(4)


def no_frame_count(content: bytearray, at: int) -> None:
    content[at + 7] &= 0xFE


def few_frames(content: bytearray, at: int) -> None:
    content[at + 8 : at + 12] = struct.pack(">I", 90)


def two_tags(content: bytearray, at: int) -> None:
    content[at : at + 4] = b"    "
    tag = b"ID3\x03\0\0\0\0\1\0" + bytes(128)
    content[:0] = tag + tag


def joined(content: bytearray) -> None:
    content.extend(bytes(content))


DURATION = b"\x44\x89\x88"  # Matroska's, a float of eight bytes
ASF = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
BYTES = RATE * 4
# Kind: how to make it, whether its length differs from the claim, and its length.
LENGTHS: dict[str, tuple[Make, bool, float]] = {
    "FLAC whose header counts too few samples": (snd("FLAC", flac_total), True, SECONDS),
    "WAV whose header counts too few bytes": (snd("WAV", put(b"data", 4, "<I", 3 * BYTES)), True, SECONDS),
    "RF64 whose header counts too few bytes": (snd("RF64", put(b"ds64", 16, "<Q", 3 * BYTES)), True, SECONDS),
    "AIFF whose header counts too few bytes": (snd("AIFF", put(b"SSND", 4, ">I", 3 * BYTES + 8)), True, SECONDS),
    "CAF whose header counts too few bytes": (snd("CAF", put(b"data", 4, ">q", 3 * BYTES), "PCM_16"), True, SECONDS),
    "AU whose header counts too few bytes": (snd("AU", put(b".snd", 8, ">I", 3 * BYTES), "PCM_16"), True, SECONDS),
    "WAV followed by zeros": (snd("WAV", lambda content: content.extend(bytes(1 << 20))), False, SECONDS),
    "MP3 whose Xing header counts no frames": (ff("libmp3lame", "mp3", xing(zero_frames), q="4"), False, SECONDS),
    "MP3 whose Xing header has no frame count": (ff("libmp3lame", "mp3", xing(no_frame_count), q="4"), False, SECONDS),
    "MP3 whose Xing header counts too few frames": (ff("libmp3lame", "mp3", xing(few_frames)), True, SECONDS),
    "MP3 without a Xing header behind two ID3 tags": (ff("libmp3lame", "mp3", xing(two_tags)), False, SECONDS),
    "MP3 followed by another MP3": (ff("libmp3lame", "mp3", joined), True, 2 * SECONDS),
    "Matroska whose header claims too little": (ff("aac", "matroska", put(DURATION, 3, ">d", 3e3)), True, SECONDS),
    "ASF (WMA) whose header claims too little": (ff("wmav2", "asf", put(ASF, 64, "<Q", 61_000_000)), True, SECONDS),
    "MP4 whose header claims too little": (ff("aac", "ipod", put(b"mdhd", 20, ">I", 3 * RATE)), True, SECONDS),
}  # fmt: skip


@pytest.mark.parametrize("kind", LENGTHS)
def test_all_sound_is_heard_whatever_the_header_claims(kind: str, tmp_path: Path) -> None:
    make, differs, seconds = LENGTHS[kind]
    path = make(tmp_path / "odd")
    for plan in PLANS:
        facts, loud, _ = heard(path, plan)
        assert facts.status == "ok", (plan, facts)
        assert facts.duration_s == pytest.approx(seconds, abs=0.15), plan
        assert ("duration_mismatch" in facts.warnings) == differs, (plan, facts)
        assert loud >= 2


def test_a_size_of_32_bits_that_wrapped_around(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "long.wav", music(1.0, RATE))
    os.truncate(path, path.stat().st_size + 2**32)
    with io.FileIO(path) as file:
        patch = longer_data(file)
    assert patch is not None
    assert patch[1] == b"\xff\xff\xff\xff"


def two_streams(path: Path, video: bool) -> Path:
    """A Matroska file whose second stream is three times as long."""
    with av.open(str(path), "w", format="matroska") as output:
        sound = music(8.0, 48000)
        first = output.add_stream("libopus", rate=48000, layout="stereo")
        second = output.add_stream("mjpeg", rate=1) if video else output.add_stream("flac", rate=48000, layout="stereo")
        if video:
            second.width, second.height, second.pix_fmt = 64, 64, "yuvj420p"
        for stream, times in ((first, 1), (second, 3)):
            if stream is second and video:
                for second_s in range(24):
                    image = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), dtype=np.uint8), format="rgb24")
                    picture = image.reformat(format="yuvj420p")
                    picture.pts = second_s
                    output.mux(stream.encode(picture))
            else:
                whole = np.ascontiguousarray(np.tile(sound, (times, 1)).T)
                frame = av.AudioFrame.from_ndarray(whole, format="fltp", layout="stereo")
                frame.sample_rate, frame.pts = 48000, 0
                resampler = av.AudioResampler(stream.format, "stereo", 48000, frame_size=stream.frame_size or 1024)
                for piece in [*resampler.resample(frame), *resampler.resample(None)]:
                    output.mux(stream.encode(piece))
            output.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("video", [True, False])
def test_the_longest_stream_is_not_the_length_of_the_sound(video: bool, tmp_path: Path) -> None:
    path = two_streams(tmp_path / "two.mkv", video)
    found = [heard(path, plan)[0] for plan in PLANS]
    assert {facts.status for facts in found} == {"ok"}
    assert {round(facts.duration_s) for facts in found} in ({8}, {24})  # FFmpeg chooses the stream
    assert not video or round(found[0].duration_s) == 8


def test_a_stream_that_starts_late_is_as_long_as_its_sound(tmp_path: Path) -> None:
    path = tmp_path / "late.webm"
    with av.open(str(path), "w", format="webm") as output:
        stream = output.add_stream("libopus", rate=48000, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(music(8.0, 48000).T), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = 48000, 0
        resampler = av.AudioResampler(stream.format, "stereo", 48000, frame_size=960)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            piece.pts = (piece.pts or 0) + 600 * 48000
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    for plan in PLANS:
        facts, _, _ = heard(path, plan)
        assert (facts.status, facts.warnings) == ("ok", ())
        assert facts.duration_s == pytest.approx(8.0, abs=0.1)


@pytest.mark.parametrize(("suffix", "rate"), [("ogg", 22050), ("opus", 48000)])
def test_ogg_that_begins_late_is_as_long_as_its_sound(suffix: str, rate: int, tmp_path: Path) -> None:
    path = write_sound(tmp_path / f"late.{suffix}", music(7.0, rate, 1), rate)
    content, at = bytearray(path.read_bytes()), 0
    while at < len(content):
        end = at + 27 + content[at + 26] + sum(content[at + 27 : at + 27 + content[at + 26]])
        time = struct.unpack_from("<q", content, at + 6)[0]
        if time > 0:
            struct.pack_into("<q", content, at + 6, time + 600 * rate)
            content[at + 22 : at + 26] = bytes(4)
            struct.pack_into("<I", content, at + 22, ogg_checksum(content[at:end]))
        at = end
    path.write_bytes(content)
    for plan in PLANS:
        facts, _, _ = heard(path, plan)
        assert facts.status == "ok"
        assert facts.duration_s == pytest.approx(7.0, abs=0.1)
        assert "dated late" in (facts.error or "")


@pytest.mark.parametrize(("rate", "channels"), [(22050, 2), (44100, 1)])
def test_chained_ogg_of_two_rates_or_layouts_is_heard_in_full(rate: int, channels: int, tmp_path: Path) -> None:
    first = write_sound(tmp_path / "first.ogg", music(6.0, RATE, 2), RATE).read_bytes()
    second = write_sound(tmp_path / "second.ogg", music(6.0, rate, channels, seed=2), rate)
    path = tmp_path / "both.ogg"
    path.write_bytes(first + second.read_bytes())
    for plan in PLANS:
        facts, _, _ = heard(path, plan)
        assert facts.status == "ok"
        assert facts.duration_s == pytest.approx(12.0, abs=0.1)
        assert "2 streams" in (facts.error or "")
    whole, alone = (read_mono(os.fsencode(p), 22050) for p in (path, second))
    n = 22050 * 5
    spectra = [np.abs(np.fft.rfft(sound[-n:] * np.hanning(n))) for sound in (whole, alone)]
    assert np.corrcoef(*spectra)[0, 1] > 0.9  # at its own pitch


# --- Damage ---------------------------------------------------------------------------------------


def bit(content: bytearray) -> None:
    content[len(content) // 2] ^= 0x10


def bit_of_a_frame_header(number: int) -> Callable[[bytearray], None]:
    """Flips a bit of the header of an MP3 frame in the middle."""

    def change(content: bytearray) -> None:
        header = content[content.rindex(b"\xff\xfb") :][:3]
        header[2] &= 0xFC  # without the padding bit, which varies
        at = len(content) // 2
        while content[at : at + 2] != header[:2] or content[at + 2] & 0xFC != header[2]:
            at += 1
        content[at + number // 8] ^= 0x80 >> number % 8

    return change


def zeros(content: bytearray) -> None:
    middle = len(content) // 2
    content[middle : middle + 12_000] = bytes(12_000)


def more_zeros(content: bytearray) -> None:
    middle = len(content) // 2
    content[middle:middle] = bytes(5000)


DAMAGED: dict[str, Make] = {
    "FLAC with a flipped bit": snd("FLAC", bit),
    "FLAC with zeros in it": snd("FLAC", zeros),
    "FLAC with zeros between its frames": snd("FLAC", more_zeros),
    "MP3 with a flipped bit in a frame header": ff("libmp3lame", "mp3", bit_of_a_frame_header(9)),
    "MP3 with zeros in it": ff("libmp3lame", "mp3", zeros),
    "MP3 with zeros between its frames": ff("libmp3lame", "mp3", more_zeros),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_one_damaged_spot_does_not_end_the_file(kind: str, tmp_path: Path) -> None:
    assert_heard_in_spite_of_damage(DAMAGED[kind](tmp_path / "damaged"))


@pytest.mark.parametrize("number", [12, 16, 20], ids=["version", "bit rate", "sample rate"])
def test_a_flipped_bit_of_any_field_of_an_mp3_frame_header(number: int, tmp_path: Path) -> None:
    assert_heard_in_spite_of_damage(ff("libmp3lame", "mp3", bit_of_a_frame_header(number))(tmp_path / "damaged"))


def assert_heard_in_spite_of_damage(path: Path) -> None:
    for plan in PLANS:
        facts, loud, _ = heard(path, plan)
        assert facts.status == "ok", (plan, facts)
        assert facts.duration_s == pytest.approx(SECONDS, abs=0.2)
        assert loud >= 2
    assert "damaged" in facts.warnings  # all windows were read
    assert "skipped" in (facts.error or "")
    end = read_mono(os.fsencode(path), 22050)[-22050:]
    assert np.abs(end).max() > 0.05


def test_an_mp3_that_changes_from_stereo_to_mono_is_heard_in_full(tmp_path: Path) -> None:
    def count_both(content: bytearray, at: int) -> None:
        frames, size = struct.unpack_from(">II", content, at + 8)
        struct.pack_into(">II", content, at + 8, 2 * frames, 2 * size)

    path = ff("libmp3lame", "mp3", xing(count_both))(tmp_path / "both.mp3")
    mono = encode(tmp_path / "mono.mp3", music(SECONDS, RATE, 1), RATE, "libmp3lame", "mp3", bit_rate=128_000)
    path.write_bytes(path.read_bytes() + mono.read_bytes()[200:])
    for plan in PLANS:
        facts, _, _ = heard(path, plan)
        assert facts.status == "ok", facts
        assert facts.duration_s == pytest.approx(2 * SECONDS, abs=0.3)


@pytest.mark.parametrize("kind", ["M4A", "FLAC", "MP3"])
def test_a_file_of_which_almost_nothing_is_left_is_unreadable_not_silent(kind: str, tmp_path: Path) -> None:
    sound = music(12.0, RATE, 2)
    if kind == "M4A":
        path, last = encode(tmp_path / "lost.m4a", sound, RATE, "aac", "ipod"), 0.9
    else:
        path, last = write_sound(tmp_path / f"lost.{kind.lower()}", sound, RATE), 0.99
    content = bytearray(path.read_bytes())
    first, end = round(0.02 * len(content)), round(last * len(content))
    content[first:end] = bytes(end - first)
    path.write_bytes(content)
    refused = refusal(path)
    assert refused.status == "unreadable"
    assert re.match(r"only 0\.\d\d s of its 12\.\d s of sound could be decoded", str(refused))


def test_a_file_that_ends_early_is_truncated_and_not_damaged(tmp_path: Path) -> None:
    for make in (snd("FLAC", bytes), ff("libmp3lame", "mp3", bytes)):
        path = make(tmp_path / "half")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        for plan in PLANS:
            facts, _, _ = heard(path, plan)
            assert facts.status == "truncated"
            assert facts.duration_s == pytest.approx(SECONDS / 2, abs=1.0)
            assert "damaged" not in facts.warnings


# --- What is no sound, and what is ----------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind"), [(b"enca", "CENC"), (b"drms", "FairPlay"), (b"aavd", "Audible")])
@pytest.mark.parametrize("codec", ["aac", "alac"])
def test_encrypted_mp4_is_refused_by_name(name: bytes, kind: str, codec: str, tmp_path: Path) -> None:
    path = ff(codec, "ipod", bytes)(tmp_path / "x.m4a")
    content = bytearray(path.read_bytes())
    at = content.index(b"stsd") + 16
    content[at : at + 4] = name
    path.write_bytes(content)
    error = refusal(path)
    assert error.status == "unsupported"
    assert f"encrypted ({kind})" in str(error)


def test_other_encrypted_containers_are_refused_by_name() -> None:
    def element(name: str, content: bytes) -> bytes:
        return bytes.fromhex(name) + (len(content) | 1 << 56).to_bytes(8, "big") + content

    encrypted = element("6d80", element("6240", element("5035", b"")))
    track = element("ae", element("83", b"\x02") + encrypted)
    matroska = element("1a45dfa3", b"") + element("18538067", element("1654ae6b", track))
    asf = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + struct.pack("<Q", 400) + bytes(50)
    asf += bytes.fromhex("14e68a292226174cb935dae07ee9289c") + bytes(400)
    stream = (b"G\x01\x00\xd0" + bytes(184)) * 20
    for content, kind in ((matroska, "Matroska"), (asf, "Windows Media"), (stream, "scrambled")):
        with pytest.raises(AudioError, match=f"encrypted .*{kind}"):
            refuse_encrypted(io.BytesIO(content))  # type: ignore[arg-type]
    clear = element("1a45dfa3", b"") + element("18538067", element("1654ae6b", element("ae", element("83", b"\x02"))))
    refuse_encrypted(io.BytesIO(clear))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def bursts(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """AC-3 in bursts, as a disc player gives it to an amplifier: int16 [n, 2]."""
    path = encode(tmp_path_factory.mktemp("iec") / "x", music(7.0, 48000), 48000, "ac3", "spdif")
    words = np.frombuffer(path.read_bytes(), dtype="<i2")
    return words[: len(words) // 2 * 2].reshape(-1, 2)


def test_a_bitstream_in_a_wav_is_decoded(bursts: np.ndarray, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", bursts, 48000)
    for plan in PLANS:
        facts, loud, _ = heard(tmp_path / "x.wav", plan)
        assert (facts.status, facts.codec) == ("ok", "ac3")
        assert facts.duration_s == pytest.approx(7.0, abs=0.1)
        assert loud


@pytest.mark.parametrize("suffix", ["flac", "aiff"])
def test_a_bitstream_that_cannot_be_decoded_is_refused_by_name(suffix: str, bursts: np.ndarray, tmp_path: Path) -> None:
    late = np.concatenate([np.zeros((100_000, 2), dtype=np.int16), bursts])
    soundfile.write(tmp_path / f"x.{suffix}", late, 48000)
    error = refusal(tmp_path / f"x.{suffix}")
    assert error.status == "unsupported"
    assert "AC-3 in PCM" in str(error)


def test_loud_samples_are_no_bitstream() -> None:
    rng = np.random.default_rng(0)
    left = np.clip(rng.standard_normal(20_000) * 3, -1, 1).astype(np.float32)
    for right in (left, -left, rng.permutation(left)):
        assert bitstream_in(np.stack([left, right], axis=1)) is None


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "m4a", "ogg"])
def test_channels_out_of_phase_are_heard(kind: str, tmp_path: Path) -> None:
    left = SOUND[:, :1]
    path, sound = tmp_path / f"x.{kind}", np.concatenate([left, -left], axis=1)
    if kind == "m4a":
        encode(path, sound, RATE, "aac", "ipod")
    else:
        write_sound(path, sound, RATE)
    wanted = float(np.abs(left).max())
    for plan in PLANS:
        facts, loud, peak = heard(path, plan)
        assert facts.status == "ok"
        assert loud >= 2
        assert peak == pytest.approx(wanted, rel=0.4)


@pytest.mark.parametrize("channels", [2, 6])
def test_channels_that_do_not_cancel_give_their_mean_to_the_bit(channels: int) -> None:
    block = np.stack([music(2.0, RATE, 1, seed=k)[:, 0] for k in range(channels)], axis=1)
    mean = block @ np.full(channels, 1 / channels, dtype=np.float32)
    np.testing.assert_array_equal(Downmix(channels).mono(block), mean)


def test_silence_is_judged_on_the_channels(tmp_path: Path) -> None:
    """One channel just over -60 dBFS and the other silent: their mean is under it."""
    tone = 0.0015 * np.sin(2 * np.pi * 440 * np.arange(7 * RATE) / RATE)
    path = tmp_path / "quiet.wav"
    soundfile.write(path, np.stack([tone, 0 * tone], axis=1), RATE, subtype="PCM_24")
    assert [heard(path, plan)[1] for plan in PLANS] == [2, 1, 1]
    soundfile.write(path, 0.6 * np.stack([tone, 0 * tone], axis=1), RATE, subtype="PCM_24")
    assert [heard(path, plan)[1] for plan in PLANS] == [0, 0, 0]


@pytest.mark.parametrize(
    ("codec", "container"),
    [
        ("wavpack", "wv"), ("tta", "tta"), ("flac", "matroska"), ("wmav2", "asf"), ("pcm_s16be", "caf"),
        ("pcm_s16be", "au"), ("aac", "ipod"), ("flac", "flac"), ("pcm_s16le", "wav"), ("flac", "ogg"),
    ],
)  # fmt: skip
def test_id3_tags_before_any_format_are_skipped(codec: str, container: str, tmp_path: Path) -> None:
    path = encode(tmp_path / "x", music(6.0), RATE, codec, container, bit_rate=128_000)
    tag = b"ID3\x03\0\0\0\0\x27\x10" + bytes(0x27 * 128 + 0x10)
    path.write_bytes(tag + tag + path.read_bytes())
    for plan in PLANS:
        facts, loud, _ = heard(path, plan)
        assert facts.status == "ok"
        assert facts.duration_s == pytest.approx(6.0, abs=0.1)
        assert loud


def test_dsd512_is_read(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 256, 4096 * 1000, dtype=np.uint8).tobytes()
    path = tmp_path / "x.dsf"
    head = struct.pack("<4sQQQ", b"DSD ", 28, 92 + len(data), 0)
    head += struct.pack("<4sQIIIIIIQII", b"fmt ", 52, 1, 0, 1, 1, 22_579_200, 1, 8 * len(data), 4096, 0)
    path.write_bytes(head + struct.pack("<4sQ", b"data", 12 + len(data)) + data)
    facts, _, _ = heard(path, "12")
    assert (facts.status, facts.sample_rate) == ("ok", 2_822_400)


def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    path = encode(tmp_path / "x.m4a", music(6.0), RATE, "aac", "ipod")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    error = refusal(path)
    assert (error.status, "index of this MP4" in str(error)) == ("unreadable", True)
    path.write_bytes(b"fLaC" + bytes(5000))
    error = refusal(path)
    assert (error.status, "begins like FLAC" in str(error)) == ("unreadable", True)
    path.write_bytes(b"Dear Sir or Madam,\n" * 50)
    assert refusal(path).status == "unsupported"


def test_every_name_that_the_decoders_write_is_an_audio_file_name() -> None:
    asked = ["3g2", "3gp", "caf", "w64", "rf64", "mka", "oga", "spx", "tta", "ape", "wv", "dff", "au"]
    written = [
        "wav",
        "flac",
        "ogg",
        "opus",
        "mp3",
        "aiff",
        "m4a",
        "wma",
        "amr",
        "ac3",
        "eac3",
        "mp2",
        "voc",
        "aac",
        "dts",
    ]
    assert {*asked, *written} <= AUDIO_SUFFIXES


def test_every_kind_is_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs/reliability.md").read_text(encoding="utf-8")
    assert [kind for kind in [*LENGTHS, *DAMAGED] if f"| {kind} |" not in page] == []
