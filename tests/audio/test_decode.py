"""Decoding: every format that can be written here, by content, forwards, in bounded memory."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import soxr
from sounds import encode
from synthesis import music
from tag_files import ogg_checksum

from sonicscan.audio.decode import Window, read_mono, read_windows
from sonicscan.audio.facts import AudioFacts
from sonicscan.audio.ffmpeg import AvSource
from sonicscan.audio.libsndfile import SndfileSource
from sonicscan.audio.sources import open_source
from sonicscan.audio.windows import WindowPlan
from sonicscan.cli.demo import write_sound
from sonicscan.errors import AudioError
from sonicscan.spec import AudioSpec

SPEC = AudioSpec()
LENGTH = SPEC.window_samples
SECONDS = 6.5
XING = (b"Xing", b"Info")


def windows_of(path: Path, count: int | None = 12, spec: AudioSpec = SPEC) -> tuple[list[Window], AudioFacts]:
    windows = []
    reader = read_windows(os.fsencode(path), spec, WindowPlan.of(count))
    while True:
        try:
            windows.append(next(reader))
        except StopIteration as end:
            return windows, end.value


def refusal(path: Path) -> AudioError:
    with pytest.raises(AudioError) as refused:
        windows_of(path)
    return refused.value


def likeness(heard: np.ndarray, wanted: np.ndarray) -> float:
    """Highest correlation over shifts of up to 100 ms, which encoders' delays are."""
    n = min(len(heard), len(wanted))
    size = 2 ** (2 * n - 1).bit_length()
    product = np.fft.irfft(np.fft.rfft(heard[:n], size) * np.conj(np.fft.rfft(wanted[:n], size)))
    return float(np.r_[product[:2205], product[-2205:]].max() / np.linalg.norm(heard[:n]) / np.linalg.norm(wanted[:n]))


def mono(sound: np.ndarray, rate: int) -> np.ndarray:
    return soxr.resample(sound.mean(axis=1), rate, SPEC.sample_rate, quality="HQ")


# --- Formats -------------------------------------------------------------------------------------

SNDFILE = {
    "16.wav": ("WAV", "PCM_16"),
    "8.wav": ("WAV", "PCM_U8"),
    "24.wav": ("WAV", "PCM_24"),
    "32.wav": ("WAV", "PCM_32"),
    "float.wav": ("WAV", "FLOAT"),
    "double.wav": ("WAV", "DOUBLE"),
    "ulaw.wav": ("WAV", "ULAW"),
    "adpcm.wav": ("WAV", "IMA_ADPCM"),
    "gsm.wav": ("WAV", "GSM610"),
    "extensible.wav": ("WAVEX", "PCM_24"),
    "rf64.wav": ("RF64", "PCM_16"),
    "w64.w64": ("W64", "PCM_16"),
    "16.flac": ("FLAC", "PCM_16"),
    "24.flac": ("FLAC", "PCM_24"),
    "8.flac": ("FLAC", "PCM_S8"),
    "vorbis.ogg": ("OGG", "VORBIS"),
    "mp3.mp3": ("MP3", "MPEG_LAYER_III"),
    "aiff.aiff": ("AIFF", "PCM_16"),
    "caf.caf": ("CAF", "PCM_24"),
    "alac.caf": ("CAF", "ALAC_16"),
    "au.au": ("AU", "PCM_16"),
    "voc.voc": ("VOC", "PCM_16"),
    "ircam.sf": ("IRCAM", "PCM_16"),
}
FFMPEG = {
    "aac.m4a": ("aac", "ipod", 44100),
    "alac.m4a": ("alac", "ipod", 44100),
    "aac.aac": ("aac", "adts", 44100),
    "latm.loas": ("aac", "latm", 44100),
    "wma2.wma": ("wmav2", "asf", 44100),
    "wma1.wma": ("wmav1", "asf", 44100),
    "wavpack.wv": ("wavpack", "wv", 44100),
    "tta.tta": ("tta", "tta", 44100),
    "ac3.ac3": ("ac3", "ac3", 44100),
    "eac3.eac3": ("eac3", "eac3", 44100),
    "mp2.mp2": ("mp2", "mp2", 44100),
    "flac.mka": ("flac", "matroska", 44100),
    "aac.mka": ("aac", "matroska", 44100),
    "opus.webm": ("libopus", "webm", 48000),
    "opus.opus": ("libopus", "ogg", 48000),
    "flac.ogg": ("flac", "ogg", 44100),
    "mp3.wav": ("libmp3lame", "wav", 44100),
    "ac3.wav": ("ac3", "wav", 44100),
    "mp3.avi": ("libmp3lame", "avi", 44100),
    "aac.flv": ("aac", "flv", 44100),
    "aac.ts": ("aac", "mpegts", 44100),
    "aac.mp4": ("aac", "mp4", 44100),
    "mp3.mp4": ("libmp3lame", "mp4", 44100),
    "opus.mp4": ("libopus", "mp4", 48000),
    "flac.mp4": ("flac", "mp4", 44100),
    "ac3.rm": ("ac3", "rm", 44100),
    "amr.amr": ("libopencore_amrnb", "amr", 8000),
    "g722.wav": ("g722", "wav", 16000),
}
# Speech codecs, and those that are built to be small, keep less of the wave.
ROUGH = {"amr.amr": 0.5, "gsm.wav": 0.7, "g722.wav": 0.9}


