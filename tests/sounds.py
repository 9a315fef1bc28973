"""Sound files of many kinds, encoded here, for the tests of decoding and of faults."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]


def encode(
    path: Path,
    sound: Float32,
    sample_rate: int,
    codec: str,
    container: str | None = None,
    *,
    bit_rate: int | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    cover: bool = False,
) -> Path:
    """Write `sound`, float32 [n, channels], with one of FFmpeg's encoders."""
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[sound.shape[1]]
    with av.open(str(path), "w", format=container, container_options=container_options or {}) as output:
        picture = None
        if cover:
            picture = output.add_stream("mjpeg", rate=1)
            picture.width, picture.height, picture.pix_fmt = 64, 64, "yuvj420p"
        stream = output.add_stream(codec, rate=sample_rate, layout=layout, options=options or {})
        if bit_rate:
            stream.bit_rate = bit_rate
        if picture is not None:
            image = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), dtype=np.uint8), format="rgb24")
            output.mux(picture.encode(image.reformat(format="yuvj420p")))
            output.mux(picture.encode(None))
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound.T), format="fltp", layout=layout)
        frame.sample_rate, frame.pts = sample_rate, 0
        resampler = av.AudioResampler(stream.format, layout, sample_rate, frame_size=stream.frame_size or 1024)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    return path
