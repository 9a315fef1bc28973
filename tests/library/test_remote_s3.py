"""Library, model and report in S3: real servers on loopback that speak its protocol."""

from __future__ import annotations

import http.server
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from faults import PROGRAM, Row, answers, finish, journal_rows, make_library, rows_of, run, start, wait_for

SIGNED = "AWS4-HMAC-SHA256 Credential=A/20261101/us-east-1/s3/aws4_request"  # the server does not check them
SECRET = "wJalrXUtnFEMIK7MDENG"


@pytest.fixture(scope="module")
def server_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where moto's server writes a line for each request."""
    return tmp_path_factory.mktemp("moto") / "log"


@pytest.fixture(scope="module")
def server(server_log: Path) -> Iterator[str]:
    """The address of moto's server, in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with server_log.open("wb") as file:
        process = subprocess.Popen([PROGRAM.with_name("moto_server"), "-p", str(port)], stdout=file, stderr=file)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: answers(port))
        yield address
    finally:
        process.kill()
        process.wait()


def put(server: str, path: str, content: bytes = b"") -> None:
    request = urllib.request.Request(f"{server}/{urllib.parse.quote(path)}", content, method="PUT")
    request.add_header("Authorization", SIGNED)
    request.add_header("Content-Type", "application/octet-stream")  # or the server looks for a form in it
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200


def get(server: str, path: str) -> bytes:
    request = urllib.request.Request(f"{server}/{urllib.parse.quote(path)}")
    request.add_header("Authorization", SIGNED)
    with urllib.request.urlopen(request, timeout=30) as answer:
        content: bytes = answer.read()
        return content


@pytest.fixture(autouse=True)
def environment(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment variables with the address of the server, and folders of the test's own for cache and journals."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own" / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "own" / "state"))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_library(tmp_path_factory.mktemp("remote") / "library", 16)


@pytest.fixture(scope="module")
def bucket(server: str, library: Path, calibrated_model: Path) -> str:
    """A bucket with the library below `cat/` and a model."""
    put(server, "music")
    for path in library.iterdir():
        put(server, f"music/cat/{path.name[:1]}/{path.name}", path.read_bytes())
    put(server, "music/catalogue-of-others/x.wav", b"not below cat/")
    put(server, "music/models/m.onnx", calibrated_model.read_bytes())
    return "s3://music"


@pytest.fixture(scope="module")
def local(library: Path, calibrated_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Row]:
    out = tmp_path_factory.mktemp("local") / "r.parquet"
    assert run(library, "--model", calibrated_model, "--out", out, "--workers", 2)[0] == 0
    return named(rows_of(out))


def named(rows: dict[str, Row]) -> dict[str, Row]:
    """Rows by file name, but for what a place changes."""
    return {Path(path).name: row | dict.fromkeys(("path", "mtime_ns", "elapsed_ms")) for path, row in rows.items()}


def report_of(server: str, path: str, tmp_path: Path) -> dict[str, Row]:
    (tmp_path / "fetched.parquet").write_bytes(get(server, path))
    return rows_of(tmp_path / "fetched.parquet")


def journal_in(tmp_path: Path) -> Path:
    return next(iter((tmp_path / "own").rglob("*.journal")), tmp_path / "none")


def test_library_model_and_report_in_s3(
    server: str, server_log: Path, bucket: str, library: Path, local: dict[str, Row], tmp_path: Path
) -> None:
    out = f"{bucket}/reports/2026-11.parquet"
    arguments = [f"{bucket}/cat", "--model", f"{bucket}/models/m.onnx", "--workers", 2]
    began = server_log.stat().st_size
    code, said = run(*arguments, "--out", out)
    assert code == 0, said
    requests = re.findall(r"([A-Z]+ /music/cat/)", server_log.read_bytes()[began:].decode())
    assert requests == ["GET /music/cat/"] * 16  # the listing has all that a worker needs to fetch a small file
    assert "Traceback" not in said
    assert "Unclosed" not in said
    rows = report_of(server, "music/reports/2026-11.parquet", tmp_path)
    assert named(rows) == local
    assert min(rows) == "s3://music/cat/0/0000.wav"
    assert not journal_in(tmp_path).exists()
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert SECRET.encode() not in written
    assert SECRET not in said
    metadata = pq.read_schema(tmp_path / "fetched.parquet").metadata
    assert metadata[b"sonicscan.model"] == b"m.onnx"
    shown = subprocess.run([PROGRAM.with_name("sonicscan-report"), "show", out], capture_output=True, text=True)
    assert shown.stdout.count("\ts3://music/cat/") == 16, shown.stderr
    # One object changes, in content alone: the others are carried over. Folders and URLs go together.
    put(server, "music/cat/0/0000.wav", (library / "0004.wav").read_bytes())
    code, said = run(*arguments, library / "0000.wav", "--since", out, "--out", f"{bucket}/reports/2026-12.parquet")
    assert code == 0, said
    assert "carried  15 rows" in said
    again = report_of(server, "music/reports/2026-12.parquet", tmp_path)
    assert len(again) == 17
    assert again["s3://music/cat/0/0000.wav"]["score"] == local["0004.wav"]["score"]
    assert again[str(library / "0000.wav")]["score"] == local["0000.wav"]["score"]
    put(server, "music/cat/0/0000.wav", (library / "0000.wav").read_bytes())


def test_a_scan_that_is_killed_goes_on(server: str, bucket: str, local: dict[str, Row], tmp_path: Path) -> None:
    out = f"{bucket}/reports/killed.parquet"
    arguments = [f"{bucket}/cat", "--model", f"{bucket}/models/m.onnx", "--workers", 1, "--out", out]
    process = start(*arguments)
    wait_for(lambda: len(journal_rows(journal_in(tmp_path))) > 1)
    process.send_signal(signal.SIGSTOP)
    code, said = run(*arguments)
    assert (code, "another scan is writing" in said) == (2, True)
    process.kill()
    finish(process)
    kept = journal_rows(journal_in(tmp_path))
    with pytest.raises(urllib.error.HTTPError) as none:
        get(server, "music/reports/killed.parquet")
    assert none.value.code == 404
    none.value.close()
    code, said = run(*arguments)
    assert code == 0, said
    assert "rows of an interrupted scan" in said
    rows = report_of(server, "music/reports/killed.parquet", tmp_path)
    assert named(rows) == local
    assert kept.items() <= rows.items()
    assert not journal_in(tmp_path).exists()


def test_what_is_not_there_is_said_in_a_sentence(bucket: str, tmp_path: Path) -> None:
    for arguments in (
        [f"{bucket}/none", "--out", f"{bucket}/r.parquet"],
        [f"{bucket}/cat", "--out", "s3://no-such-bucket/r.parquet"],
        [f"{bucket}/cat", "--model", f"{bucket}/none.onnx", "--out", f"{bucket}/r.parquet"],
        [f"{bucket}/cat", "--since", f"{bucket}/none.parquet", "--out", f"{bucket}/r.parquet"],
        [f"s3://me:{SECRET}@music/cat", "--out", f"{bucket}/r.parquet"],
    ):
        code, said = run(*arguments)
        assert code == 2
        *_, last = said.splitlines()
        assert last.startswith("Error: s3://")
        assert "cannot be read" in last
        assert SECRET not in said
        assert "Traceback" not in said


# --- Large listings ---------------------------------------------------------------------------------

_MANY = 200_000
_PAGE = 1000
_COUNT = """
import resource, sys, time, urllib.request
from sonicscan.library.discovery import listing
def megabytes():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 1e6
n = first = early = 0
for n, track in enumerate(listing(["s3://many/flat"]), 1):
    if n == 1:
        first = int(urllib.request.urlopen(sys.argv[1] + "/pages").read())
    if n == 20_000:
        early = megabytes()
