"""URLs: what is shown of them, what is fetched, what is kept; on file systems in memory and on loopback."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import itertools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from faults import finish, journal_rows, rows_of, run, start, wait_for
from sounds import encode
from synthesis import calibrated, music, write_model

import sonicscan
from sonicscan.audio.decode import read_windows
from sonicscan.audio.windows import FIRST_ROUND, WindowPlan
from sonicscan.cli.demo import write_sound
from sonicscan.cli.session import Interrupted, interruptible
from sonicscan.errors import AudioError, InputError, RemoteError
from sonicscan.extras import how_to_install
from sonicscan.library import objects, remote
from sonicscan.library.discovery import listing
from sonicscan.library.lists import file_list
from sonicscan.library.ranges import BLOCK, RemoteFile, sound_at
from sonicscan.library.redaction import scrubbed
from sonicscan.library.selection import Selection
from sonicscan.library.urls import Url, located
from sonicscan.model import cache as modelcache
from sonicscan.report import readers
from sonicscan.report.metadata import with_metadata
from sonicscan.report.readers import read_report
from sonicscan.report.schema import SCHEMA, SCHEMA_VERSION, sort_rows, to_batch
from sonicscan.report.writers import SUFFIXES, check_target, write_report
from sonicscan.scanning import reportfile
from sonicscan.spec import AudioSpec

SECRETS = ("hunter2hunter2", "qz7Kp2mW9xTf", "wJalrXUtnFEMI")


@pytest.fixture
def memory() -> Iterator[Any]:
    files = fsspec.filesystem("memory")
    yield files
    files.rm("/", recursive=True)


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Cache and state folders of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own" / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "own" / "state"))
    return tmp_path / "own"


# --- Names ----------------------------------------------------------------------------------------


def test_what_is_a_url_and_what_is_a_file(tmp_path: Path) -> None:
    assert located("s3://b/k") == Url("s3://b/k")
    assert located("S3://b/K").address == "s3://b/K"  # type: ignore[union-attr]
    for name in ("a/b", "c:/x", "s3:/b/k", "./s3://b", "", "://x", "1a://b"):
        assert isinstance(located(name), Path)
    odd = tmp_path / "50% of #1?.wav"
    assert located(odd.as_uri()) == odd
    assert Url("hf://datasets/a/b@main/x.parquet").suffix == ".parquet"
    assert Url("https://host/a/x.onnx?sig=1/2.y").name == "x.onnx"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("s3://bucket/a b.mp3", "s3://bucket/a b.mp3"),
        ("s3://bucket/what? now #1.mp3", "s3://bucket/what? now #1.mp3"),
        ("s3://bucket/what?is=this.mp3", "s3://bucket/what?…"),
        ("s3://AKIA:wJalrXUtnFEMI@bucket/x.mp3", "s3://***@bucket/x.mp3"),
        ("sftp://someone@host/x.mp3", "sftp://***@host/x.mp3"),
        ("s3://bucket/me@home:1.mp3", "s3://bucket/me@home:1.mp3"),
        ("abfs://box@account.host/x", "abfs://box@account.host/x"),
        ("ftp://me:hunter2hunter2@host/x.mp3", "ftp://***@host/x.mp3"),
        ("ftp://me:hunter2@hunter2@host/x.mp3", "ftp://***@host/x.mp3"),
        ("ftp://host/x.mp3?a=1&sig=qz7Kp2mW9xTf", "ftp://host/x.mp3?…"),
        ("https://hunter2hunter2@host/x.mp3", "https://***@host/x.mp3"),
        ("https://host/x.mp3?X-Amz-Signature=qz7Kp2mW9xTf#qz7Kp2mW9xTf", "https://host/x.mp3?…"),
        ("https://host/x.mp3?my-own-name=qz7Kp2mW9xTf", "https://host/x.mp3?…"),
        ("https://host?qz7Kp2mW9xTf", "https://host?…"),
    ],
)
def test_what_is_secret_in_a_url_is_not_shown(address: str, shown: str) -> None:
    assert str(Url(address)) == shown
    assert repr(Url(address)) == f"Url({shown!r})"


def test_what_libraries_say_is_shown_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    url = Url("ftp://me:hunter2hunter2@host/x?sig=qz7Kp2mW9xTf")
    said = (
        "refused: ftp://me:hunter2hunter2@host/x?sig=qz7Kp2mW9xTf, user me:hunter2hunter2, "
        "key wJalrXUtnFEMI, https://other:hunter2hunter2@host/?X-Amz-Security-Token=qz7Kp2mW9xTf&a=1"
    )
    said += (
        ", moved to https://cdn/y?expires=1&mark=qz7Kp2mW9xTf%3D, asked GET /x?s=qz7Kp2mW9xTf, {'v': 'qz7Kp2mW9xTf'}"
    )
    shown = scrubbed(said, url)
    assert "refused" in shown
    assert not any(secret in shown for secret in SECRETS)
    with pytest.raises(RemoteError, match="cannot be read") as caught, remote.reaching(url, "read"):
        raise ValueError(said)
    assert not any(secret in str(caught.value) for secret in SECRETS)
    assert caught.value.__suppress_context__  # a traceback does not show the library's words either


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [
        ("s3://bucket/x", "s3fs", "s3"),
        ("gs://bucket/x", "gcsfs", "gs"),
        ("hf://datasets/a/b/x", "huggingface_hub", "hf"),
    ],
)
def test_a_protocol_without_its_package_says_what_to_install(url: str, package: str, extra: str) -> None:
    program = f"import sys; sys.modules['{package}'] = None\nfrom sonicscan.cli.scan import main\nmain()"
    done = subprocess.run([sys.executable, "-c", program, url, "--out", "r.parquet"], capture_output=True, text=True)
    assert done.returncode == 2
    needs = f"{url.split(':')[0]}:// needs a package that is not installed: {how_to_install(extra)}."
    assert done.stderr == f"Error: {needs}\n"


def test_there_is_nothing_behind_an_unknown_protocol() -> None:
    with pytest.raises(RemoteError, match="no protocol nope://"):
        listing(["nope://x"])


def test_nothing_for_urls_is_imported_before_there_is_one() -> None:
    program = "import sys, sonicscan.cli.scan, sonicscan.cli.session, sonicscan.engine.worker; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "sonicscan.library.remote" in loaded
    assert not {"fsspec", "s3fs", "aiohttp", "botocore"}.intersection(loaded)


# --- Ranges ---------------------------------------------------------------------------------------


def remote_file(path: Path, whole: bool = False) -> tuple[RemoteFile, list[tuple[int, int]]]:
    """A local file as if it were remote, and the ranges that are fetched of it."""
    content, ranges = path.read_bytes(), []

    def fetch(start: int, stop: int) -> bytes:
        ranges.append((start, stop))
        return content[start:stop]

    return RemoteFile(fetch, len(content), whole), ranges


@pytest.mark.parametrize(
    ("name", "share", "requests"),
    [
        ("x.wav", 0.35, 20),
        ("x.flac", 0.4, 21),  # one of them looks at the end
        ("x.mp3", 1.0, 4),
        ("x.ogg", 0.9, 20),
        ("x.opus", 0.9, 20),
        ("x.m4a", 0.9, 20),
    ],
)
def test_ranges_give_the_same_windows_for_fewer_bytes(name: str, share: float, requests: int, tmp_path: Path) -> None:
    rate = 48000 if name.endswith("opus") else 44100
    sound, path = np.tile(music(20.0, rate, 2), (12, 1)), tmp_path / name  # four minutes
    if name.endswith("m4a"):
        encode(path, sound, rate, "aac", "ipod", bit_rate=256_000)
    else:
        write_sound(path, sound, rate)
    file, ranges = remote_file(path)
    with file:
        found = list(read_windows(file, AudioSpec(), WindowPlan(12)))
    wanted = list(read_windows(os.fsencode(path), AudioSpec(), WindowPlan(12)))
    assert [window.start_s for window in found] == [window.start_s for window in wanted]
    gap = 1e-6 if name.endswith("opus") else 0.0  # Opus is libsndfile's here and FFmpeg's there
    assert all(np.abs(a.samples - b.samples).max() <= gap for a, b in zip(found, wanted, strict=True))
    assert file.fetched <= share * path.stat().st_size
    assert file.requests == len(ranges) <= requests
    for (_, stop), (following, _) in itertools.pairwise(sorted(ranges)):
        assert stop <= following  # no byte comes twice


@contextlib.contextmanager
def counting_server(path: Path) -> Iterator[tuple[str, list[int]]]:
    """The URL of a file on a server that knows ranges, and the bytes that it sent at each request."""
    content, sent = path.read_bytes(), list[int]()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
            part = content[first : last + 1]
            sent.append(len(part))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            self.wfile.write(part)

        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/{path.name}", sent
        server.shutdown()
        thread.join()


def test_adaptive_scans_do_not_fetch_whole_files(calibrated_model: Path, tmp_path: Path) -> None:
    """A verdict that is decided by the first windows costs a fraction of the file, and all windows cost all of it."""
    path = write_sound(tmp_path / "x.wav", np.tile(music(20.0, 22050), (12, 1)), 22050)  # four minutes, 21 MB
    with counting_server(path) as (url, sent):
        (row,) = sonicscan.scan(url, model=calibrated_model, windows="adaptive", threshold=1.0)
        assert (row.status, row.windows) == ("ok", FIRST_ROUND)
        assert FIRST_ROUND * 5 / 240 < sum(sent) / path.stat().st_size < 0.25
        sent.clear()
        (row,) = sonicscan.scan(url, model=calibrated_model, windows=None, threshold=1.0)
        assert (row.status, row.windows) == ("ok", 48)
        assert sum(sent) == path.stat().st_size


def test_small_and_whole_files_are_one_request(tmp_path: Path) -> None:
    small = write_sound(tmp_path / "small.wav", music(5.0))
    for path, whole in ((small, False), (write_sound(tmp_path / "long.wav", music(30.0)), True)):
        file, ranges = remote_file(path, whole)
        with file:
            assert file.reader().read() == path.read_bytes()
        assert ranges == [(0, path.stat().st_size)]


def test_a_network_that_fails_is_not_the_end_of_the_track(tmp_path: Path) -> None:
    content = write_sound(tmp_path / "x.wav", music(60.0)).read_bytes()

    def fetch(start: int, stop: int) -> bytes:
        if start > 40 * BLOCK:
            raise AudioError("unreadable", "the line is dead.")
        return content[start:stop]

    with pytest.raises(AudioError, match="the line is dead"), RemoteFile(fetch, len(content)) as file:
        list(read_windows(file, AudioSpec(), WindowPlan(12)))
    with (
        pytest.raises(AudioError, match="changed while it was being read"),
        RemoteFile(lambda start, stop: b"", 100) as file,
    ):
        assert file.reader().read() == b""


def test_a_missing_temporary_folder_is_named_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(AudioError, match=r"no temporary file .* \(No such file or directory\); set TMPDIR") as caught:
        RemoteFile(lambda start, stop: b"", 100)
    assert caught.value.status == "unreadable"


# --- Listing --------------------------------------------------------------------------------------


def test_folders_are_walked_and_selected(memory: Any) -> None:
    for name in ("a/1.mp3", "a/b/2.FLAC", "a/cover.jpg", "drafts/3.mp3", "4.wav", "a::b.mp3", "x?y#z.ogg"):
        memory.pipe(f"/lib/{name}", name.encode())
    tracks = listing(["memory://lib"], Selection(exclude=("drafts",)))
    found = {track.name: track for track in tracks}
    assert sorted(found) == [
        f"memory://lib/{name}" for name in ("4.wav", "a/1.mp3", "a/b/2.FLAC", "a::b.mp3", "x?y#z.ogg")
    ]
    assert tracks.others == 1
    assert found["memory://lib/a/1.mp3"].size == 7
    assert found["memory://lib/a/1.mp3"].mtime_ns > 1e18
    (one,) = listing(["memory://lib/a/cover.jpg"])
    assert one.name == "memory://lib/a/cover.jpg"
    shards = [{t.path for t in listing(["memory://lib"], Selection(shard=(i, 3)))} for i in (1, 2, 3)]
    assert sum(map(len, shards)) == len(set().union(*shards)) == 6


def test_overlapping_urls_are_divided_in_the_same_way_whichever_is_listed_first(memory: Any) -> None:
    for k in range(30):
        memory.pipe(f"/lib/new/{k}.mp3", b"x")
    orders = (["memory://lib", "memory://lib/new"], ["memory://lib/new", "memory://lib"], ["memory://lib/new"])
    for i in (1, 2):
        one, *others = [sorted(t.path for t in listing(roots, Selection(shard=(i, 2)))) for roots in orders]
        assert others == [one, one] and 0 < len(one) < 30


def test_what_is_not_there(memory: Any) -> None:
    with pytest.raises(RemoteError, match=r"memory://lib/none cannot be read \(there is nothing of that name\)"):
        listing(["memory://lib/none"])
    listed = file_list(b"memory://lib//none.mp3\na//b.mp3\n", "-")
    assert listed == [b"memory://lib//none.mp3", b"a/b.mp3"]


def test_a_change_of_time_or_content_is_seen() -> None:
    url = Url("s3://b/k")
    first = {"size": 5, "LastModified": "2026-11-01T10:00:00+00:00", "ETag": '"aa"'}
    same = {"Size": 5, "size": 5, "LastModified": "2026-11-01T10:00:00Z", "ETag": '"aa"'}
    assert objects.track_at(url, first) == objects.track_at(url, same)
    assert objects.track_at(url, first).mtime_ns // 10**9 == 1793527200
    assert objects.track_at(url, first) != objects.track_at(url, first | {"ETag": '"ab"'})
    assert objects.track_at(url, first) != objects.track_at(url, first | {"LastModified": "2026-11-01T10:00:01Z"})
    http = {"size": 5, "Last-Modified": "Sun, 01 Nov 2026 10:00:00 GMT"}
    assert objects.track_at(url, http).mtime_ns == 1793527200 * 10**9
    assert objects.track_at(url, {"size": 5}).mtime_ns == 0  # has no version, so it is never carried over


# --- In memory ------------------------------------------------------------------------------------


def test_library_model_and_report_in_memory(memory: Any, small_library: Path, calibrated_model: Path) -> None:
    memory.put(str(small_library), "/lib", recursive=True)
    memory.put_file(str(calibrated_model), "/m.onnx")
    local = {Path(r.path).name: r for r in sonicscan.scan(small_library, model=calibrated_model)}
    both = list(sonicscan.scan(["memory://lib", small_library / "b"], model="memory://m.onnx", hash=True))
    assert len(both) == 9  # URLs and folders side by side
    for result in both:
        wanted = local[Path(result.path).name]
        if result.codec == "opus":  # libsndfile's there and FFmpeg's here
            assert (result.status, result.score) == ("ok", pytest.approx(wanted.score, abs=1e-6))
        else:
            assert (result.status, result.score) == ("ok", wanted.score)
        assert result.content_hash
    memory.pipe("/empty.wav", b"")
    (empty,) = sonicscan.scan("memory://empty.wav", model=calibrated_model)
    assert (empty.status, empty.error) == ("empty", "the file has no bytes.")
    table = sort_rows(with_metadata(pa.Table.from_batches([to_batch(both)]), {"schema_version": str(SCHEMA_VERSION)}))
    for suffix in SUFFIXES:
        write_report(table, Url(f"memory://reports/r{suffix}"))
    assert read_report(Url("memory://reports/r.parquet")).equals(table)
    assert sorted(memory.ls("/reports", detail=False)) == ["/reports/r.csv", "/reports/r.jsonl", "/reports/r.parquet"]


def test_a_report_that_cannot_be_uploaded_leaves_the_one_before(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    target = Url("memory://reports/r.jsonl")
    memory.pipe("/reports/r.jsonl", b"before")

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("the disk of the server is full")

    monkeypatch.setattr(type(memory), "mv", fail)
    with pytest.raises(RemoteError, match="cannot be written"):
        write_report(pa.Table.from_batches([], SCHEMA), target)
    assert memory.cat("/reports/r.jsonl") == b"before"


def test_models_are_kept_by_digest_and_verified(memory: Any, tiny_model: Path, folders: Path) -> None:
    memory.put_file(str(tiny_model), "/m.onnx")
    url = Url("memory://m.onnx")
    kept = modelcache.fetched(url)
    assert kept.is_relative_to(folders / "cache")
    assert kept.read_bytes() == tiny_model.read_bytes()
    first = kept.stat().st_mtime_ns
    assert modelcache.fetched(url) == kept
    assert kept.stat().st_mtime_ns == first  # not fetched again
    kept.write_bytes(b"damaged")
    assert modelcache.fetched(url).read_bytes() == tiny_model.read_bytes()
    memory.pipe("/m.onnx", b"another")
    assert modelcache.fetched(url).read_bytes() == b"another"
    assert sorted(path.name for path in kept.parent.parent.rglob("*.onnx")) == ["m.onnx", "m.onnx"]


def test_journals_of_urls_are_kept_apart(folders: Path, tmp_path: Path) -> None:
    one, other = (reportfile.journal_of(Url(f"s3://b/{k}/r.parquet")) for k in "ab")
    assert one != other
    assert one.is_relative_to(folders / "state")
    assert reportfile.journal_of(Url("https://me:hunter2hunter2@h/r.parquet?sig=1")) == reportfile.journal_of(
        Url("https://me:other@h/r.parquet?sig=2")
    )
    assert reportfile.journal_of(tmp_path / "r.parquet") == tmp_path / "r.parquet.journal"


def test_targets_that_cannot_be_written_are_refused_at_once() -> None:
    with pytest.raises(RemoteError, match="read-only"):
        check_target(Url("https://host/r.parquet"))
    with pytest.raises(InputError, match="must end in"):
        check_target(Url("s3://bucket/r.xlsx"))


# --- The web, with passwords and signatures ---------------------------------------------------------


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """A web server without ranges; gives addresses with a password and a signature in them."""
    root = tmp_path / "web"
    root.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(root))

        def do_GET(self) -> None:
            if "slow" in self.path:
                time.sleep(3)
            if "Authorization" in self.headers and SECRETS[1] in self.path:
                super().do_GET()
            else:
                self.send_error(403, f"not with {self.path}")

        def log_message(self, *args: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.server_address[1]
        yield lambda name: f"http://me:{SECRETS[0]}@127.0.0.1:{port}/{name}?X-Amz-Signature={SECRETS[1]}"
        server.shutdown()
        thread.join()


def test_secrets_are_in_no_message_report_or_journal(
    web: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRETS[2])
    root = tmp_path / "web"
    write_sound(root / "good.wav", music(8.0))
    (root / "bad.wav").write_bytes(b"no sound")
    write_sound(root / "slow.wav", music(8.0))
    write_model(root / "m.onnx", calibrated())
    listed = tmp_path / "list"
    listed.write_text("\n".join(map(web, ("good.wav", "bad.wav", "none.wav", "slow.wav"))))
    out, journal = tmp_path / "r.jsonl", tmp_path / "j"
    arguments = ["--files-from", listed, "--model", web("m.onnx"), "-v", "--workers", 1]
    process = start(*arguments, "--out", tmp_path / "r.parquet", "--journal", journal)
    wait_for(lambda: len(journal_rows(journal)) > 0)
    process.send_signal(signal.SIGINT)
    code, said = finish(process)
    assert code == 130
    texts = [said, journal.read_bytes().decode("latin-1")]
    code, said = run(*arguments, "--out", tmp_path / "r.parquet", "--journal", journal)
    assert code == 3, said
    rows = {Path(path).name.removesuffix("?…"): row for path, row in rows_of(tmp_path / "r.parquet").items()}
    assert {name: row["status"] for name, row in rows.items()} == {
        "good.wav": "ok",
        "bad.wav": "unsupported",
        "none.wav": "vanished",
        "slow.wav": "ok",
    }
    assert run(*arguments, "--out", out)[0] == 3
    code, refused = run(web("none.wav"), "--model", web("none.onnx"), "--out", out)
    assert code == 2
    assert "http://***@127.0.0.1" in refused
    texts += [said, refused, out.read_text(), (tmp_path / "r.parquet").read_bytes().decode("latin-1")]
    for secret in SECRETS:
        assert not [text[max(0, text.find(secret) - 150) :][:330] for text in texts if secret in text], secret


@pytest.mark.parametrize(
    ("code", "status"), [(404, "vanished"), (410, "vanished"), (401, "permission_denied"), (503, "unreadable")]
)
def test_only_a_file_that_is_missing_has_vanished(code: int, status: str) -> None:
    class Failing(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(code)

        do_HEAD = do_GET

        def log_message(self, *args: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Failing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with pytest.raises(RemoteError) as found:
            remote.info(Url(f"http://127.0.0.1:{server.server_address[1]}/a.mp3?key={SECRETS[1]}"))
        server.shutdown()
        thread.join()
    assert found.value.status == status
    assert SECRETS[1] not in str(found.value)


def test_a_server_that_does_not_run_makes_no_file_vanish() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(RemoteError, match="connect") as found:
        remote.info(Url(f"http://127.0.0.1:{port}/a.mp3"))
    assert found.value.status == "unreadable"


def test_a_server_that_knows_no_ranges(web: Callable[[str], str], tmp_path: Path) -> None:
    path = write_sound(tmp_path / "web" / "long.wav", music(40.0))
    with sound_at(web("long.wav").encode(), -1, whole=False) as file:
        assert isinstance(file, RemoteFile)
        found = list(read_windows(file, AudioSpec(), WindowPlan(3)))
        assert (file.requests, file.fetched) == (1, path.stat().st_size)
    wanted = list(read_windows(os.fsencode(path), AudioSpec(), WindowPlan(3)))
    assert all(np.array_equal(a.samples, b.samples) for a, b in zip(found, wanted, strict=True))


class Lying(http.server.BaseHTTPRequestHandler):
    """Announces ten bytes; sends 64 MB without saying how many, or five and the end."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "10")
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        with contextlib.suppress(OSError):
            for piece in [b"short"] if "short" in self.path else [bytes(1 << 20)] * 64:
                self.wfile.write(piece)
        self.close_connection = True

    def log_message(self, *args: object) -> None: ...


