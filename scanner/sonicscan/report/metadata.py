"""What a report says about its scan: JSON values under `sonicscan.*` keys of the Parquet schema."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pyarrow as pa

_METADATA_PREFIX = "sonicscan."


def with_metadata(table: pa.Table, metadata: Mapping[str, object]) -> pa.Table:
    """The table with `metadata` (JSON values) stored under `sonicscan.*` keys of its schema."""
    encoded = {_METADATA_PREFIX + k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()}
    return table.replace_schema_metadata(encoded)


def metadata_of(schema: pa.Schema) -> dict[str, str]:
    """The `sonicscan.*` metadata of a report, keys without their prefix; bytes that are not UTF-8 become U+FFFD."""
    return {
        key.decode("utf-8", "replace")[len(_METADATA_PREFIX) :]: value.decode("utf-8", "replace")
        for key, value in (schema.metadata or {}).items()
        if key.startswith(_METADATA_PREFIX.encode())
    }
