"""Provenance in scans: in rows, on standard output, in exit codes; and never in a score."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from c2pa_files import GENERATED, authority, signed, sound, store_of
from faults import PROGRAM
from hypothesis import given
from hypothesis import strategies as st
from sounds import encode
from synthesis import music
from tag_files import SUNO, box, comment, in_ogg, with_chunk, with_id3

import sonicscan
from sonicscan.analysis.catalogue import lines
from sonicscan.analysis.evidence import explain
from sonicscan.analysis.explained import sentences
from sonicscan.audio.windows import WindowPlan
from sonicscan.cli.demo import write_sound
from sonicscan.engine.outcome import Outcome, Reading
from sonicscan.engine.rows import track_result
from sonicscan.errors import AudioError, InputError
from sonicscan.library.discovery import listing
from sonicscan.library.ranges import RemoteFile
from sonicscan.library.tracks import Track
from sonicscan.model.loading import load_model
from sonicscan.model.sessions import Device
from sonicscan.provenance.reading import read_provenance
from sonicscan.provenance.record import Provenance
from sonicscan.provenance.trust import load_trust
from sonicscan.provenance.words import described
from sonicscan.report.metadata import with_metadata
from sonicscan.report.row import FileResult
from sonicscan.report.schema import to_batch
from sonicscan.report.writers import write_report
from sonicscan.scanning.resumable import comparable_rows
from sonicscan.scanning.reuse import identified
from sonicscan.scanning.scan import Scan, ScanOptions, now
from sonicscan.scoring.thresholds import Thresholds
from sonicscan.spec import ModelSpec


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A signed file, a tagged one and one that declares nothing, all of the same sound."""
    folder = tmp_path_factory.mktemp("declaring")
    (folder / "plain.mp3").write_bytes(sound("mp3"))
    (folder / "signed.mp3").write_bytes(signed("mp3"))
    (folder / "tagged.mp3").write_bytes(with_id3(sound("mp3"), comment(SUNO)))
    return folder


def by_name(options: ScanOptions, library: Path) -> dict[str, FileResult]:
    return {Path(row.path).name: row for row in Scan(options).score(listing([library]))}


def test_rows_hold_what_files_declare_and_the_same_scores(
    library: Path, calibrated_model: Path, tmp_path: Path
) -> None:
    trust = tmp_path / "trust.pem"
    trust.write_text(authority().pem)
    options = ScanOptions(model=calibrated_model, c2pa_trust=trust)
    rows = by_name(options, library)
    assert {name: row.provenance and row.provenance.claim for name, row in rows.items()} == {
        "plain.mp3": "none",
        "signed.mp3": "generated",
        "tagged.mp3": "generated",
    }
    assert rows["signed.mp3"].provenance is not None
    assert (rows["signed.mp3"].provenance.signature, rows["signed.mp3"].provenance.statement) == ("trusted", GENERATED)
    without = by_name(replace(options, provenance=False, c2pa_trust=None), library)
    assert {name: replace(row, provenance=None, elapsed_ms=0.0) for name, row in rows.items()} == {
        name: replace(row, elapsed_ms=0.0) for name, row in without.items()
    }


provenances = st.builds(
    Provenance,
    claim=st.sampled_from(["generated", "edited_with_ai", "captured", "none", "conflicting"]),
    generator=st.none() | st.text(),
    signature=st.sampled_from(["trusted", "valid_untrusted", "expired", "invalid", "absent", "unverified"]),
    statement=st.none() | st.text(),
)


@given(provenances, st.lists(st.tuples(*[st.floats(-20, 20, width=32)] * 2), min_size=1, max_size=5))
def test_no_declaration_changes_a_score_or_verdict(declared: Provenance, logits: list[tuple[float, float]]) -> None:
    def row(provenance: Provenance | None) -> FileResult:
        outcome = Outcome(status="ok", provenance=provenance)
        starts = [float(k) for k in range(len(logits))]
        reading = Reading(outcome, starts, [np.array(pair, dtype=np.float32) for pair in logits])
        return track_result(Track(b"a", 1, 1), reading, ModelSpec("tiny"), Thresholds(0.5, 0.3))

    assert replace(row(declared), provenance=None) == row(None)
    assert row(declared).provenance == declared


@given(provenances)
def test_a_declaration_survives_the_way_from_the_worker(declared: Provenance) -> None:
    outcome = Outcome(status="ok", provenance=declared)
    assert Outcome.from_header(json.loads(json.dumps(outcome.to_header()))) == outcome


@given(provenances)
def test_a_declaration_in_words_is_one_harmless_line(declared: Provenance) -> None:
    words = described(declared)
    assert (words is None) == (declared.claim == "none" and declared.signature == "absent")
    assert words is None or (words.isprintable() and len(words) > 5)


