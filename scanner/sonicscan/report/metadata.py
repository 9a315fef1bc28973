"""The metadata of a report: JSON values under `sonicscan.*` keys of the Parquet schema."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pyarrow as pa

from sonicscan.errors import ModelError, ReportError
from sonicscan.report.schema import SCHEMA_VERSION
from sonicscan.scoring.thresholds import HIGHEST_THRESHOLD, Thresholds
from sonicscan.spec import ModelSpec
from sonicscan.text import harmless

_PREFIX = b"sonicscan."
_INDEPENDENT = frozenset({"--path", "--status"})  # filters whose choice does not depend on scores
_TIME = re.compile(r"[0-9T:.Z+-]{0,40}")
_PLAIN = frozenset(
    {"schema_version", "tool_version", "key", "model", "model_digest", "model_spec", "started", "finished"}
)


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """The files and folders that one pattern left out of a scan.

    Attributes:
        pattern: in the syntax of .gitignore.
        origin: `--exclude`, or the name of the ignore file.
        files, folders: how many it matched; files below a matched folder are not counted.
    """

    pattern: str
    origin: str
    files: int
    folders: int


@dataclass(frozen=True, kw_only=True)
class ReportMetadata:
    """How the rows of a report were made. docs/columns.md describes each key.

    Attributes:
        key: digest of all that must be equal for two rows to be comparable; None where rows are of several scans.
        model: file name of the model.
        model_digest: SHA-256 of the model file.
        model_spec: the model's contract, as its JSON text.
        options: the options of the scan.
        command: the command line, as `--replay` reads it: values by option.
        left_out: the files and folders that patterns left out of the scan.
        thresholds: the thresholds of the verdicts; None without verdicts.
        shards: (i, n) of every shard of the library that the report holds; empty for a whole library.
        roots: how the paths below each folder begin, and a digest of the folder's real path.
        differences: how the tracks differ from those that the model was calibrated on, in sentences.
        filtered: the filters that selected the rows of a scan, as options; None if the report has all rows.
        started, finished: ISO 8601, UTC.
    """

    schema_version: str = str(SCHEMA_VERSION)
    tool_version: str = ""
    key: str | None = None
    model: str | None = None
    model_digest: str | None = None
    model_spec: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    command: dict[str, Any] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()
    thresholds: Thresholds | None = None
    shards: tuple[tuple[int, int], ...] = ()
    roots: tuple[tuple[str, str], ...] = ()
    differences: tuple[str, ...] = ()
    filtered: str | None = None
    started: str = ""
    finished: str = ""

    @classmethod
    def of(cls, schema: pa.Schema, name: object) -> ReportMetadata:
        """The metadata of a report; keys that this version does not know are left out.

        Args:
            schema: of the Parquet file.
            name: of the report, for messages.

        Raises:
            ReportError: a value is not JSON, or of another type.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        values: dict[str, Any] = {}
        for key, text in metadata_of(schema).items():
            if key not in known:
                continue
            try:
                values[key] = text if key in _PLAIN else json.loads(text)
            except (ValueError, RecursionError) as error:
                raise ReportError(f"the metadata `{key}` of {name} is not JSON ({error}).") from error
            if values[key] is None:
                del values[key]
        try:
            found = msgspec.convert(values, cls)
        except (msgspec.ValidationError, OverflowError) as error:
            raise ReportError(f"the metadata of {name} is not valid: {error}.") from error
        if found.thresholds is not None and not 0.0 <= found.thresholds.flagged <= HIGHEST_THRESHOLD:
            raise ReportError(f"the thresholds in {name} are not valid: a threshold is a score between 0 and 1.")
        if not all(_TIME.fullmatch(time) for time in (found.started, found.finished)):
            raise ReportError(f"the times in {name} are not valid: a time is ISO 8601.")
        if not all(1 <= i <= n for i, n in found.shards):
            raise ReportError(f"the shards in {name} are not valid: shard I of N has 1 <= I <= N.")
        return found

    def keys(self) -> dict[str, str]:
        """The values as text, by key; those that are None are left out."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        if self.thresholds is not None:
            values["thresholds"] = dataclasses.asdict(self.thresholds)
        values["left_out"] = [dataclasses.asdict(rule) for rule in self.left_out]
        kept = {key: value for key, value in values.items() if value is not None}
        return {key: value if key in _PLAIN else json.dumps(value) for key, value in kept.items()}

    @property
    def model_name(self) -> str:
        """File name of the model, and the start of its digest."""
        return f"{self.model or 'unknown model'} ({(self.model_digest or '')[:12] or 'no digest'})"

    @property
    def windows(self) -> str | None:
        """The window plan of the scan, as `--windows` takes it."""
        return None if "windows" not in self.options else str(self.options["windows"])

    @property
    def selected(self) -> bool:
        """Whether a filter selected the rows by score, verdict or decision; shares and p-values are then wrong."""
        if self.filtered is None:
            return False
        options = _options_in(self.filtered)
        return not options or not options <= _INDEPENDENT

    @property
    def chosen(self) -> str:
        """What a report with `filtered` holds, in words for people."""
        return f"only the tracks that {harmless(self.filtered or '')} selected"

    @property
    def missing_shards(self) -> bool:
        """Whether the report has some shards of a library and not all of them."""
        counts = {n for _, n in self.shards}
        return len(counts) > 1 or any(len(set(self.shards)) < n for n in counts)

    def may_lack_flags_of(self, new: ReportMetadata) -> bool:
        """Whether this report may lack tracks of `new` that were flagged, so that old flags look like new ones.

        A filter keeps all flags if it takes all flagged tracks. Filters by path are assumed to be equal.
        """
        for step in [] if self.filtered is None else self.filtered.split(" then "):
            options = _options_in(step)
            by_path = options == {"--path"} and self.filtered == new.filtered
            if not by_path and not (options == {"--verdict"} and "flagged" in step.split()):
                return True
        return self.missing_shards and not (new.shards and set(new.shards) <= set(self.shards))

    def require_flags_of(self, new: ReportMetadata, name: object) -> None:
        """Raise `ReportError` if this report, the older one, may lack flags of `new`.

        Args:
            new: the later report of the library.
            name: of this report, for the message.
        """
        if self.may_lack_flags_of(new):
            what = "only some shards of its library" if self.filtered is None else self.chosen
            raise ReportError(
                f"{name} has {what}, so flags that it lacks would count as new; compare with the report of all tracks."
            )

    def joined(self, filtered: str) -> str | None:
        """The value of `filtered` after a further filter, whose options are empty if it takes all rows."""
        return " then ".join(filter(None, (self.filtered, filtered))) or None

    def spec(self, name: object) -> ModelSpec | None:
        """The model's contract; None where the report does not hold one.

        Raises:
            ModelError: the contract is of a version that this program does not read.
        """
        try:
            return ModelSpec.from_json(self.model_spec) if self.model_spec else None
        except ModelError as error:
            raise ModelError(f"{name}: {error}") from error

    def without_model(self) -> ReportMetadata:
        """The same metadata without the values that depend on the model, for reports of several models."""
        return dataclasses.replace(self, key=None, model=None, model_digest=None, model_spec=None, thresholds=None)


def with_metadata(table: pa.Table, metadata: ReportMetadata | Mapping[str, str]) -> pa.Table:
    """The table with `metadata` stored under `sonicscan.*` keys of its schema."""
    keys = metadata.keys() if isinstance(metadata, ReportMetadata) else metadata
    return table.replace_schema_metadata({_PREFIX + key.encode(): value for key, value in dict(keys).items()})


def metadata_of(schema: pa.Schema) -> dict[str, str]:
    """The `sonicscan.*` metadata of a report, keys without their prefix; bytes that are not UTF-8 become U+FFFD."""
    return {
        key.decode("utf-8", "replace")[len(_PREFIX) :]: value.decode("utf-8", "replace")
        for key, value in (schema.metadata or {}).items()
        if key.startswith(_PREFIX)
    }


def _options_in(filtered: str) -> set[str]:
    """The names of the options in the words of a filter."""
    return {word for word in filtered.split() if word.startswith("--")}