@pytest.fixture(scope="module")
def formats(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, np.ndarray]]:
    """Writes a format by name, once, under a name without a suffix; gives path and mono original."""
    folder = tmp_path_factory.mktemp("formats")

    def make(name: str) -> tuple[Path, np.ndarray]:
        path = folder / (name.replace(".", "_") + ".txt")  # the content decides, never the name
        rate = FFMPEG[name][2] if name in FFMPEG else 44100
        channels = 1 if rate < 44100 or name == "gsm.wav" else 2
        sound = music(SECONDS, rate, channels)
        if not path.exists():
            if name in FFMPEG:
                codec, container, _ = FFMPEG[name]
                encode(path, sound, rate, codec, container, bit_rate=128_000 if "wma" in name else None)
            else:
                container, subtype = SNDFILE[name]
                soundfile.write(path, sound, rate, format=container, subtype=subtype)
        return path, mono(sound, rate)

    return make


@pytest.mark.parametrize("name", [*SNDFILE, *FFMPEG])
def test_every_format_is_decoded_whatever_its_name(
    name: str, formats: Callable[[str], tuple[Path, np.ndarray]]
) -> None:
    path, original = formats(name)
    windows, facts = windows_of(path)
    assert facts.status == "ok"
    assert facts.error is None
    assert facts.duration_s == pytest.approx(SECONDS, abs=0.15)
    assert facts.codec == facts.codec.lower() != ""
    assert "duration_mismatch" not in facts.warnings
    assert [w.start_s for w in windows] == pytest.approx([0.0, facts.duration_s - SPEC.window_s], abs=1e-3)
    assert all(w.samples.shape == (LENGTH,) and w.samples.dtype == np.float32 for w in windows)
    assert likeness(windows[0].samples, original) > ROUGH.get(name, 0.98)


@pytest.mark.parametrize("name", [*SNDFILE, *FFMPEG])
def test_half_a_file_is_never_ok_with_sound_that_is_not_there(
    name: str, formats: Callable[[str], tuple[Path, np.ndarray]], tmp_path: Path
) -> None:
    """Cut in the middle: `truncated` where the format says its length, never more sound than there is."""
    whole, _ = formats(name)
    path = tmp_path / "half"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    try:
        windows, facts = windows_of(path)
    except AudioError as error:
        # An MP4 whose index is at its end has no sound without it; an AVI's pieces may be too large.
        assert name.endswith((".m4a", ".mp4", ".caf")), error
        assert error.status in ("unsupported", "unreadable")
        return
    assert facts.duration_s < 0.7 * SECONDS
    assert facts.status in ("ok", "truncated")
    assert (facts.error is None) == (facts.status == "ok" and "damaged" not in facts.warnings)
    if name.endswith((".wav", ".flac", ".mp3", ".w64", ".aiff", ".au", ".tta", ".wv")) and name not in NO_CLAIM:
        assert facts.status == "truncated"
    assert len(windows) == 1
    assert np.abs(windows[0].samples).max() > 0.01


# Block codecs in WAV: libsndfile does not report missing blocks, nor missing chunks of RF64.
NO_CLAIM = {"adpcm.wav", "gsm.wav", "rf64.wav", "mp3.wav", "ac3.wav", "g722.wav"}


BY_FFMPEG = {
    "aac.m4a": ("aac", "ipod"),
    "alac.m4a": ("alac", "ipod"),
    "flac.mp4": ("flac", "mp4"),
    "mp3.mp4": ("libmp3lame", "mp4"),
    "opus.mp4": ("libopus", "mp4"),
    "opus.opus": ("libopus", "ogg"),
    "opus.webm": ("libopus", "webm"),
    "aac.mka": ("aac", "matroska"),
    "flac.mka": ("flac", "matroska"),
    "wma2.wma": ("wmav2", "asf"),
    "wavpack.wv": ("wavpack", "wv"),
    "aac.aac": ("aac", "adts"),
    "aac.loas": ("aac", "latm"),
}
READ_WHOLE = {"opus.opus", "aac.aac", "aac.loas"}  # places are found by halving, or by counting frames
BY_TIMES = {"aac.m4a", "alac.m4a", "flac.mp4", "mp3.mp4", "opus.mp4", "opus.webm", "aac.mka", "flac.mka", "wma2.wma"}
JUMPED = READ_WHOLE | BY_TIMES