def test_rows_without_provenance_are_not_those_of_a_scan_that_reads_it() -> None:
    rows = [
        FileResult(path="a", status="ok", size=1, mtime_ns=1, warnings=[], provenance=Provenance()),
        FileResult(path="b", status="ok", size=1, mtime_ns=1, warnings=[]),
    ]
    table = pa.Table.from_batches([to_batch(rows)])
    assert [usable for *_, usable in identified(table, ["provenance"])] == [True, False]
    assert [usable for *_, usable in identified(table, [])] == [True, True]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [PROGRAM, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_fail_on_generated_and_the_line_on_standard_output(
    library: Path, calibrated_model: Path, tmp_path: Path
) -> None:
    common = [library, "--model", calibrated_model]
    done = run(*common, "--fail-on", "flagged,generated")
    assert done.returncode == 1
    assert "declared generated 2" in done.stderr
    lines = {Path(line.split("\t")[3]).name: line.split("\t")[4:] for line in done.stdout.splitlines()}
    assert lines["plain.mp3"] == []
    (signed_line,) = lines["signed.mp3"]
    assert signed_line.startswith("declares itself generated by Acme Music v7; trainedAlgorithmicMedia; signed by Acme")
    (tagged_line,) = lines["tagged.mp3"]
    assert "made with suno" in tagged_line and "no signature" in tagged_line
    report = tmp_path / "r.parquet"
    assert run(*common, "--fail-on", "generated", "--out", report).returncode == 1
    decisions = "".join(f"{library / name},accepted,Kim,2999-01-01\n" for name in ("signed.mp3", "tagged.mp3"))
    (tmp_path / "reviewed.csv").write_text("path,decision,by,date\n" + decisions)
    carried = ["--out", tmp_path / "again.parquet", "--since", report]
    decided = run(*common, "--fail-on", "generated", "--reviewed", tmp_path / "reviewed.csv", *carried)
    assert decided.returncode == 0 and "carried  3 rows" in decided.stderr
    assert run(*common, "--fail-on", "generated", *carried).returncode == 1


def test_a_model_without_verdicts_can_fail_on_generated(library: Path, tiny_model: Path) -> None:
    assert run(library, "--model", tiny_model, "--fail-on", "generated").returncode == 1
    refused = run(library, "--model", tiny_model, "--fail-on", "generated,flagged")
    assert refused.returncode == 2 and "needs verdicts" in refused.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--fail-on", "generated", "--no-provenance"], "exclude --no-provenance"),
        (["--fail-on", "clear"], "'clear' is none of flagged, review, new-flagged, generated"),
        (["--c2pa-trust", "/nowhere/trust.pem"], "the trust list /nowhere/trust.pem cannot be read"),
    ],
)
def test_options_that_make_no_sense(library: Path, tiny_model: Path, options: list[str], said: str) -> None:
    done = run(library, "--model", tiny_model, *options)
    assert done.returncode == 2 and said in " ".join(done.stderr.split()) and not done.stdout


@pytest.mark.parametrize(
    "content", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]
)
def test_a_trust_list_without_certificates_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "trust.pem"
    path.write_bytes(content)
    with pytest.raises(InputError, match="holds no certificates"):
        load_trust(path)


def test_the_library_call_reads_provenance(library: Path, tiny_model: Path) -> None:
    (row,) = sonicscan.scan(library / "tagged.mp3", model=tiny_model)
    assert row.provenance is not None and row.provenance.generator == "Suno"


def test_hostile_manifests_cost_neither_the_track_nor_the_scan(tiny_model: Path, tmp_path: Path) -> None:
    """In the worker, under its limits: a claimed gigabyte, a bomb of boxes, nested CBOR and a cut manifest."""
    library = tmp_path / "hostile"
    library.mkdir()
    whole = signed("wav")
    files = {
        "gigabyte.wav": with_chunk(sound("wav"), b"C2PA", b"\0\0\0\x20jumb" + bytes(24), 1 << 30),
        "boxes.wav": with_chunk(sound("wav"), b"C2PA", box(b"jumb", box(b"cbor", b"") * 50_000)),
        "nested.wav": with_chunk(sound("wav"), b"C2PA", box(b"jumb", box(b"cbor", b"\x81" * 500_000))),
        "cut.wav": whole[: whole.index(b"jumb") + 1000],
    }
    for name, content in files.items():
        (library / name).write_bytes(content)
    rows = by_name(ScanOptions(model=tiny_model), library)
    assert {
        name: (row.status, row.provenance and row.provenance.signature) for name, row in rows.items()
    } == dict.fromkeys(files, ("ok", "unverified"))
    assert all(row.score is not None for row in rows.values())


