"""How many tracks of music by people a model flags, on whole tracks from games that no bundled model was trained on.

    python benchmarks/peoples_music.py [--model FILE]

Needs Debian with `apt-get` and `dpkg-deb`, and 3 GB in `bench-data`. It downloads packages of games, unpacks the tracks
of 20 seconds or more, scans them, and prints a row for each package and for each certified rate. The packages are those
of Debian 12 of June 2023, so people made the music. Cross-fitting measures single members; this measures the model that
users run.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

import pyarrow.parquet as pq
import scipy.stats
import soundfile
from paired import scanned

from sonicscan.report.metadata import ReportMetadata
from sonicscan.scoring.thresholds import certified_threshold
from sonicscan.spec import ModelSpec

# None of them is a source of the corpus that the bundled model was trained on.
PACKAGES = (
    "0ad-data", "alienblaster-data", "caveexpress-data", "endless-sky-data", "foobillardplus-data",
    "fretsonfire-songs-muldjord", "hex-a-hop-data", "hyperrogue-music", "lugaru-data", "mu-cade-data", "nexuiz-music",
    "openarena-088-data", "openarena-data", "orbital-eunuchs-sniper-data", "pangzero", "planetblupi-music-ogg",
    "powermanga-data", "renpy-thequestion", "titanion-data", "toppler", "tumiki-fighters-data", "ufoai-music",
    "val-and-rick-data", "wesnoth-1.16-music", "widelands-data",
)  # fmt: skip
LEAST_S = 20.0
MOST_BYTES = 200_000_000  # of one file
_SOUND = (".ogg", ".opus", ".mp3", ".flac", ".wav")
_ARCHIVES = (".pk3", ".zip")


def packed(stream: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the sound files in a Debian package's files, also of those in archives of the game."""
    with tarfile.open(fileobj=stream, mode="r|") as files:
        for member in files:
            file = files.extractfile(member) if member.isfile() else None
            suffix = PurePosixPath(member.name.lower()).suffix
            if file is None:
                continue
            if suffix in _SOUND and member.size <= MOST_BYTES:
                yield member.name, file.read()
            elif suffix in _ARCHIVES:
                with tempfile.TemporaryFile() as copy:
                    while block := file.read(1 << 20):
                        copy.write(block)
                    with zipfile.ZipFile(copy) as archive:
                        for entry in archive.infolist():
                            if entry.filename.lower().endswith(_SOUND) and entry.file_size <= MOST_BYTES:
                                yield entry.filename, archive.read(entry)


def is_track(content: bytes) -> bool:
    """Whether a file is long enough for music; sounds of a game are shorter."""
    try:
        return bool(soundfile.info(io.BytesIO(content)).duration >= LEAST_S)
    except soundfile.LibsndfileError:
        return False


def fetch(package: str, folder: Path) -> None:
    """Downloads a package and writes its tracks into `folder`, which appears when all are there."""
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as name:
        work = Path(name)
        subprocess.run(
            ["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", package],
            cwd=work,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        (work / "tracks").mkdir()
        (archive,) = work.glob("*.deb")
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE) as unpacking:
            assert unpacking.stdout is not None
            for k, (path, content) in enumerate(packed(unpacking.stdout)):
                if "ambien" not in path and is_track(content):  # wind and water are no music
                    (work / "tracks" / f"{k:03} {PurePosixPath(path).name}").write_bytes(content)
        (work / "tracks").rename(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="an ONNX file; else the bundled model")
    parser.add_argument("--work", type=Path, default=Path("bench-data"), help="where the packages' music is kept")
    options = parser.parse_args()
    folder: Path = options.work / "peoples-music"
    folders = [folder / package for package in PACKAGES]
    for path in folders:
        fetch(path.name, path)
    report = options.work / "peoples-music.parquet"
    model = ["--model", options.model] if options.model else []
    rows = scanned(folders, report, ["path", "status", "score", "verdict"], *model)
    rows = [row for row in rows if row["status"] == "ok"]
    print("| package | tracks | flagged | for review | highest score |\n|---|---|---|---|---|")
    for package in (*PACKAGES, "all"):
        own = [row for row in rows if package == "all" or Path(row["path"]).parent.name == package]
        flagged, review = (sum(row["verdict"] == word for row in own) for word in ("flagged", "review"))
        print(f"| {package} | {len(own)} | {flagged} | {review} | {max(row['score'] for row in own):.3f} |")
    spec = ModelSpec.from_json(str(ReportMetadata.of(pq.ParquetFile(report).schema_arrow, report).model_spec))
    print(
        "\n| certified rate | threshold | tracks at or over it | share, at most (95% confidence) |\n|---|---|---|---|"
    )
    for rate in (0.10, 0.05, 0.02, 0.01):
        threshold = certified_threshold(spec.calibration, rate)
        over = sum(row["score"] >= threshold for row in rows)
        bound = float(scipy.stats.beta.ppf(0.95, over + 1, len(rows) - over))
        print(f"| {rate:.0%} | {threshold:.4f} | {over} of {len(rows)} | {bound:.1%} |")


if __name__ == "__main__":
    main()