def test_a_model_has_a_size_limit_whatever_its_server_announces(memory: Any, tmp_path: Path) -> None:
    memory.pipe("/models/big.onnx", bytes(2001))
    with pytest.raises(RemoteError, match="more than the 2000 bytes that are allowed"):
        modelcache.fetched(Url("memory://models/big.onnx"), 2000)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Lying) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        for name, said in (("endless", "more than the 2000 bytes"), ("short", "has 10 bytes, and 5 came")):
            target = tmp_path / name
            with pytest.raises(RemoteError, match=said):
                remote.download(Url(f"http://127.0.0.1:{server.server_address[1]}/{name}.onnx"), target, 2000)
            assert target.stat().st_size <= 8 << 20  # a piece or two
        server.shutdown()
        thread.join()


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_silent_server_at_the_head_of_a_list_holds_up_nothing_else(
    silent: str, web: Callable[[str], str], tmp_path: Path, calibrated_model: Path
) -> None:
    good = [write_sound(tmp_path / f"{k}.wav", music(6.0)) for k in range(3)]
    write_sound(tmp_path / "web" / "far.wav", music(6.0))
    lines = [*(f"{silent}/{k}.wav" for k in range(3)), *map(str, good), web("far.wav")]
    (tmp_path / "list").write_text("\n".join(lines))
    out, journal = tmp_path / "r.parquet", tmp_path / "j"
    arguments = ["--files-from", tmp_path / "list", "--model", calibrated_model, "--out", out, "--journal", journal]
    process = start(*arguments)
    wait_for(lambda: len(journal_rows(journal)) >= 3)  # the last row is written with the next
    process.send_signal(signal.SIGTERM)
    assert finish(process, 60)[0] == 143  # a server may take 120 s for an answer
    code, said = run(*arguments, "--timeout", 2)
    assert code == 3, said
    rows = {Path(path).name: row["status"] for path, row in rows_of(out).items() if path.startswith(silent)}
    assert rows == dict.fromkeys(("0.wav", "1.wav", "2.wav"), "timeout")


