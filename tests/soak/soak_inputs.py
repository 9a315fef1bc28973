"""Thousands of damaged tags, journals, reports and models: each is read, or refused with a sentence.

make soak, or: pytest -s tests/soak/soak_inputs.py     SONICSCAN_FUZZ=N sets how many of each (default 5000)
"""

from __future__ import annotations

import json
import os
import random
import resource
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import soundfile
from mutations import MUTATIONS
from report_samples import row, sample_report
from sounds import encode
from synthesis import calibrated, music, write_model
from tag_files import SUNO, comment, frame, free, with_chunk, with_id3

from sonicscan.analysis.catalogue import load
from sonicscan.analysis.merge import Allowed, merge
from sonicscan.analysis.summary import summarise
from sonicscan.audio.tags import MAX_SECONDS, Tags, read_tags
from sonicscan.cli.demo import write_sound
from sonicscan.errors import SonicscanError
from sonicscan.library.ranges import MemoryFile
from sonicscan.model.loading import load_model
from sonicscan.model.protobuf import MalformedError, keeps_values_elsewhere
from sonicscan.model.sessions import Device
from sonicscan.provenance.reading import read_provenance
from sonicscan.report.metadata import metadata_of, with_metadata
from sonicscan.report.readers import read_report
from sonicscan.report.schema import to_results
from sonicscan.scanning.journal import Journal
from sonicscan.scoring.thresholds import Thresholds
from sonicscan.spec import ModelSpec

FILES = int(os.environ.get("SONICSCAN_FUZZ", "5000"))
KEPT = Path("/tmp/sonicscan-fuzz")

pytestmark = pytest.mark.timeout(7200)


def damaged(content: bytes, chance: random.Random) -> bytes:
    """A mutant of `content`; one in four is unchanged."""
    mutant = bytearray(content)
    for _ in range(chance.choice((0, 1, 1, 2))):
        if len(mutant) > 300:
            mutant = chance.choice(MUTATIONS)(mutant, chance)
    return bytes(mutant)


def fuzz(
    name: str,
    sources: list[bytes],
    read: Callable[[bytes], str],
    damage: Callable[[bytes, random.Random], bytes] = damaged,
) -> None:
    """Read mutants of `sources`; `read` returns the outcome. Any error but a one-line `SonicscanError` fails."""
    chance, counts, strange = random.Random(20_240_229), Counter[str](), list[str]()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    for k in range(FILES):
        content = damage(sources[k % len(sources)], chance)
        try:
            counts[read(content)] += 1
        except SonicscanError as error:
            assert "\n" not in str(error)
            counts[type(error).__name__] += 1
        except Exception as error:  # noqa: BLE001 - each is a finding
            KEPT.mkdir(exist_ok=True)
            (KEPT / f"{name}-{k}").write_bytes(content)
            strange.append(f"{KEPT / f'{name}-{k}'}: {error!r:.200}")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    print(f"\nfuzz: {FILES} {name} in {time.monotonic() - began:.0f} s, {grown} MB more memory, {dict(counts)}")
    assert not strange, "\n".join(strange)
    assert counts["read"]
    assert grown < 1000


def tagged(path: Path) -> bytes:
    """A file with the tags that libsndfile writes."""
    with soundfile.SoundFile(path, "w", 22050, 1) as file:
        file.title, file.artist, file.album = "title", "artist", "album"
        file.write(music(2.0, 22050, 1))
    return path.read_bytes()


def test_tags(tmp_path: Path) -> None:
    mp3 = write_sound(tmp_path / "x.mp3", music(1.0)).read_bytes()
    wav = write_sound(tmp_path / "x.wav", music(0.1)).read_bytes()
    frames = (
        frame("TIT2", b"\3Fjord"),
        frame("TPE1", b"\3" + b"Ann\0" * 50),
        frame("TSRC", b"\3GBAYE0000001"),
        comment(SUNO),
        free("x", "y" * 300),
    )
    sources = [
        with_id3(mp3, *frames),
        with_id3(mp3, *frames, frame("APIC", b"\0image/png\0\3\0" + bytes(2000))),
        with_chunk(wav, b"LIST", b"INFOINAM\6\0\0\0Fjord\0IART\4\0\0\0Ann\0"),
        with_chunk(wav, b"id3 ", with_id3(b"", *frames)),
        *(tagged(tmp_path / f"x.{suffix}") for suffix in ("flac", "ogg", "wav", "aiff")),
        encode(tmp_path / "x.m4a", music(0.2), 44100, "aac", "ipod").read_bytes(),
        mp3 + b"Title\0Fjord".join([b"APETAGEX"] * 2) + (2000).to_bytes(4, "little") * 6,
    ]

    def read(content: bytes) -> str:
        began = time.process_time()
        file = MemoryFile(content)
        tags = read_tags(file)
        provenance = read_provenance(file, tags.texts, None)
        assert time.process_time() - began < MAX_SECONDS + 3.0, "too slow"
        texts = [tags.title, tags.artist, tags.album, tags.isrc, provenance.statement]
        assert all(text is None or (len(text) <= 4000 and text.encode()) for text in texts), texts
        return "read" if tags != Tags() else "none"

    fuzz("tags", sources, read)