@pytest.fixture(scope="module")
def long_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Writes 95 seconds, once: `mp3`, `flac` ..., or one of `BY_FFMPEG`."""
    folder = tmp_path_factory.mktemp("long")
    sounds = {rate: music(95.0, rate, seed=3) for rate in (44100, 48000)}

    def make(kind: str) -> Path:
        path, rate = folder / f"long.{kind}", 48000 if "opus" in kind else 44100
        if path.exists():
            return path
        if kind not in BY_FFMPEG:
            return write_sound(path, sounds[rate], rate)
        # AAC without the noise that a decoder draws for itself
        options = {"aac_pns": "0"} if kind.startswith("aac") else {}
        bit_rate = 128_000 if "wma" in kind else None
        return encode(path, sounds[rate], rate, *BY_FFMPEG[kind], options=options, bit_rate=bit_rate)

    return make


@pytest.mark.parametrize("kind", ["mp3", "flac", "ogg", "wav", *BY_FFMPEG])
def test_forward_seeks_equal_a_full_decode(kind: str, long_file: Callable[[str], Path]) -> None:
    path = long_file(kind)
    windows, facts = windows_of(path, 5)
    whole = read_mono(os.fsencode(path), SPEC.sample_rate)
    assert [w.start_s for w in windows] == pytest.approx(
        [k * (facts.duration_s - SPEC.window_s) / 4 for k in range(5)], abs=0.01
    )
    for window in windows:
        start = round(window.start_s * SPEC.sample_rate)
        expected = whole[start : start + LENGTH]
        assert np.abs(window.samples[: len(expected)] - expected).max() <= 2e-4


class CountedFile(io.FileIO):
    """Adds up the bytes that are read."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(size)
        self.count += len(content)
        return content


class CountedSource(AvSource):
    """Adds up the samples that are decoded."""

    decoded = 0

    def _mono(self, frame: av.AudioFrame) -> np.ndarray:
        self.decoded += frame.samples
        return super()._mono(frame)


@pytest.mark.parametrize("kind", BY_FFMPEG)
def test_seeks_jump_where_the_container_tells_the_sample(kind: str, long_file: Callable[[str], Path]) -> None:
    path = long_file(kind)
    file = CountedFile(path)
    with contextlib.closing(CountedSource(file)) as source:
        rate = source.sample_rate
        whole = read_mono(os.fsencode(path), rate)
        for second in (0, 1, 45, 46, 93):
            source.seek(second * rate)
            heard = source.read(rate)
            assert np.abs(heard - whole[second * rate : (second + 1) * rate]).max() <= 2e-4, second
        assert (source.decoded < 0.2 * len(whole)) == (kind in JUMPED)
        if kind not in READ_WHOLE:
            assert (file.count < 0.5 * path.stat().st_size) == (kind in JUMPED)
        source.seek(200 * rate)
        assert len(source.read(1000)) == 0


@pytest.mark.parametrize("ahead", [-24, 312])
def test_opus_that_was_copied_into_ogg_with_rounded_times_is_jumped_in(
    ahead: int, long_file: Callable[[str], Path], tmp_path: Path
) -> None:
    copy = tmp_path / "copy.opus"
    with av.open(str(long_file("opus.opus"))) as file, av.open(str(copy), "w", format="ogg") as output:
        stream = output.add_stream_from_template(file.streams.audio[0])
        for packet in file.demux(audio=0):
            if packet.pts is not None:
                packet.stream, packet.pts, packet.dts = stream, packet.pts + ahead, packet.pts + ahead
                output.mux(packet)
    whole = read_mono(os.fsencode(copy), 48000)
    with contextlib.closing(CountedSource(io.FileIO(copy))) as source:
        for second in (1, 45, 93):
            source.seek(second * 48000)
            assert np.abs(source.read(48000) - whole[second * 48000 : (second + 1) * 48000]).max() <= 2e-4, second
        assert source.decoded < 0.2 * len(whole)


