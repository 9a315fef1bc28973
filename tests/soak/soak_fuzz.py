"""Thousands of damaged and dishonest sound files through the real program: each must get its row.

make soak, or: pytest -s tests/soak/soak_fuzz.py     SONICSCAN_FUZZ=N sets how many (default 5000)
SONICSCAN_FUZZ_TIMEOUT=S sets the seconds that a file may take (default 20), for machines that are busy with other work.
"""

from __future__ import annotations

import contextlib
import os
import random
import struct
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from faults import children, finish, rows_of, start
from mutations import MUTATIONS
from sounds import encode
from synthesis import music

from sonicscan.cli.demo import write_sound
from sonicscan.errors import STATUSES

FILES = int(os.environ.get("SONICSCAN_FUZZ", "5000"))
TIMEOUT_S = int(os.environ.get("SONICSCAN_FUZZ_TIMEOUT", "20"))
# An answer about a file, whatever is in it. A worker that dies is a defect of ours or of a library.
ANSWERS = set(STATUSES) - {"crashed", "timeout", "permission_denied", "vanished"}


def originals(folder: Path) -> list[bytes]:
    """A short file of every format that can be made here."""
    folder.mkdir()
    made: list[Path] = []
    sound = music(2.5, 22050, 2)
    for suffix in ("wav", "flac", "ogg", "mp3", "aiff", "caf", "au", "w64", "rf64", "voc"):
        path = folder / f"snd.{suffix}"
        soundfile.write(path, sound, 22050, format={"aiff": "AIFF"}.get(suffix, suffix.upper()))
        made.append(path)
    for subtype in ("PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "IMA_ADPCM", "MS_ADPCM"):
        soundfile.write(folder / f"{subtype}.wav", sound, 22050, subtype=subtype)
        made.append(folder / f"{subtype}.wav")
    made.append(write_sound(folder / "opus.opus", music(2.5, 48000), 48000))
    for name, codec, container in [
        ("a.m4a", "aac", "ipod"),
        ("b.m4a", "alac", "ipod"),
        ("c.aac", "aac", "adts"),
        ("d.wma", "wmav2", "asf"),
        ("e.wv", "wavpack", "wv"),
        ("f.tta", "tta", "tta"),
        ("g.ac3", "ac3", "ac3"),
        ("h.eac3", "eac3", "eac3"),
        ("i.mka", "flac", "matroska"),
        ("j.mp2", "mp2", "mp2"),
        ("k.flv", "aac", "flv"),
        ("l.ts", "aac", "mpegts"),
        ("m.avi", "libmp3lame", "avi"),
        ("n.rm", "ac3", "rm"),
        ("o.loas", "aac", "latm"),
        ("p.mp3", "libmp3lame", "mp3"),
        ("q.oga", "flac", "ogg"),
    ]:
        made.append(encode(folder / name, music(2.5), 44100, codec, container, bit_rate=128_000))
    return [path.read_bytes() for path in made]


def mutants(folder: Path, sources: list[bytes], n: int) -> None:
    chance = random.Random(20_240_229)
    for k in range(n):
        content = bytearray(sources[k % len(sources)])
        if k % 11 == 0:  # one format's head on another's body
            body = sources[chance.randrange(len(sources))]
            content = content[: chance.randrange(1, 400)] + body[chance.randrange(400) :]
        for _ in range(chance.choice((1, 1, 2))):
            if len(content) > 300:
                content = chance.choice(MUTATIONS)(content, chance)
        if k % 97 == 0:
            content = bytearray(b"ID3\x04\0\0" + bytes(chance.randrange(128) for _ in range(4))) + content
        (folder / f"{k:06}.mp3").write_bytes(content)


def extremes(folder: Path) -> None:
    """Cases by hand that random changes would seldom give."""
    good = write_sound(folder / "good.wav", music(6.0)).read_bytes()
    for channels in (0, 64, 65, 255, 65535):
        (folder / f"channels{channels}.wav").write_bytes(good[:22] + struct.pack("<H", channels) + good[24:])
    for rate in (0, 1, 1999, 768_000, 2**32 - 1):
        (folder / f"rate{rate}.wav").write_bytes(good[:24] + struct.pack("<I", rate) + good[28:])
    sound = music(6.0, 22050, 1)
    for name, value in (("nan", np.nan), ("inf", np.inf), ("huge", 3e38), ("tiny", 1e-40)):
        soundfile.write(folder / f"{name}.wav", np.full_like(sound, value), 22050, subtype="FLOAT")
    flac = bytearray(write_sound(folder / "frames.flac", music(6.0)).read_bytes())
    flac[21] |= 0x0F
    flac[22:26] = b"\xff\xff\xff\xff"
    (folder / "frames.flac").write_bytes(flac)
    with soundfile.SoundFile(folder / "bomb.flac", "w", 44100, 2) as file:  # ten hours of silence
        for _ in range(600):
            file.write(np.zeros((44100 * 60, 2), dtype=np.int16))
    with (folder / "tags.mp3").open("wb") as file:
        file.write(b"ID3\x04\0\0" + bytes([0x32, 0, 0, 0]))
        file.truncate(10 + (0x32 << 21))
        file.seek(0, os.SEEK_END)
        file.write(write_sound(folder / "plain.mp3", music(6.0)).read_bytes())


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "library"
    folder.mkdir()
    mutants(folder, originals(folder.with_name("originals")), FILES)
    extremes(folder)
    return folder


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("windows", ["12", "all"])  # with seeks, and from start to end: decoders differ
def test_every_mutant_has_its_row(windows: str, library: Path, calibrated_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.parquet"
    n = len(list(library.iterdir()))
    began, peak = time.monotonic(), [0]
    process = start(
        library,
        "--model",
        calibrated_model,
        "--out",
        out,
        "--timeout",
        TIMEOUT_S,
        "--workers",
        2,
        "-q",
        "--include",
        "*",
        "--windows",
        windows,
    )

    def watch() -> None:
        while process.poll() is None:
            for pid in children(process.pid):
                with contextlib.suppress(OSError, IndexError):
                    status = Path(f"/proc/{pid}/status").read_text()
                    peak[0] = max(peak[0], int(status.split("VmHWM:")[1].split()[0]) // 1024)
            time.sleep(0.2)

    watcher = threading.Thread(target=watch)
    watcher.start()
    code, said = finish(process, 7200)
    watcher.join()
    rows = rows_of(out)
    counts = Counter(row["status"] for row in rows.values())
    took = time.monotonic() - began
    print(f"\nfuzz: {n} files, {windows} windows, in {took:.0f} s, rows lost {n - len(rows)}, {dict(counts)}")
    print(f"fuzz: a worker took at most {peak[0]} MB")
    strange = {p: (r["status"], r["error"]) for p, r in rows.items() if r["status"] not in ANSWERS}
    kept = Path("/tmp/sonicscan-fuzz")
    for path in strange:
        kept.mkdir(exist_ok=True)
        (kept / Path(path).name).write_bytes(Path(path).read_bytes())
        print(f"fuzz: {path}: {strange[path]}; a copy is in {kept}")
    assert code == 3, said
    assert not said
    assert len(rows) == n
    assert {Path(p).stem for p in strange} <= {"bomb"}, strange  # ten hours may take longer than this test allows
    assert peak[0] < 1100
    assert rows[str(library / "good.wav")]["status"] == "ok"
    for row in rows.values():
        assert (row["score"] is None) == (not row["windows"])
        assert row["score"] is None or 0.0 <= row["score"] <= 1.0
