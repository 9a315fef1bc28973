"""Everything slow, done once: audio, variants and log-mel caches, and the split, as training reads them."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from sonicscan.files import write_whole
from sonicscan.spec import AudioSpec, digest_of
from sonicscan_train.bundled.batches import OWN, Pool
from sonicscan_train.bundled.corpus import Excerpt, Int16, cache_audio, digest, read_manifest
from sonicscan_train.bundled.melcache import cache_decibels
from sonicscan_train.bundled.split import Holdout, left_out
from sonicscan_train.bundled.variants import cache_variants


@dataclass(frozen=True)
class Prepared:
    """The corpus, ready."""

    excerpts: list[Excerpt]
    judges: list[bool]
    audio: Int16
    data_digest: str

    @property
    def training_rows(self) -> list[int]:
        """Indices of the excerpts that train."""
        return [i for i, judge in enumerate(self.judges) if not judge]


def prepare(folder: Path, out: Path, holdout: Holdout, spec: AudioSpec) -> Prepared:
    """Reads, splits and decodes the corpus; writes `split.json` to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    excerpts = read_manifest(folder)
    judges = left_out(excerpts, holdout)
    split = {
        "manifest_sha256": digest(folder),
        "holdout": dataclasses.asdict(holdout),
        "left_out": sorted(e.path for e, judge in zip(excerpts, judges, strict=True) if judge),
    }
    write_whole(out / "split.json", json.dumps(split, indent=1))
    return Prepared(excerpts, judges, cache_audio(folder, excerpts, out, spec), digest_of(split))


def training_pools(prepared: Prepared, out: Path, copies: int, seed: int, spec: AudioSpec) -> list[Pool]:
    """The training excerpts in 1 + `copies` versions, and Griffin-Lim partners of those by people."""
    rows = prepared.training_rows
    excerpts = [prepared.excerpts[i] for i in rows]
    clean = (prepared.audio[rows], cache_decibels(prepared.audio, rows, out / "clean_mel.npy", spec))
    versions: list[tuple[Int16, Int16]] = [clean]
    if copies:
        varied = cache_variants(prepared.audio, rows, "vary", copies, seed, out, spec)
        mel = cache_decibels(varied, list(range(len(varied))), out / "vary_mel.npy", spec)
        n = len(rows)
        versions += [(varied[c * n : (c + 1) * n], mel[c * n : (c + 1) * n]) for c in range(copies)]
    human = [i for i in rows if not prepared.excerpts[i].is_ai]
    decoded = cache_variants(prepared.audio, human, "griffin_lim", 1, seed, out, spec)
    partners = [
        dataclasses.replace(
            prepared.excerpts[i], label="codec", source=f"{OWN}griffin-lim", group=prepared.excerpts[i].path
        )
        for i in human
    ]
    mel = cache_decibels(decoded, list(range(len(decoded))), out / "griffin_lim_mel.npy", spec)
    return [Pool(excerpts, versions), Pool(partners, [(decoded, mel)])]