@pytest.mark.parametrize("codec", ["aac", "alac"])
def test_half_an_mp4_with_its_index_in_front_is_truncated(codec: str, tmp_path: Path) -> None:
    """After a jump behind the real end, decoding starts again from the beginning and finds the real length."""
    sound = music(95.0, seed=3)
    path = encode(tmp_path / "x.m4a", sound, 44100, codec, "ipod", container_options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    windows, facts = windows_of(path, 6)
    assert facts.status == "truncated"
    assert 40 < facts.duration_s < 55
    assert len(windows) == 6
    assert all(likeness(w.samples, mono(sound, 44100)[round(w.start_s * 22050) :][:LENGTH]) > 0.98 for w in windows)


@pytest.mark.parametrize("rate", [48000, 32000, 22050, 16000, 44101, 96000])
def test_seeks_are_exact_at_every_sample_rate(rate: int, tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, music(40.0, rate, 1, seed=4), rate, subtype="FLOAT")
    whole = read_mono(os.fsencode(path), SPEC.sample_rate)
    windows, facts = windows_of(path, 4)
    assert facts.sample_rate == rate
    for window in windows:
        start = round(window.start_s * SPEC.sample_rate)
        assert np.abs(window.samples - np.resize(whole[start : start + LENGTH], LENGTH)).max() < 1e-4


@pytest.mark.parametrize(("rate", "seconds"), [(44100, 23.0), (48000, 12.1), (22050, 5.5), (8000, 16.0)])
def test_all_windows_are_consecutive_cuts_of_the_whole_track(rate: int, seconds: float, tmp_path: Path) -> None:
    sound = music(seconds, rate, 2, seed=5)
    path = tmp_path / "track.wav"
    soundfile.write(path, sound, rate, subtype="FLOAT")
    windows, facts = windows_of(path, None)
    whole = mono(sound, rate)
    assert len(windows) == len(whole) // LENGTH
    assert facts.duration_s == pytest.approx(seconds, abs=1e-4)
    for k, window in enumerate(windows):
        assert window.start_s == pytest.approx(k * SPEC.window_s)
        np.testing.assert_allclose(window.samples, whole[k * LENGTH : (k + 1) * LENGTH], atol=1e-5)


def test_many_windows_equal_few(tmp_path: Path) -> None:
    """More windows than are held back are streamed; they are the same ones."""
    path = write_sound(tmp_path / "track.wav", music(60.0, 22050, 1), 22050)
    whole = read_mono(os.fsencode(path), SPEC.sample_rate)
    for plan in (3, 12, 40):
        windows, _ = windows_of(path, plan)
        assert len(windows) == min(plan, -(-len(whole) // LENGTH))
        for window in windows:
            start = round(window.start_s * SPEC.sample_rate)
            np.testing.assert_allclose(window.samples, whole[start : start + LENGTH], atol=1e-6)


@pytest.mark.parametrize("plan", [1, 12, 100, None])
@pytest.mark.parametrize("seconds", [1.0, 2.3, 4.9])
def test_a_short_track_is_repeated_to_fill_a_window(seconds: float, plan: int | None, tmp_path: Path) -> None:
    sound = music(seconds, 22050, 1)
    path = tmp_path / "short.wav"
    soundfile.write(path, sound, 22050, subtype="FLOAT")
    windows, facts = windows_of(path, plan)
    assert facts.status == "ok"
    assert "short" in facts.warnings
    assert [w.start_s for w in windows] == [0.0]
    np.testing.assert_allclose(windows[0].samples, np.resize(sound[:, 0], LENGTH), atol=1e-6)


@pytest.mark.parametrize("plan", [1, 12, 100, None])
@pytest.mark.parametrize("seconds", [0.001, 0.3, 0.99])
def test_under_a_second_is_too_short(seconds: float, plan: int | None, tmp_path: Path) -> None:
    for suffix in ("wav", "flac", "mp3"):
        windows, facts = windows_of(write_sound(tmp_path / f"clip.{suffix}", music(seconds, 22050, 1), 22050), plan)
        assert windows == []
        assert facts.status == "too_short"
        assert "at least 1 s" in (facts.error or "")


@pytest.mark.parametrize("plan", [1, 12, None])
@pytest.mark.parametrize(("rate", "frames"), [(44100, 44099), (44100, 44098), (48000, 47999), (22051, 22050)])
def test_a_track_of_almost_a_second_is_either_scored_or_too_short(
    rate: int, frames: int, plan: int | None, tmp_path: Path
) -> None:
    """Resampling rounds its length; status and windows must not contradict each other."""
    path = tmp_path / "almost.wav"
    soundfile.write(path, music(2.0, rate, 2)[:frames], rate)
    windows, facts = windows_of(path, plan)
    assert (facts.status == "ok") == (len(windows) == 1)


# --- Wrong lengths -----------------------------------------------------------------------------


def claimed_by(header: bytes, size: int) -> bytes:
    """A WAV whose data chunk claims `size` bytes."""
    at = header.index(b"data") + 4
    return header[:at] + struct.pack("<I", size) + header[at + 4 :]


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFF000, 0x7FFFFFFF, 0x7FFFF000, 0x80000000])
def test_a_streamed_wav_is_as_long_as_it_is(size: int, tmp_path: Path) -> None:
    path = write_sound(tmp_path / "streamed.wav", music(8.0))
    path.write_bytes(claimed_by(path.read_bytes(), size))
    windows, facts = windows_of(path)
    assert (facts.status, facts.warnings) == ("ok", ())
    assert facts.duration_s == pytest.approx(8.0, abs=0.01)
    assert len(windows) == 2


def test_a_streamed_flac_is_as_long_as_it_is(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "streamed.flac", music(8.0))
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the low 36 bits of the stream's length: unknown
    content[22:26] = bytes(4)
    path.write_bytes(content)
    windows, facts = windows_of(path)
    assert facts.status == "ok"
    assert facts.duration_s == pytest.approx(8.0, abs=0.01)
    assert len(windows) == 2


@pytest.mark.parametrize("claimed", [10**6, 2**31, 2**36 - 1])
def test_a_flac_that_claims_too_much_is_truncated(claimed: int, tmp_path: Path) -> None:
    path = write_sound(tmp_path / "long.flac", music(8.0))
    content = bytearray(path.read_bytes())
    content[21] = content[21] & 0xF0 | claimed >> 32
    content[22:26] = (claimed & 0xFFFFFFFF).to_bytes(4, "big")
    path.write_bytes(content)
    windows, facts = windows_of(path)
    assert facts.status == "truncated"
    assert facts.duration_s == pytest.approx(8.0, abs=0.1)
    assert len(windows) == 2
    assert np.abs(windows[-1].samples[-2000:]).max() > 1e-4


@pytest.mark.parametrize("name", ["mp3", "flac", "wav"])
def test_truncated_tracks_say_what_they_claim_and_hold(name: str, tmp_path: Path) -> None:
    path = write_sound(tmp_path / f"whole.{name}", music(20.0))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10])
    windows, facts = windows_of(path)
    assert facts.status == "truncated"
    assert "claims 20.0 s" in (facts.error or "")
    assert 9.0 < facts.duration_s < 15.0
    assert len(windows) == -(-int(facts.duration_s * 1000) // 4996)
    assert windows[-1].start_s + SPEC.window_s == pytest.approx(facts.duration_s, abs=0.2)


def without_length(content: bytes) -> bytes:
    at = max(content[:600].find(tag) for tag in XING)
    assert at > 0
    return content[:at] + b"    " + content[at + 4 :]


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_vbr_mp3_without_its_header_keeps_its_length(share: float, tmp_path: Path) -> None:
    path = tmp_path / "vbr.mp3"
    quiet = 0.001 * music(10.0, seed=1)
    encode(path, np.concatenate([quiet, music(10.0)]), 44100, "libmp3lame", "mp3", options={"q": "4"})
    content = without_length(path.read_bytes())
    path.write_bytes(content[: int(len(content) * share)])
    _, facts = windows_of(path)
    whole = read_mono(os.fsencode(path), SPEC.sample_rate)
    assert facts.status == "ok"
    assert facts.duration_s == pytest.approx(len(whole) / SPEC.sample_rate, abs=0.2)
    assert facts.duration_s == pytest.approx(20.1, abs=0.2) if share == 1 else facts.duration_s > 9.0


def test_sound_whose_rate_changes_on_the_way_keeps_its_pitch(tmp_path: Path) -> None:
    """As in chained streams, and in HE-AAC (for which no encoder is available) whose rate is stated late."""
    low = encode(tmp_path / "low.aac", music(4.0, 22050), 22050, "aac", "adts").read_bytes()
    high = encode(tmp_path / "high.aac", music(4.0, 44100, seed=2), 44100, "aac", "adts").read_bytes()
    path = tmp_path / "both.aac"
    path.write_bytes(low + high)
    sound = read_mono(os.fsencode(path), SPEC.sample_rate)
    assert len(sound) / SPEC.sample_rate == pytest.approx(8.1, abs=0.2)
    later = mono(music(4.0, 44100, seed=2), 44100)
    assert likeness(sound[-len(later) :], later) > 0.9


def test_sound_whose_channels_change_on_the_way(tmp_path: Path) -> None:
    """FFmpeg's frames are joined, but never those of one layout with those of another."""
    sound = music(4.0, 44100, 1)
    one = encode(tmp_path / "one.aac", sound, 44100, "aac", "adts").read_bytes()
    both = np.concatenate([sound, np.zeros_like(sound)], axis=1)  # the mean of the channels is half as loud
    two = encode(tmp_path / "two.aac", both, 44100, "aac", "adts").read_bytes()
    path = tmp_path / "both.aac"
    path.write_bytes(one + two)
    heard = read_mono(os.fsencode(path), SPEC.sample_rate)
    expected = mono(sound, 44100)
    first, second = heard[: len(expected)], heard[-len(expected) :]
    assert likeness(first, expected) > 0.9
    assert likeness(second, expected) > 0.9
    assert np.square(second).mean() / np.square(first).mean() == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize(
    ("suffix", "rate", "channels"), [("ogg", 44100, 1), ("ogg", 44100, 2)] + [("opus", 48000, n) for n in (1, 2, 6)]
)
def test_ogg_is_the_same_read_from_start_to_end(suffix: str, rate: int, channels: int, tmp_path: Path) -> None:
    """FFmpeg reads it then, and libsndfile where it seeks better."""
    path = write_sound(tmp_path / f"song.{suffix}", music(20.0, rate, channels), rate)
    read = []
    for reader in (SndfileSource, AvSource):
        with contextlib.closing(reader(io.FileIO(path))) as source:
            codec = {"ogg": "vorbis", "opus": "opus"}[suffix]
            assert (source.codec, source.channels, source.claimed_frames) == (codec, channels, 20 * rate)
            read.append(source.read(1_000_000))
    assert len(read[0]) == 20 * rate
    np.testing.assert_allclose(read[0], read[1], atol=1e-5)
    for forwards in (False, True):
        with contextlib.closing(open_source(os.fsencode(path), forwards)) as source:
            assert isinstance(source, AvSource) == (forwards or suffix == "opus")


@pytest.mark.parametrize("noted_rate", [0, 8000, 16000, 22050, 24000, 44100, 48000, 192000])
def test_opus_is_heard_in_full_whatever_rate_its_header_notes(noted_rate: int, tmp_path: Path) -> None:
    """The header notes the rate of the encoder's input, 0 for unknown (RFC 7845, 5.1). The stream has 48 kHz."""
    path = write_sound(tmp_path / "song.opus", music(20.0, 48000), 48000)
    plain = windows_of(path, 3)
    content = bytearray(path.read_bytes())
    assert content[28:36] == b"OpusHead"
    end = content.index(b"OggS", 4)
    content[40:44] = struct.pack("<I", noted_rate)
    content[22:26] = bytes(4)
    content[22:26] = struct.pack("<I", ogg_checksum(content[:end]))
    path.write_bytes(content)
    for windows in (3, None):
        found, facts = windows_of(path, windows)
        assert (facts.status, facts.sample_rate, facts.duration_s) == ("ok", 48000, 20.0)
        if windows:
            assert facts == plain[1]
            for window, expected in zip(found, plain[0], strict=True):
                np.testing.assert_allclose(window.samples, expected.samples, atol=1e-3)


# --- What the facts say ---------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 8])
def test_channels_are_averaged(channels: int, tmp_path: Path) -> None:
    sound = np.stack([music(6.0, 22050, 1, seed=k)[:, 0] for k in range(channels)], axis=1)
    path = tmp_path / "many.wav"
    soundfile.write(path, sound, 22050, subtype="FLOAT")
    windows, facts = windows_of(path)
    assert facts.channels == channels
    np.testing.assert_allclose(windows[0].samples, sound.mean(axis=1)[:LENGTH], atol=1e-6)


@pytest.mark.parametrize("rate", [2000, 4000, 11025, 37800, 88200, 192000, 384000])
def test_odd_sample_rates(rate: int, tmp_path: Path) -> None:
    sound = music(3.0, rate, 1)
    path = tmp_path / "odd.wav"
    soundfile.write(path, sound, rate, subtype="FLOAT")
    windows, facts = windows_of(path)
    assert (facts.status, facts.sample_rate) == ("ok", rate)
    assert likeness(windows[0].samples[: int(2.9 * SPEC.sample_rate)], mono(sound, rate)) > 0.999


@pytest.mark.parametrize("rate", [1, 100, 1999, 5_644_801, 2**31 - 1])
def test_sample_rates_out_of_range_are_unsupported(rate: int, tmp_path: Path) -> None:
    path = write_sound(tmp_path / "odd.wav", music(3.0, 22050, 1), 22050)
    content = path.read_bytes()
    path.write_bytes(content[:24] + struct.pack("<I", rate) + content[28:])
    assert refusal(path).status == "unsupported"


def test_more_channels_than_make_sense_are_unsupported(tmp_path: Path) -> None:
    path = tmp_path / "wide.wav"
    soundfile.write(path, np.zeros((3000, 255), dtype=np.float32), 22050)
    assert refusal(path).status == "unsupported"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38, -3e38, 1e9])