@pytest.mark.parametrize(
    "wait",
    [
        lambda url: list(listing([url + "/a.wav", "."])),
        lambda url: listing([url + "/folder/"]),
        lambda url: modelcache.fetched(Url(url + "/model.onnx")),
        lambda url: read_report(Url(url + "/report.parquet")),
        lambda url: check_target(Url(url.replace("http", "ftp") + "/report.parquet")),
    ],
    ids=["list", "stat", "model", "report", "target"],
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_signal_ends_whatever_waits_for_a_silent_server(
    wait: Callable[[str], object], number: signal.Signals, silent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    threading.Timer(0.5, os.kill, (os.getpid(), number)).start()
    began = time.monotonic()
    with pytest.raises(Interrupted) as ended, interruptible():
        wait(silent)
    assert ended.value.code == 128 + number
    assert time.monotonic() - began < 60  # a server may take 120 s for an answer


def test_a_report_at_a_url_has_a_size_limit_whatever_its_server_announces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "MAX_REPORT_BYTES", 2000)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Lying) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with pytest.raises(RemoteError, match="more than the 2000 bytes"):
            read_report(Url(f"http://127.0.0.1:{server.server_address[1]}/endless.parquet"))
        server.shutdown()
        thread.join()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can make others' files")
def test_a_cached_model_that_another_user_names_is_fetched_again(memory: Any, folders: Path) -> None:
    memory.pipe("/models/m.onnx", b"the model")
    url = Url("memory://models/m.onnx")
    modelcache.fetched(url)
    cache = folders / "cache" / "sonicscan" / "models"
    (entry,) = (path for path in cache.iterdir() if path.is_file())
    planted = hashlib.sha256(b"another").hexdigest()
    (cache / planted).mkdir()
    (cache / planted / "m.onnx").write_bytes(b"another")
    entry.write_text(planted)
    assert modelcache.fetched(url).read_bytes() == b"another"  # this user's own entry counts
    os.chown(entry, 12345, 12345)
    assert modelcache.fetched(url).read_bytes() == b"the model"


def test_a_folder_of_a_silent_server_is_given_up_after_the_timeout(silent: str) -> None:
    with pytest.raises(RemoteError, match=r"did not answer within 0\.5 s") as error:
        listing([silent + "/folder/"], timeout_s=0.5)
    assert error.value.status == "timeout"
