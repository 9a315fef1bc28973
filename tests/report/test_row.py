"""Every row fits the report's columns, whatever a file says of itself."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sonicscan.provenance.record import Provenance
from sonicscan.report.row import OUT_OF_RANGE, FileResult
from sonicscan.report.schema import to_batch, to_results
from sonicscan.report.writers import json_line

LAW = settings(derandomize=True, deadline=None, max_examples=300)
WHOLE = st.integers(-(1 << 70), 1 << 70)
TEXT = st.text(st.characters(exclude_categories=()), max_size=12)  # lone surrogates too
REAL = st.floats()
PLAIN = {"path": "a.wav", "status": "ok", "size": 1, "mtime_ns": 1, "warnings": []}


@LAW
@given(
    st.fixed_dictionaries(
        {"path": TEXT, "size": WHOLE, "mtime_ns": WHOLE},
        optional=dict.fromkeys(("sample_rate", "channels", "windows", "silent_windows"), WHOLE)
        | dict.fromkeys(
            ("duration_s", "bandwidth_hz", "loudness_db", "elapsed_ms", "flagged_s", "log10_lr", "p_value"), REAL
        )
        | dict.fromkeys(("error", "decision", "title", "artist", "album", "isrc", "codec"), TEXT),
    ),
    TEXT,
)
def test_a_strange_file_never_costs_another_one_its_row(values: dict[str, Any], statement: str) -> None:
    row = FileResult(**{**PLAIN, **values}, provenance=Provenance(statement=statement))
    ordinary = FileResult(**PLAIN)
    assert next(to_results(to_batch([ordinary]))) == ordinary
    batch = to_batch([row, ordinary])
    batch.validate(full=True)
    assert batch.column("path").to_pylist()[1] == "a.wav"
    again = next(to_results(batch))
    assert FileResult(**{f.name: getattr(again, f.name) for f in dataclasses.fields(again)}) == again
    assert json.loads(json_line(row).encode())["status"] == "ok"
    unchanged = all(getattr(row, name) == value for name, value in values.items())
    assert (OUT_OF_RANGE in row.warnings) == (not unchanged or row.provenance != Provenance(statement=statement))


def test_values_out_of_range_are_clamped_or_left_out() -> None:
    row = FileResult(
        **PLAIN | {"mtime_ns": 10_413_792_000_000_000_000, "size": -(1 << 80)},
        sample_rate=1 << 31,
        channels=40_000,
        duration_s=float("inf"),
        bandwidth_hz=1e300,
        title="caf\udce9",
    )
    assert (row.mtime_ns, row.size) == ((1 << 63) - 1, -(1 << 63))
    assert (row.sample_rate, row.channels, row.duration_s, row.bandwidth_hz) == (None, None, None, None)
    assert row.title == "caf\\udce9"
    assert row.warnings == [OUT_OF_RANGE]