def test_samples_that_are_no_sound_become_finite(bad: float, tmp_path: Path) -> None:
    from sonicscan.audio.melspec import LogMel

    for channels in (1, 2):
        sound = music(12.0, 22050, channels)
        sound[50_000:60_000:7] = bad
        path = tmp_path / "bad.wav"
        soundfile.write(path, sound, 22050, subtype="FLOAT")
        windows, facts = windows_of(path)
        assert facts.status == "ok"
        assert "clipped" in facts.warnings
        assert facts.bandwidth_hz is None or np.isfinite(facts.bandwidth_hz)
        for window in windows:
            assert np.isfinite(LogMel(SPEC)(window.samples)).all()
        np.testing.assert_allclose(windows[-1].samples, sound[-LENGTH:].mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("plan", [12, None])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("channels", [2, 6])
def test_a_channel_without_numbers_does_not_silence_the_others(
    channels: int, bad: float, plan: int | None, tmp_path: Path
) -> None:
    sound = music(12.0, 22050, channels)
    wanted = sound.copy()
    sound[:, 1], wanted[:, 1] = bad, 0.0
    path = tmp_path / "half.wav"
    soundfile.write(path, sound, 22050, subtype="FLOAT")
    windows, facts = windows_of(path, plan)
    assert facts.status == "ok" and not any(window.silent for window in windows)
    np.testing.assert_allclose(windows[0].samples, wanted[:LENGTH].mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e9])
