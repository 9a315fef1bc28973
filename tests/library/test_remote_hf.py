"""Library and model in a dataset of the Hugging Face Hub: a server on loopback that speaks its protocol."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
import urllib.parse
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest
from faults import make_library, rows_of, run

REPOSITORY = "someone/catalogue"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that the server has as its only dataset, for requests with the token."""
    root = tmp_path / "hub"
    root.mkdir()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
            api, files = f"/api/datasets/{REPOSITORY}", f"/datasets/{REPOSITORY}/resolve/main/"
            if self.headers["Authorization"] != "Bearer hf_token":
                self.answer({}, HTTPStatus.UNAUTHORIZED, {"X-Error-Code": "RepoNotFound"})
            elif path in (api, f"{api}/revision/main"):
                self.answer({"_id": "0", "id": REPOSITORY})
            elif path.startswith(f"{api}/tree/main"):
                folder = root / path.removeprefix(f"{api}/tree/main").strip("/")
                if folder.is_dir():
                    self.answer([self.entry(found) for found in sorted(folder.iterdir())])
                else:
                    self.answer({}, HTTPStatus.NOT_FOUND, {"X-Error-Code": "EntryNotFound"})
            elif path.startswith(files) and (root / path.removeprefix(files)).is_file():
                self.content((root / path.removeprefix(files)).read_bytes())
            else:
                self.answer({}, HTTPStatus.NOT_FOUND, {"X-Error-Code": "EntryNotFound"})

        do_HEAD = do_GET

        def entry(self, path: Path) -> dict[str, object]:
            name = path.relative_to(root).as_posix()
            if path.is_dir():
                return {"type": "directory", "path": name, "oid": "0" * 40}
            digest = hashlib.sha1(path.read_bytes()).hexdigest()
            return {"type": "file", "path": name, "oid": digest, "size": path.stat().st_size}

        def answer(self, content: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
            self.send(json.dumps(content).encode(), status, {"Content-Type": "application/json"} | (headers or {}))

        def content(self, content: bytes) -> None:
            if wanted := self.headers["Range"]:
                first, _, last = wanted.removeprefix("bytes=").partition("-")
                self.send(content[int(first) : int(last or len(content)) + 1], HTTPStatus.PARTIAL_CONTENT, {})
            else:
                self.send(content, HTTPStatus.OK, {})

        def send(self, content: bytes, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, *args: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setenv("HF_TOKEN", "hf_token")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "own" / "hf"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own" / "cache"))
        yield root
        server.shutdown()
        thread.join()


def test_library_and_model_in_a_dataset_of_the_hub(hub: Path, calibrated_model: Path, tmp_path: Path) -> None:
    library = make_library(tmp_path / "library", 6)
    (hub / "music" / "album").mkdir(parents=True)
    for k, path in enumerate(sorted(library.iterdir())):
        target = hub / "music" / ("album" if k % 2 else ".") / path.name
        target.write_bytes(path.read_bytes())
    (hub / "m.onnx").write_bytes(calibrated_model.read_bytes())
    address = f"hf://datasets/{REPOSITORY}"
    options = ["--model", f"{address}/m.onnx", "--workers", 1]
    here, there, again = (tmp_path / f"{name}.parquet" for name in ("here", "there", "again"))
    assert run(library, "--model", calibrated_model, "--workers", 1, "--out", here)[0] == 0
    code, said = run(f"{address}/music", *options, "--out", there)
    assert code == 0, said
    rows, expected = rows_of(there), rows_of(here)
    assert f"{address}/music/album/0001.flac" in rows
    scores = {Path(path).name: (row["score"], row["size"], row["codec"]) for path, row in rows.items()}
    assert scores == {Path(path).name: (row["score"], row["size"], row["codec"]) for path, row in expected.items()}
    # The content of one file changes; the Hub gives no times.
    (hub / "music" / "0000.wav").write_bytes((library / "0004.wav").read_bytes())
    code, said = run(f"{address}/music", *options, "--since", there, "--out", again)
    assert code == 0, said
    assert "carried  5 rows" in said
    assert rows_of(again)[f"{address}/music/0000.wav"]["score"] == scores["0004.wav"][0]
    code, said = run(f"{address}/none", *options, "--out", again)
    assert code == 2
    assert f"{address}/none" in said
    assert "Traceback" not in said
    assert "hf_token" not in said
