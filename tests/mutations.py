"""Ways to damage a file, for the fuzz runs."""

from __future__ import annotations

import random
import struct

EXTREMES = (0, 1, 2, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1)


def flipped(content: bytearray, chance: random.Random) -> bytearray:
    """A few bits, anywhere or in the head."""
    reach = len(content) if chance.random() < 0.5 else min(len(content), 200)
    for _ in range(chance.choice((1, 3, 10, 100))):
        content[chance.randrange(reach)] ^= 1 << chance.randrange(8)
    return content


def cut(content: bytearray, chance: random.Random) -> bytearray:
    return content[: chance.randrange(len(content))]


def extreme(content: bytearray, chance: random.Random) -> bytearray:
    """A number of the header at its extreme: sizes, rates, channels, frames."""
    for _ in range(chance.choice((1, 1, 2, 4))):
        at, order = chance.randrange(min(len(content) - 8, 250)), chance.choice("<>")
        kind, value = chance.choice("HIQ"), chance.choice(EXTREMES)
        bits = {"H": 16, "I": 32, "Q": 64}[kind]
        struct.pack_into(order + kind, content, at, value % (1 << bits) if chance.random() < 0.8 else (1 << bits) - 1)
    return content


def shuffled(content: bytearray, chance: random.Random) -> bytearray:
    """A piece taken out, repeated, or moved."""
    a, b = sorted(chance.randrange(len(content)) for _ in range(2))
    piece = content[a:b]
    return chance.choice(
        (content[:a] + content[b:], content[:b] + piece * 3 + content[b:], piece + content[:a] + content[b:])
    )


def noise(content: bytearray, chance: random.Random) -> bytearray:
    """A stretch of random bytes, or all bits set, which in float files is NaN."""
    a, b = sorted(chance.randrange(len(content)) for _ in range(2))
    content[a:b] = chance.choice((chance.randbytes(b - a), b"\xff" * (b - a), bytes(b - a)))
    return content


MUTATIONS = (flipped, cut, extreme, extreme, shuffled, noise)
