"""Which excerpts train and which judge: whole generators, creators and human sources are left out.

A random split says nothing: it puts the same generator's decoder, and the same creator's mastering, on
both sides. Here sources that share a group (the same song, prompt or score) form one component
that is never divided, and a source goes to one side as a whole. The exception is a commercial generator with several
creators: some creators are left out, each as a whole, since a generator's next user is what a scan meets.
The left-out people's excerpts also calibrate the thresholds: certifying 1% takes at least 299 of them.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from sonicscan_train.bundled.corpus import Excerpt


@dataclass(frozen=True)
class Holdout:
    """What is left out.

    Attributes:
        sources: left out whole, with everything that shares a group with them.
        creators_of: generators of which a share of the creators (or of the pairs with people's music) is left out,
            and that share, in excerpts.
        human_excerpts: human sources are drawn at random until this many excerpts are left out.
        keep: sources that the draw must leave in training.
        max_source: larger sources are not drawn: one source must not be the calibration set.
        seed: of the draws.
    """

    sources: tuple[str, ...] = ("MeLoDy", "MusicLM", "UNAGAN", "StemGen", "Lyria", "BigVGAN")
    creators_of: tuple[tuple[str, float], ...] = (("Suno", 0.2), ("ElevenLabs-Music", 0.2), ("MusicGen-Style", 0.5))
    human_excerpts: int = 330
    keep: tuple[str, ...] = (
        "fma(musichifi)",
        "musdb18(semanticodec)",
        "slakh2100(target)",
        "musdb+moisesdb(anyaccomp)",
    )
    max_source: int = 28
    seed: int = 20261122


def components(excerpts: Iterable[Excerpt]) -> list[set[str]]:
    """Sets of sources that share a group, directly or through others."""
    parent: dict[str, str] = {}

    def root(source: str) -> str:
        while parent.setdefault(source, source) != source:
            source = parent[source]
        return source

    first: dict[str, str] = {}
    for excerpt in excerpts:
        parent[root(excerpt.source)] = root(first.setdefault(excerpt.group, excerpt.source))
    joined: dict[str, set[str]] = defaultdict(set)
    for source in parent:
        joined[root(source)].add(source)
    return sorted(joined.values(), key=min)


def left_out(excerpts: list[Excerpt], holdout: Holdout) -> list[bool]:
    """For every excerpt, whether it judges (True) or trains (False). Depends on nothing but its arguments."""
    draw = random.Random(holdout.seed)
    whole: set[str] = set()
    parts = components(excerpts)
    for part in parts:
        if part & set(holdout.sources):
            whole |= part
    groups = _creators(excerpts, holdout, draw)
    human = Counter(e.source for e in excerpts if e.label == "human")
    machine = {e.source for e in excerpts if e.is_ai}
    count = sum(e.label == "human" and (e.source in whole or e.group in groups) for e in excerpts)
    drawable = [p for p in parts if not p & (whole | machine | set(holdout.keep))]
    draw.shuffle(drawable)
    for part in drawable:
        size = sum(human[s] for s in part)
        if size <= holdout.max_source and count + size <= holdout.human_excerpts + holdout.max_source // 4:
            whole |= part
            count += size
        if count >= holdout.human_excerpts:
            break
    return [e.source in whole or e.group in groups for e in excerpts]


def _creators(excerpts: list[Excerpt], holdout: Holdout, draw: random.Random) -> set[str]:
    """The groups that are left out of generators that train with their other groups."""
    groups: set[str] = set()
    for source, share in holdout.creators_of:
        sizes = Counter(e.group for e in excerpts if e.source == source)
        creators = sorted(sizes)
        draw.shuffle(creators)
        taken, wanted = 0, share * sizes.total()
        for creator in creators:
            # A creator with most of the excerpts stays in training: there it teaches, here it would drown the rest.
            if taken < wanted and sizes[creator] <= max(wanted, 1):
                groups.add(creator)
                taken += sizes[creator]
    return groups
