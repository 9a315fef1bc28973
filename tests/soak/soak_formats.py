"""Thousands of damaged tags, journals, reports and models: each is read, or refused with a sentence.

make soak, or: pytest -s tests/soak/soak_formats.py     SONICSCAN_FUZZ=N sets how many of each (default 5000)
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
from mutations import MUTATIONS
from report_samples import demo_rows, sample_report
from synthesis import calibrated, music, write_model

from sonicscan.analysis.catalogue import load
from sonicscan.analysis.summary import summarise
from sonicscan.audio.tags import MAX_SECONDS, Tags, read_tags
from sonicscan.cli.demo import write_sound
from sonicscan.errors import ModelError, ReportError, SonicscanError
from sonicscan.model.loading import load_model
from sonicscan.model.protobuf import MalformedError, keeps_values_elsewhere
from sonicscan.model.sessions import Device
from sonicscan.report.row import FileResult
from sonicscan.report.schema import to_results
from sonicscan.scanning.journal import Journal
from sonicscan.scoring.thresholds import Thresholds
from sonicscan.spec import ModelSpec

TIMES = int(os.environ.get("SONICSCAN_FUZZ", "5000"))
pytestmark = pytest.mark.timeout(7200)


def mutants(sources: list[bytes], n: int, seed: int) -> list[bytes]:
    """`n` damaged copies of `sources`."""
    chance = random.Random(seed)
    found = []
    for k in range(n):
        content = bytearray(sources[k % len(sources)])
        for _ in range(chance.choice((1, 1, 2))):
            if len(content) > 300:
                content = chance.choice(MUTATIONS)(content, chance)
        found.append(bytes(content))
    return found


def outcomes(
    contents: list[bytes], read: Callable[[bytes], None], refusals: tuple[type[Exception], ...]
) -> Counter[str]:
    """How many were read and refused. Any other exception is a defect."""
    counts: Counter[str] = Counter()
    for content in contents:
        try:
            read(content)
        except refusals as error:
            assert "\n" not in str(error)
            counts["refused"] += 1
        else:
            counts["read"] += 1
    return counts


def id3(frames: list[tuple[bytes, str]]) -> bytes:
    """An ID3v2.3 tag."""
    body = b""
    for name, text in frames:
        content = b"\x03" + text.encode()
        body += name + len(content).to_bytes(4, "big") + b"\0\0" + content
    size = len(body)
    return b"ID3\x03\0\0" + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0)) + body


def test_damaged_tags(tmp_path: Path) -> None:
    frames = [(b"TIT2", "title"), (b"TPE1", "artist"), (b"TALB", "album"), (b"TSRC", "GBAYE0000001")]
    sources = [id3(frames) + write_sound(tmp_path / "x.mp3", music(2.0)).read_bytes()]
    for suffix in ("flac", "ogg", "wav", "aiff"):
        path = tmp_path / f"x.{suffix}"
        with soundfile.SoundFile(path, "w", 22050, 1) as file:
            file.title, file.artist, file.album = "title", "artist", "album"
            file.write(music(2.0, 22050, 1))
        sources.append(path.read_bytes())
    slowest = 0.0
    path = tmp_path / "mutant"

    def read(content: bytes) -> None:
        nonlocal slowest
        path.write_bytes(content)
        began = time.process_time()
        tags = read_tags(bytes(path))
        slowest = max(slowest, time.process_time() - began)
        texts = [tags.title, tags.artist, tags.album, tags.isrc]
        assert all(text is None or (text.encode() and len(text) <= 2000) for text in texts)

    counts = outcomes(mutants(sources, TIMES, 1), read, ())
    print(f"\nfuzz: tags {dict(counts)}, the slowest took {slowest:.2f} s")
    assert slowest < 4 * MAX_SECONDS


def test_a_tag_of_300_000_artists_costs_a_second(tmp_path: Path) -> None:
    path = tmp_path / "x.mp3"
    artists = b"\x03" + b"\0".join(b"%d" % k for k in range(300_000))
    frame = b"TPE1" + len(artists).to_bytes(4, "big") + b"\0\0" + artists
    header = b"ID3\x03\0\0" + bytes(len(frame) >> shift & 0x7F for shift in (21, 14, 7, 0))
    path.write_bytes(header + frame + write_sound(tmp_path / "y.mp3", music(2.0)).read_bytes())
    began = time.process_time()
    assert isinstance(read_tags(bytes(path)), Tags)
    assert time.process_time() - began < 4 * MAX_SECONDS


def test_damaged_journals(tmp_path: Path) -> None:
    path = tmp_path / "r.journal"
    rows = [FileResult(path=f"{k}.mp3", status="ok", score=0.5, size=k, mtime_ns=k, warnings=[]) for k in range(6)]
    journal = Journal(path, "key")
    for row in rows:
        journal.append([row])
    journal.close()

    def read(content: bytes) -> None:
        path.write_bytes(content)
        journal = Journal(path, "key")
        try:
            found = list(to_results(journal.rows()))
        finally:
            journal.close()
        assert found == rows[: len(found)]

    counts = outcomes(mutants([path.read_bytes()], TIMES, 2), read, (ReportError,))
    print(f"\nfuzz: journals {dict(counts)}")


def test_damaged_reports(tmp_path: Path) -> None:
    spec = calibrated()
    limits = Thresholds(0.5, 0.3)
    rows = demo_rows(60, spec, limits)
    path = sample_report(tmp_path / "r.parquet", rows, spec=spec, thresholds=limits)
    sources = [path.read_bytes()]

    def read(content: bytes) -> None:
        path.write_bytes(content)
        summarise(load(path))

    counts = outcomes(mutants(sources, TIMES, 3), read, (SonicscanError,))
    print(f"\nfuzz: reports {dict(counts)}")


def wrong_json(value: Any, chance: random.Random) -> Any:
    """`value` with a part of it replaced by something else."""
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


def test_damaged_contracts() -> None:
    chance, spec = random.Random(4), json.loads(calibrated().to_json())
    texts = [json.dumps(wrong_json(spec, chance)).encode() for _ in range(TIMES)]
    counts = outcomes(texts, lambda text: ModelSpec.from_json(text.decode()) and None, (ModelError,))
    print(f"\nfuzz: contracts {dict(counts)}")


def test_damaged_models(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx", calibrated())
    contents = mutants([path.read_bytes()], TIMES, 5)
    counts = outcomes(contents, lambda content: keeps_values_elsewhere(content) and None, (MalformedError,))
    print(f"\nfuzz: protobuf {dict(counts)}")

    def read(content: bytes) -> None:
        path.write_bytes(content)
        load_model(path, Device("cpu"), threads=1)

    counts = outcomes(contents[: TIMES // 10], read, (SonicscanError,))
    print(f"fuzz: models {dict(counts)}")