def test_a_tag_of_300_000_artists_takes_a_second(tmp_path: Path) -> None:
    artists = frame("TPE1", b"\3" + b"\0".join(b"%d" % k for k in range(300_000)))
    content = with_id3(write_sound(tmp_path / "x.mp3", music(2.0)).read_bytes(), artists)
    began = time.process_time()
    read_tags(MemoryFile(content))
    assert time.process_time() - began < 4 * MAX_SECONDS


def test_journals(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path, "key")
    for k in range(10):
        journal.append([row(f"{k}-{n}.mp3", 0.5, title="\u00e9" * k, window_margins=[0.1 * k] * 3) for n in range(3)])
    rows = list(to_results(journal.rows()))
    journal.close()

    def read(content: bytes) -> str:
        path.write_bytes(content)
        damaged = Journal(path, "key")
        try:
            found = list(to_results(damaged.rows()))
        finally:
            damaged.close()
        assert found == rows[: len(found)], "a row is forged"
        return "read" if found else "none"

    fuzz("journals", [path.read_bytes()], read)


def sample(path: Path) -> Path:
    rows = [
        row(f"{k:02}.mp3", k / 40, verdict="clear", p_value=0.5, artist=f"a{k % 3}", window_margins=[0.1 * k] * 3)
        for k in range(20)
    ]
    return sample_report(path, rows, spec=calibrated(), thresholds=Thresholds(0.5, 0.3), key="k")


def examined(path: Path) -> str:
    summarise(load(path))
    merge([path], path.with_name("merged.parquet"), Allowed(gaps=True, overlap=True, mixed_models=True))
    return "read"


def test_report_files(tmp_path: Path) -> None:
    path = sample(tmp_path / "r.parquet")

    def read(content: bytes) -> str:
        path.write_bytes(content)
        return examined(path)

    fuzz("reports", [path.read_bytes()], read)


def test_metadata_of_reports(tmp_path: Path) -> None:
    path = sample(tmp_path / "r.parquet")
    table = read_report(path)
    metadata = metadata_of(table.schema)
    names = sorted(metadata)

    def read(content: bytes) -> str:
        name = names[content[0] % len(names)]
        text = content[1:].rstrip().decode("utf-8", "replace")
        pq.write_table(with_metadata(table, metadata | {name: text}), path)
        return examined(path)

    sources = [bytes([k]) + metadata[name].encode().ljust(400) for k, name in enumerate(names)]
    fuzz("metadata", sources, read)


def wrong_json(value: Any, chance: random.Random) -> Any:
    """`value` with a part of it removed, or replaced by something else."""
    odd = [None, True, -1, 2**70, 1e308, float("nan"), "", "\ud800", "x" * 100_000, [], {}, [[[]]], "\x1b]0;x\x07"]
    if not isinstance(value, list | dict) or not value or chance.random() < 0.15:
        return chance.choice(odd)
    value = value.copy()
    key = chance.choice(list(value)) if isinstance(value, dict) else chance.randrange(len(value))
    if isinstance(value, dict) and chance.random() < 0.1:
        del value[key]
    else:
        value[key] = wrong_json(value[key], chance)
    return value


def damaged_json(content: bytes, chance: random.Random) -> bytes:
    return json.dumps(wrong_json(json.loads(content), chance)).encode()


@pytest.mark.parametrize("damage", [damaged, damaged_json])
def test_contracts_of_models(damage: Callable[[bytes, random.Random], bytes]) -> None:
    def read(content: bytes) -> str:
        ModelSpec.from_metadata(content.decode("utf-8", "replace"), Path("m.onnx"))
        return "read"

    fuzz("contracts", [calibrated(n=30).to_json().encode()], read, damage)


def test_tensors_of_models(tmp_path: Path) -> None:
    def read(content: bytes) -> str:
        try:
            keeps_values_elsewhere(content)
        except MalformedError:
            return "refused"
        return "read"

    fuzz("ONNX files", [write_model(tmp_path / "m.onnx", calibrated(n=30)).read_bytes()], read)


def test_models(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx", calibrated(n=30))

    def read(content: bytes) -> str:
        path.write_bytes(content)
        load_model(path, Device("cpu"), threads=1)
        return "read"

    fuzz("models", [path.read_bytes()], read)
