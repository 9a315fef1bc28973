"""Library, model and report in Google Cloud Storage: an emulator of it on loopback."""

from __future__ import annotations

import json
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import PROGRAM, answers, make_library, rows_of, run, wait_for


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of the emulator, in a process of its own, with an empty bucket `music`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [PROGRAM.with_name("gcp-storage-emulator"), "start", "--host", "127.0.0.1", "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--in-memory", "--default-bucket", "music"], stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own" / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "own" / "state"))
    try:
        wait_for(lambda: answers(port))
        yield address
    finally:
        process.kill()
        process.wait()


def put(server: str, name: str, content: bytes) -> None:
    query = urllib.parse.urlencode({"uploadType": "media", "name": name})
    request = urllib.request.Request(f"{server}/upload/storage/v1/b/music/o?{query}", content, method="POST")
    request.add_header("Content-Type", "application/octet-stream")
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert json.load(answer)["name"] == name


def get(server: str, name: str) -> bytes:
    address = f"{server}/storage/v1/b/music/o/{urllib.parse.quote(name, safe='')}?alt=media"
    with urllib.request.urlopen(address, timeout=30) as answer:
        content: bytes = answer.read()
        return content


def test_library_model_and_report_in_a_bucket(server: str, calibrated_model: Path, tmp_path: Path) -> None:
    library = make_library(tmp_path / "library", 6)
    for path in library.iterdir():
        put(server, f"cat/{path.name[:4]}/{path.name}", path.read_bytes())
    put(server, "m.onnx", calibrated_model.read_bytes())
    local, fetched = tmp_path / "local.parquet", tmp_path / "fetched.parquet"
    assert run(library, "--model", calibrated_model, "--workers", 1, "--out", local)[0] == 0
    expected = {Path(path).name: (row["score"], row["size"]) for path, row in rows_of(local).items()}
    arguments = ["gs://music/cat", "--model", "gs://music/m.onnx", "--workers", 1]
    code, said = run(*arguments, "--out", "gs://music/reports/2026-11.parquet")
    assert code == 0, said
    fetched.write_bytes(get(server, "reports/2026-11.parquet"))
    rows = rows_of(fetched)
    assert "gs://music/cat/0001/0001.flac" in rows
    assert {Path(path).name: (row["score"], row["size"]) for path, row in rows.items()} == expected
    put(server, "cat/0000/0000.wav", (library / "0004.wav").read_bytes())
    again = [*arguments, "--since", "gs://music/reports/2026-11.parquet", "--out", tmp_path / "again.parquet"]
    code, said = run(*again)
    assert code == 0, said
    assert "carried  5 rows" in said
    assert rows_of(tmp_path / "again.parquet")["gs://music/cat/0000/0000.wav"]["score"] == expected["0004.wav"][0]
    code, said = run("gs://music/none", "--out", tmp_path / "none.parquet")
    assert (code, "gs://music/none" in said, "Traceback" in said) == (2, True, False), said