def test_a_manifest_in_flac_is_checked_and_in_ogg_named(tiny_model: Path, tmp_path: Path) -> None:
    """No library reads the manifest's stream in Ogg (C2PA 2.3, A.3.5); the sound beside it is scored as ever."""
    (tmp_path / "signed.flac").write_bytes(signed("flac"))
    plain = {
        "ogg": write_sound(tmp_path / "plain.ogg", music(6.0)),
        "opus": encode(tmp_path / "plain.opus", music(6.0), 48000, "libopus"),
    }
    for kind, path in plain.items():
        packet = b"\0c2pa" + store_of(signed("wav")) + bytes(70_000 if kind == "ogg" else 0)  # one page, or two
        (tmp_path / f"signed.{kind}").write_bytes(in_ogg(path.read_bytes(), packet))
    rows = by_name(ScanOptions(model=tiny_model), tmp_path)
    assert {row.status for row in rows.values()} == {"ok"}
    assert rows["signed.flac"].provenance is not None
    assert (rows["signed.flac"].provenance.claim, rows["signed.flac"].provenance.signature) == (
        "generated",
        "valid_untrusted",
    )
    for kind in plain:
        found = rows[f"signed.{kind}"]
        assert found.score == pytest.approx(rows[f"plain.{kind}"].score, abs=1e-3)  # another decoder
        assert found.provenance == Provenance(
            signature="unverified",
            source="c2pa",
            statement="Content Credentials are present, not verified: no library reads them in audio/ogg",
        )


def test_behind_a_url_only_the_file_with_a_manifest_is_fetched_whole() -> None:
    def read(content: bytes) -> tuple[Provenance | None, float]:
        with RemoteFile(lambda start, stop: content[start:stop], len(content)) as file:
            found = read_provenance(file, ())
            return found, file.fetched / len(content)

    frames = b"\0" * (8 << 20)  # of a long recording
    plain = with_chunk(sound("wav"), b"more", frames)
    found, share = read(plain)
    assert found == Provenance() and share < 0.1
    found, share = read(signed("wav", content=plain))
    assert found is not None and found.signature == "valid_untrusted" and share == 1.0


def test_a_file_that_fails_on_the_way_has_no_provenance() -> None:
    content = signed("wav", content=with_chunk(sound("wav"), b"more", b"\0" * (4 << 20)))

    def fetch(start: int, stop: int) -> bytes:
        if start <= len(content) // 2 < stop:
            raise AudioError("unreadable", "the network is gone.")
        return content[start:stop]

    with pytest.raises(AudioError, match="the network is gone"), RemoteFile(fetch, len(content)) as file:
        assert read_provenance(file, ()) is None


def test_explain_says_what_the_file_declares(library: Path, calibrated_model: Path) -> None:
    evidence = explain(bytes(library / "tagged.mp3"), load_model(calibrated_model, Device("cpu")), WindowPlan.of(2))
    assert evidence.provenance is not None and evidence.provenance.generator == "Suno"
    text = " ".join(sentences(evidence, None))
    assert "The file declares itself generated by Suno" in text and "does not change the score" in text


def test_rows_of_another_trust_list_are_not_comparable(calibrated_model: Path, tmp_path: Path) -> None:
    trust, report = tmp_path / "trust.pem", tmp_path / "r.parquet"
    trust.write_text(authority().pem)
    options = ScanOptions(model=calibrated_model)
    rows = [FileResult(path="a", status="ok", size=1, mtime_ns=1, warnings=[], provenance=Provenance())]
    plain, trusting = Scan(options), Scan(replace(options, c2pa_trust=trust))
    write_report(with_metadata(pa.Table.from_batches([to_batch(rows)]), plain.metadata(now())), report)
    assert comparable_rows(plain, report) is not None
    assert comparable_rows(trusting, report) is None
    assert trusting.notes[-1].endswith("was made with another trust list: every file is scored again.")


def test_the_plain_table_has_the_declaration_as_its_fifth_field() -> None:
    declared = Provenance(claim="generated", generator="Acme\x1b[31m", signature="trusted", source="c2pa")
    rows = [
        FileResult(path="a", status="ok", score=0.5, size=1, mtime_ns=1, warnings=[], provenance=declared),
        FileResult(path="b", status="ok", score=0.4, size=1, mtime_ns=1, warnings=[], provenance=Provenance()),
    ]
    first, second = lines(rows)
    assert first == "0.5000\t-\tok\ta\tdeclares itself generated by Acme\\x1b[31m; signature trusted"
    assert second == "0.4000\t-\tok\tb"
