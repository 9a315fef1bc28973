"""Round trips through lossy codecs, in memory: what any file may have been through before a scan.

Applied to both classes alike, in training and in the stress table, so that a codec is never a cue.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import av
import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from sonicscan_train.bundled.corpus import to_length

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Codec:
    """One lossy format: PyAV's encoder, a container that holds it, the rate it runs at, kbit/s of mono.

    Vorbis goes through libsndfile, since PyAV's wheels have no good encoder for it; its quality is
    set by `quality` (0 best, 1 worst), and its bitrate follows.
    """

    encoder: str
    container: str
    sample_rate: int
    kbps: int = 0
    quality: float = 0.5


def encode(samples: Float32, rate: int, codec: Codec) -> bytes:
    """`samples` (mono) as a complete file in `codec`."""
    at_rate = soxr.resample(samples, rate, codec.sample_rate) if rate != codec.sample_rate else samples
    target = io.BytesIO()
    if codec.encoder == "vorbis":
        with soundfile.SoundFile(
            target, "w", codec.sample_rate, 1, "VORBIS", format="OGG", compression_level=codec.quality
        ) as file:
            for start in range(0, len(at_rate), 4096):  # libvorbis overflows its stack on one long write
                file.write(at_rate[start : start + 4096])
        return target.getvalue()
    with av.open(target, "w", format=codec.container) as container:
        stream = container.add_stream(codec.encoder, rate=codec.sample_rate)
        if not isinstance(stream, av.AudioStream):
            raise ValueError(f"{codec.encoder} is not an audio encoder")
        stream.bit_rate = codec.kbps * 1000
        stream.layout = "mono"
        size = stream.codec_context.frame_size or 1024
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=codec.sample_rate, frame_size=size)
        frame = av.AudioFrame.from_ndarray(at_rate[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate = codec.sample_rate
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return target.getvalue()


def decode(data: bytes) -> tuple[Float32, int]:
    """A file's first audio stream as float32 mono, and its rate."""
    with av.open(io.BytesIO(data), "r") as container:
        stream = container.streams.audio[0]
        to_float = av.AudioResampler(format="fltp", layout="mono")
        parts = [part.to_ndarray()[0] for frame in container.decode(stream) for part in to_float.resample(frame)]
        return np.concatenate(parts).astype(np.float32), stream.rate


def round_trip(samples: Float32, rate: int, codec: Codec) -> Float32:
    """`samples` after encoding and decoding, at the same rate and length."""
    decoded, decoded_rate = decode(encode(samples, rate, codec))
    back = soxr.resample(decoded, decoded_rate, rate) if decoded_rate != rate else decoded
    return to_length(back.astype(np.float32), len(samples))


def random_codec(rng: np.random.Generator) -> Codec:
    """A codec as files in the wild have it, at a mono bitrate from poor to good."""
    kind = rng.integers(4)
    if kind == 0:
        return Codec("libmp3lame", "mp3", int(rng.choice([22050, 44100])), int(rng.choice([32, 40, 48, 64, 80])))
    if kind == 1:
        return Codec("aac", "mp4", int(rng.choice([22050, 44100])), int(rng.choice([40, 48, 64, 80])))
    if kind == 2:
        return Codec("libopus", "ogg", 48000, int(rng.choice([24, 32, 48, 64])))
    return Codec("vorbis", "ogg", int(rng.choice([22050, 44100])), quality=float(rng.uniform(0.3, 0.9)))