def test_one_bad_sample_is_no_clipping(bad: float, tmp_path: Path) -> None:
    sound = music(12.0, 22050)
    sound[50_000] = bad
    soundfile.write(tmp_path / "one.wav", sound, 22050, subtype="FLOAT")
    assert windows_of(tmp_path / "one.wav")[1].warnings == ()


@pytest.mark.parametrize("cutoff", [3000, 5500])
def test_bandwidth_of_a_low_passed_file(cutoff: int, tmp_path: Path) -> None:
    spectrum = np.fft.rfft(np.random.default_rng(1).standard_normal(22050 * 12))
    spectrum[np.fft.rfftfreq(22050 * 12, 1 / 22050) > cutoff] = 0
    sound = np.fft.irfft(spectrum)
    path = tmp_path / "narrow.wav"
    soundfile.write(path, 0.3 * sound / np.abs(sound).max(), 22050, subtype="PCM_24")
    _, facts = windows_of(path)
    assert facts.bandwidth_hz == pytest.approx(cutoff, abs=50)
    assert facts.warnings == ("band_limited",)


def test_full_bandwidth_warns_of_nothing(tmp_path: Path) -> None:
    _, facts = windows_of(write_sound(tmp_path / "wide.wav", music(12.0)))
    assert facts.warnings == ()
    assert facts.bandwidth_hz is not None
    assert facts.bandwidth_hz > 20000