print(n, first, megabytes() - early, track.name)
"""


@pytest.fixture
def many() -> Iterator[str]:
    """A server with 200,000 objects below one flat prefix, written out as they are asked for."""
    pages = 0

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            nonlocal pages
            query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
            if self.path == "/pages":
                body = str(pages).encode()
            else:
                start = int(query.get("continuation-token", 0))
                pages += "delimiter" not in query
                body = page(start, min(start + int(query.get("max-keys", _PAGE)), _MANY)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def page(start: int, end: int) -> str:
    keys = "".join(
        f"<Contents><Key>flat/{k:07}.mp3</Key><LastModified>2026-11-01T10:00:00.000Z</LastModified>"
        f"<ETag>&quot;{k:032x}&quot;</ETag><Size>{k + 1}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        for k in range(start, end)
    )
    more = f"<NextContinuationToken>{end}</NextContinuationToken>" if end < _MANY else ""
    return (
        '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>many</Name><Prefix>flat/</Prefix><KeyCount>{end - start}</KeyCount><MaxKeys>{_PAGE}</MaxKeys>"
        f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>{more}{keys}</ListBucketResult>"
    )


@pytest.mark.slow
def test_a_listing_of_200_000_objects_streams(many: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", many)
    done = subprocess.run([sys.executable, "-c", _COUNT, many], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    n, pages_before_the_first, grown_mb, last = done.stdout.split()
    assert int(n) == _MANY
    assert int(pages_before_the_first) <= 2
    assert float(grown_mb) < 20
    assert last == "s3://many/flat/0199999.mp3"
