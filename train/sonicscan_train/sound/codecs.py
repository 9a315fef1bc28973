"""Codec round trips in memory: encodes and decodes a track.

MP3, AAC and Opus are encoded and decoded by FFmpeg through PyAV. Vorbis goes through libsndfile, which has Xiph's
encoder, as most programs do; FFmpeg's own is marked experimental.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal, get_args

import av
import av.error
import numpy as np
import soundfile
import soxr

from sonicscan.arrays import Float32
from sonicscan.errors import InputError

Codec = Literal["mp3", "aac", "opus", "vorbis"]
CODECS: tuple[Codec, ...] = get_args(Codec)


@dataclass(frozen=True)
class _Encoder:
    name: str
    container: str
    rates: tuple[int, ...]
    priming: int = 0  # samples of encoder delay that PyAV hands out where a player would skip them


_ENCODERS: dict[str, _Encoder] = {
    "mp3": _Encoder("libmp3lame", "mp3", (16000, 22050, 24000, 32000, 44100, 48000)),
    "aac": _Encoder("aac", "mp4", (16000, 22050, 24000, 32000, 44100, 48000), priming=1024),
    "opus": _Encoder("libopus", "ogg", (16000, 24000, 48000)),
}
# Nominal kbit/s of Vorbis' quality steps 0, .1, .2 ... 1.0 at 44.1 kHz stereo, from Xiph's encoder; the same quality
# gives a mono file about half the bits.
_VORBIS_KBPS = (64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 500)


def round_trip(samples: Float32, rate: int, codec: Codec, kbps: float, at: int | None = None) -> Float32:
    """Encode and decode.

    Args:
        samples: mono float32 [n], full scale 1.0.
        rate: Hz of the samples.
        codec: one of `CODECS`.
        kbps: kbit/s of the mono stream; for Vorbis, of a stereo stream of the same quality.
        at: Hz that the sound is resampled to before it is encoded; the encoder takes the next rate that it knows.

    Returns:
        float32 [n]: what comes back, at the same rate and, but for the codec's own delay, in place.

    Raises:
        InputError: this FFmpeg lacks the encoder, or refuses such sound.
    """
    wanted = at or rate
    if codec == "vorbis":
        decoded, its_rate = _vorbis(_resample(samples, rate, wanted), wanted, kbps), wanted
    else:
        encoder = _ENCODERS[codec]
        its_rate = next((r for r in encoder.rates if r >= wanted), encoder.rates[-1])
        try:
            encoded = _encode(_resample(samples, rate, its_rate), its_rate, encoder, round(kbps * 1000))
            decoded, its_rate = _decode(encoded)
        except (av.error.FFmpegError, ValueError) as error:
            raise InputError(f"FFmpeg does not encode {rate} Hz as {codec} at {kbps:g} kbit/s ({error}).") from error
        decoded = decoded[encoder.priming :]
    return fitted(_resample(decoded, its_rate, rate), len(samples))


def fitted(samples: Float32, n: int) -> Float32:
    """`samples` cut, or continued with zeros, to `n`."""
    return samples[:n] if len(samples) >= n else np.pad(samples, (0, n - len(samples)))


def _resample(samples: Float32, rate: int, to: int) -> Float32:
    if rate == to:
        return samples
    resampled: Float32 = soxr.resample(samples, rate, to, quality="HQ").astype(np.float32, copy=False)
    return resampled


def _encode(samples: Float32, rate: int, encoder: _Encoder, bit_rate: int) -> bytes:
    target = io.BytesIO()
    with av.open(target, "w", format=encoder.container) as container:
        stream = container.add_stream(encoder.name, rate=rate, layout="mono")
        assert isinstance(stream, av.AudioStream)  # for the type checker: add_stream is typed by literal names
        stream.bit_rate = bit_rate
        frame = av.AudioFrame.from_ndarray(np.clip(samples, -1.0, 1.0)[None, :], format="fltp", layout="mono")
        frame.sample_rate = rate
        for frames in (frame, None):
            container.mux(stream.encode(frames))
    return target.getvalue()


def _decode(encoded: bytes) -> tuple[Float32, int]:
    parts: list[Float32] = []
    with av.open(io.BytesIO(encoded), "r") as container:
        resampler = av.AudioResampler(format="fltp", layout="mono")
        rate = container.streams.audio[0].codec_context.sample_rate
        for frame in container.decode(audio=0):
            rate = frame.sample_rate
            parts += [converted.to_ndarray()[0] for converted in resampler.resample(frame)]
    return np.concatenate(parts).astype(np.float32, copy=False), rate


def _vorbis(samples: Float32, rate: int, kbps: float) -> Float32:
    quality = float(np.interp(kbps, _VORBIS_KBPS, np.arange(11) / 10))
    target = io.BytesIO()
    with soundfile.SoundFile(
        target, "w", rate, 1, format="OGG", subtype="VORBIS", compression_level=1.0 - quality
    ) as sound:
        # In blocks: libsndfile puts a whole write on the stack.
        for start in range(0, len(samples), 16384):
            sound.write(samples[start : start + 16384])
    target.seek(0)
    decoded: Float32 = soundfile.read(target, dtype="float32")[0]
    return decoded