@pytest.mark.parametrize(("amplitude", "decibels"), [(1.0, -3.01), (0.1, -23.01)])
def test_the_loudness_is_the_root_mean_square(amplitude: float, decibels: float, tmp_path: Path) -> None:
    """Of a sine wave on both channels."""
    sine = amplitude * np.sin(2 * np.pi * 440 * np.arange(12 * 22050) / 22050)
    path = tmp_path / "sine.wav"
    soundfile.write(path, np.stack([sine, sine], axis=1), 22050, subtype="FLOAT")
    assert windows_of(path)[1].loudness_db == pytest.approx(decibels, abs=0.01)


def test_clipping_is_noticed(tmp_path: Path) -> None:
    sound = music(12.0, 22050)
    _, facts = windows_of(write_sound(tmp_path / "loud.wav", np.clip(12 * sound, -1, 1), 22050))
    assert "clipped" in facts.warnings


# --- Content, not names; files, not playlists -----------------------------------------------------


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", "empty"),
        (b"\0", "unsupported"),
        (b"Dear Sir or Madam,\n" * 50, "unsupported"),
        (b"%PDF-1.7\n" + bytes(range(256)) * 40, "unsupported"),
        (b"ID3", "unsupported"),
        (b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + bytes(1000), "unsupported"),
        (b"RIFF\0\0\0\0WAVE", "unsupported"),
        (b"fLaC" + bytes(100), "unsupported"),
        (b"OggS" + bytes(1000), "unsupported"),
        (bytes(100_000), "unsupported"),
    ],
)
def test_what_is_no_sound_has_a_status(content: bytes, status: str, tmp_path: Path) -> None:
    path = tmp_path / "strange.mp3"
    path.write_bytes(content)
    assert refusal(path).status in (status, "unreadable" if content else "")


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{name}\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXTINF:9,\nfile://{path}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{path}'\n",
        "<?xml version='1.0'?><MPD><Period><AdaptationSet><BaseURL>{path}</BaseURL></AdaptationSet></Period></MPD>",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
        "[playlist]\nFile1={path}\nNumberOfEntries=1\n",
    ],
)
def test_a_playlist_opens_no_other_file(text: str, tmp_path: Path) -> None:
    secret = write_sound(tmp_path / "secret.wav", music(9.0))
    for suffix in (".m3u8", ".ffconcat", ".mp3", ".mpd", ".sdp", ".pls"):
        path = tmp_path / f"list{suffix}"
        path.write_text(text.format(name=secret.name, path=secret), encoding="ascii")
        assert refusal(path).status == "unsupported"


