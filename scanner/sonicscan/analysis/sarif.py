"""The findings of a report as SARIF 2.1.0 (OASIS), for systems that collect the findings of checks.

A result is a track that is flagged, up for review, or declares itself generated. Tracks that failed are notifications.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sonicscan.analysis.catalogue import Catalogue, by_score, identity
from sonicscan.errors import FAILED_STATUSES, ReportError
from sonicscan.files import write_whole
from sonicscan.library.urls import is_url
from sonicscan.provenance.words import described
from sonicscan.report.row import FileResult
from sonicscan.text import printable

SUFFIX = ".sarif"
_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_RULES = {
    "flagged": "The score of the track is at or over the threshold of `flagged`.",
    "review": "The score of the track is at or over the threshold of `review`, and under that of `flagged`.",
    "declared-generated": "The file declares that a generator made it.",
}
_CAUTION = "A score is evidence, not proof. A person should listen to the track before anybody is accused."


def write_sarif(catalogue: Catalogue, rows: Iterable[FileResult], path: Path) -> int:
    """Write the findings among `rows` to `path`; returns their number.

    Raises:
        ReportError: the file cannot be written; an earlier one stays unchanged.
    """
    log = sarif(catalogue, rows)
    try:
        write_whole(path, json.dumps(log, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise ReportError(f"{path} cannot be written: {error.strerror or error}.") from error
    return len(log["runs"][0]["results"])


def sarif(catalogue: Catalogue, rows: Iterable[FileResult]) -> dict[str, Any]:
    """The SARIF log of the findings among `rows`, highest score first."""
    chosen = by_score(rows)
    metadata = catalogue.metadata
    invocation: dict[str, Any] = {
        "executionSuccessful": True,
        "toolExecutionNotifications": [_failure(row) for row in chosen if row.status in FAILED_STATUSES],
    }
    for name, text in (("startTimeUtc", metadata.started), ("endTimeUtc", metadata.finished)):
        if (time := _utc(text)) is not None:
            invocation[name] = time
    limits = catalogue.thresholds
    properties = {
        "model": metadata.model,
        "modelSha256": metadata.model_digest,
        "flaggedFrom": None if limits is None else limits.flagged,
        "maxFalsePositiveRate": None if limits is None else limits.max_fpr,
    }
    rules = [
        {"id": name, "shortDescription": {"text": text}, "help": {"text": _CAUTION}} for name, text in _RULES.items()
    ]
    run = {
        "tool": {"driver": {"name": "sonicscan", "version": metadata.tool_version, "rules": rules}},
        "invocations": [invocation],
        "results": [result for row in chosen for result in _results(row)],
        "properties": {name: value for name, value in properties.items() if value is not None},
    }
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _results(row: FileResult) -> Iterator[dict[str, Any]]:
    score = "-" if row.score is None else f"{row.score:.4f}"
    if row.verdict == "flagged":
        yield _result(row, "flagged", f"Score {score}: flagged.")
    elif row.verdict == "review":
        yield _result(row, "review", f"Score {score}: up for review.")
    if row.provenance is not None and row.provenance.declares_generation:
        yield _result(row, "declared-generated", f"The file {described(row.provenance)}.")


def _result(row: FileResult, rule: str, text: str) -> dict[str, Any]:
    # SARIF, 3.27.9: a result that needs a review by a person is of the kind `review`, and then has no level.
    kind, level = ("review", "none") if rule == "review" else ("fail", "warning")
    found: dict[str, Any] = {
        "ruleId": rule,
        "ruleIndex": list(_RULES).index(rule),
        "kind": kind,
        "level": level,
        "message": {"text": text},
        "locations": [_location(row)],
    }
    if row.content_hash is not None:
        found["partialFingerprints"] = {"contentSha256/v1": row.content_hash}
    values = {"score": row.score, "pValue": row.p_value, "isrc": row.isrc}
    found["properties"] = {name: value for name, value in values.items() if value is not None}
    return found


def _failure(row: FileResult) -> dict[str, Any]:
    text = f"{row.status}: {printable(row.error or 'the file was not scored.')}"
    return {"level": "error", "message": {"text": text}, "locations": [_location(row)]}


def _location(row: FileResult) -> dict[str, Any]:
    name = identity(row)
    if is_url(name):
        uri = quote(name, safe="/:?&=%@+,;~!$'()*[]")
    elif name.startswith(b"/"):
        uri = "file://" + quote(name)
    else:  # a colon in the first part would begin a scheme
        uri = ("./" if b":" in name.partition(b"/")[0] else "") + quote(name)
    return {"physicalLocation": {"artifactLocation": {"uri": uri}}}


def _utc(text: str) -> str | None:
    """A time in the format of SARIF, 3.9; None if the text is not a time."""
    try:
        return dt.datetime.fromisoformat(text).astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError):
        return None
