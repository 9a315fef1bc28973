"""Mixes channels to mono: the mean of the channels, or another mix if they cancel each other.

Silence is tested on each channel, so the mixer keeps the channel peaks. The module also recognises compressed
bitstreams that were stored as samples.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from sonicscan.arrays import Float32
from sonicscan.errors import AudioError

_CANCELLED = 0.02  # share of the power of the mean of unrelated channels; 17 dB
_AUDIBLE = 1e-8  # mean square; below it nothing cancels
_CELL = 1024  # frames for which one peak is kept
_KEPT_CELLS = 32768

# First words of a burst (IEC 61937-1, 6.1.7): Pa and Pb; then Pc, whose low bits name the codec.
_BURST = (0xF872, 0x4E1F)
_BURST_KINDS = {
    **dict.fromkeys((1,), "AC-3"),
    **dict.fromkeys((4, 5, 6, 8, 9), "MPEG audio"),
    **dict.fromkeys((7, 10, 19, 20), "AAC"),
    **dict.fromkeys((11, 12, 13, 17), "DTS"),
    **dict.fromkeys((21,), "E-AC-3"),
    **dict.fromkeys((22,), "TrueHD"),
}
# DTS without bursts (ETSI TS 102 114, annex): 14 and 16 bits a word, in both byte orders.
_LEAST_DTS_FRAME = 48  # words: 96 bytes
_DTS_SYNC = ((0x1FFF, 0xE800), (0xFF1F, 0x00E8), (0x7FFE, 0x8001), (0xFE7F, 0x0180))


class Downmix:
    """Mixes the blocks of one source, in order.

    Attributes:
        position: frame of the source at which the next block begins; set it after a jump.
    """

    def __init__(self, channels: int) -> None:
        self.position = 0
        self._weights = np.full(channels, 1.0 / channels, dtype=np.float32)
        self._peaks: deque[tuple[int, Float32]] = deque()
        self._cells = 0

    def mono(self, block: Float32) -> Float32:
        """Mix a block, float32 [n, channels], to float32 [n].

        Returns the mean of the channels. The mean may be 17 dB quieter than that of unrelated channels. Then the
        channels out of phase with the first audible one are inverted first. Samples that are not numbers count as 0;
        the mean of a frame without a number is NaN.
        """
        first, self.position = self.position, self.position + len(block)
        channels = block.shape[1]
        if channels == 1:
            return block[:, 0]
        if channels != len(self._weights):
            self._weights = np.full(channels, 1.0 / channels, dtype=np.float32)
        flat = block.ravel(order="K")
        power = float(np.vdot(flat, flat))
        if not np.isfinite(power) and not (numbers := np.isfinite(block)).all():
            mixed = self._mixed(first, np.where(numbers, block, np.float32(0.0)))
            mixed[~numbers.any(axis=1)] = np.nan
            return mixed
        return self._mixed(first, block, power)

    def _mixed(self, first: int, block: Float32, power: float | None = None) -> Float32:
        """The mix of a block that begins at frame `first`; `power` is the sum of its squares, if it is known."""
        # The order of summation follows the memory layout: sums of more than two channels depend on it.
        planar = block.flags.f_contiguous and not block.flags.c_contiguous
        mixed: Float32 = self._weights @ block.T if planar else block @ self._weights
        if len(block):
            self._keep(first, block)
            power = float(np.vdot(block, block)) if power is None else power
            left = float(np.vdot(mixed, mixed)) * block.shape[1] ** 2
            if left < _CANCELLED * power and power > _AUDIBLE * block.size:
                return block @ (self._weights * _signs(block))
        return mixed

    def peak(self, first: int, end: int) -> float:
        """Largest sample of any channel in the frames from `first` up to `end`, from the stored peaks.

        Frames at both ends that do not fill a cell of 1,024 are left out. 0 for a source with one channel.
        """
        highest = 0.0
        for start, peaks in self._peaks:
            a, b = max(0, -(-(first - start) // _CELL)), (end - start) // _CELL
            if a < min(b, len(peaks)):
                highest = max(highest, float(peaks[a:b].max()))
        return highest

    def _keep(self, first: int, block: Float32) -> None:
        whole = len(block) // _CELL
        if not whole:
            return
        cells = block[: whole * _CELL].reshape(whole, _CELL, block.shape[1])
        peaks = np.maximum(cells.max(axis=(1, 2)), -cells.min(axis=(1, 2)))
        self._peaks.append((first, peaks))
        self._cells += whole
        while self._cells > _KEPT_CELLS and len(self._peaks) > 1:
            self._cells -= len(self._peaks.popleft()[1])


def _signs(block: Float32) -> Float32:
    """1 for each channel that is in phase with the first audible one, -1 for the others: float32 [channels]."""
    powers = np.einsum("nc,nc->c", block, block)
    reference = block[:, int(np.argmax(powers >= powers.max() / 4))]
    return np.where(reference @ block < 0, -1.0, 1.0).astype(np.float32)


def bitstream_in(block: Float32) -> str | None:
    """The codec of a block of two channels, if its samples are the words of a compressed bitstream.

    Args:
        block: samples in -1..1, float32 [n, channels].

    Returns:
        the name of the codec: `DTS`, `AC-3` ...; None if the block holds real samples.
    """
    if block.shape[1] != 2 or not len(block):
        return None
    words = np.clip(np.nan_to_num(block) * 2.0**15, -(2.0**15), 2.0**15 - 1).astype(np.int16).view(np.uint16)
    flat = np.ascontiguousarray(words).ravel()
    bursts = np.flatnonzero((flat[:-2] == _BURST[0]) & (flat[1:-1] == _BURST[1]))
    kinds = [_BURST_KINDS.get(int(flat[at + 2]) & 0x1F) for at in bursts]
    named = [kind for kind in kinds if kind]
    if len(named) >= 2:
        return named[0]
    for a, b in _DTS_SYNC:
        gaps = np.diff(np.flatnonzero((flat[:-1] == a) & (flat[1:] == b)))
        if len(gaps) >= 3 and gaps[0] >= _LEAST_DTS_FRAME and (gaps == gaps[0]).all():  # clipped samples look like it
            return "DTS"
    return None


def bitstream_error(kind: str) -> AudioError:
    """The error for a file whose samples are a bitstream that no decoder here reads."""
    return AudioError("unsupported", f"its samples hold a compressed bitstream ({kind} in PCM, IEC 61937), not sound.")