def test_an_mp4_that_refers_to_another_file_opens_no_other_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret.wav"
    write_sound(secret, music(9.0))
    path = encode(tmp_path / "refers.m4a", music(8.0), 44100, "aac", "ipod")
    content = path.read_bytes()
    at = content.index(b"url \0\0\0\x01")  # changes "the sound is in this file" to "in another file"
    location = str(secret).encode() + b"\0"
    swapped = content[: at - 4] + struct.pack(">I", 12 + len(location)) + b"url \0\0\0\0" + location + content[at + 8 :]
    path.write_bytes(swapped)
    with contextlib.suppress(AudioError):
        _, facts = windows_of(path)
        assert facts.codec == "aac"  # its own, not the WAV's


def test_a_stray_resource_fork_beside_the_file_does_no_harm(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "x.mp3", music(8.0))
    (tmp_path / "._x.mp3").write_bytes(b"\0\x05\x16\x07" + bytes(100))
    assert windows_of(path)[1].status == "ok"
    assert refusal(tmp_path / "._x.mp3").status in ("unsupported", "unreadable")


@pytest.mark.parametrize(
    "name", [b"\xff\xfe.mp3", b"new\nline.flac", b"-rf.wav", "日本語 🎵.ogg".encode(), b"\x1b[2J.wav"]
)
def test_any_name_is_opened(name: bytes, tmp_path: Path) -> None:
    plain = write_sound(tmp_path / f"plain.{os.fsdecode(name).rsplit('.')[-1]}", music(6.0))
    path = os.fsencode(tmp_path) + b"/" + name
    os.rename(plain, path)  # noqa: PTH104 - bytes, which pathlib does not take
    with contextlib.closing(open_source(path)) as source:
        assert source.claimed_frames


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.mp3")
    assert refusal(tmp_path / "fifo.mp3").status == "unsupported"
    assert refusal(tmp_path).status == "unsupported"
    assert refusal(Path("/dev/zero")).status == "unsupported"
    assert refusal(tmp_path / "gone.mp3").status == "vanished"
    (tmp_path / "loop.mp3").symlink_to("loop.mp3")
    assert refusal(tmp_path / "loop.mp3").status == "unreadable"


# --- Resources ------------------------------------------------------------------------------------


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    good = [write_sound(tmp_path / f"good.{s}", music(6.0)) for s in ("wav", "flac", "mp3")]
    good.append(encode(tmp_path / "good.m4a", music(6.0), 44100, "aac", "ipod"))
    bad = [tmp_path / f"bad{k}.mp3" for k in range(4)]
    for path, content in zip(
        bad, [b"", b"text" * 99, good[0].read_bytes()[:60], good[3].read_bytes()[:999]], strict=True
    ):
        path.write_bytes(content)
    wide = tmp_path / "wide.wav"
    soundfile.write(wide, np.zeros((30, 100), dtype=np.float32), 22050)

    def once() -> int:
        for path in [*good, *bad, wide]:
            with contextlib.suppress(AudioError):
                windows_of(path)
        return len(list(Path("/proc/self/fd").iterdir()))

    first = once()
    assert [once() for _ in range(5)] == [first] * 5


PEAK = """
import os, resource, sys
from sonicscan.audio.decode import read_windows
from sonicscan.spec import AudioSpec
from sonicscan.audio.windows import WindowPlan
def peak():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) // 1024
for _ in read_windows(os.fsencode(sys.argv[1]), AudioSpec(), WindowPlan(12)): pass
before = peak()
for count in (12, 400, None):
    n = sum(1 for _ in read_windows(os.fsencode(sys.argv[2]), AudioSpec(), WindowPlan.of(count)))
    print(n, peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_memory_does_not_grow_with_the_length_of_a_track(tmp_path: Path) -> None:
    """Half an hour, which takes 160 MB whole at the model's rate."""
    rate = 8000
    short = write_sound(tmp_path / "short.flac", music(60.0, rate, 1), rate)
    long = tmp_path / "long.flac"
    minute = music(60.0, rate, 1)
    with soundfile.SoundFile(long, "w", rate, 1) as file:
        for _ in range(30):
            file.write(minute)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, short, long], capture_output=True, text=True, check=True, timeout=120
    )
    results = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert [n for n, _ in results] == [12, 361, 360]
    assert max(grown for _, grown in results) < 48  # MB
