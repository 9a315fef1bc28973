"""Content Credentials (C2PA): reads a manifest and checks its signature, if c2pa-python is installed.

Nothing is fetched: manifests that are stored elsewhere are only named, and revocation of certificates is not checked.
"""

from __future__ import annotations

import datetime as dt
import functools
import io
import json
import time
from dataclasses import dataclass
from typing import Any

from sonicscan.provenance.containers import MAX_STORE, Embedded, read_store
from sonicscan.provenance.jumbf import problem_of
from sonicscan.provenance.manifests import declared_in_manifests
from sonicscan.provenance.record import Signature
from sonicscan.provenance.statements import Declaration, shortened

MAX_FILE = 4 << 30  # bytes of a file whose signature is checked: all of them are hashed
MAX_S = 30.0
_NAME = 200
_READ_PER_BYTE = 8  # times that a reader may go over the file
_NOT_READ = {"audio/ogg"}  # in the specification since version 2.3; c2pa-python 0.38 does not read it
_NOT_IN_FORCE = {"signingCredential.expired", "claimSignature.outsideValidity"}


@dataclass(frozen=True)
class Credentials:
    """The Content Credentials of a file; fields as in `Provenance`."""

    declaration: Declaration
    signature: Signature
    signer: str | None = None
    signed_at: str | None = None


def read_credentials(file: io.RawIOBase, found: Embedded, trust: str | None) -> Credentials:
    """Read the manifest that `found` names and check its signature.

    Args:
        file: the whole file, open.
        found: where the manifest is.
        trust: certificates of trusted roots, PEM; with None, no signature is `trusted`.
    """
    if found.mime in _NOT_READ:
        return _unverified(f"no library reads them in {found.mime}")
    if found.size > MAX_STORE:
        return _unverified(f"their manifest of {found.size:,} bytes is too large")
    problem = problem_of(read_store(file, found))
    if problem is not None:
        return _unverified(f"their manifest is not read: {problem}")
    try:
        import c2pa
    except ImportError:
        return _unverified("the extra `provenance` is not installed")
    file.seek(0, io.SEEK_END)
    size = file.tell()
    if size > MAX_FILE:
        return _unverified(f"the file of {size:,} bytes is too large")
    stream = io.BufferedReader(_Bounded(file, size), 1 << 20)
    try:
        with c2pa.Reader(found.mime, stream, context=_context(trust)) as reader:
            store = json.loads(reader.json())
            signature = _signature(store)
            if signature == "expired" and _signed_in_time(store, json.loads(reader.crjson())):
                signature = "valid_untrusted"
    except c2pa.C2paError as error:
        return _unverified(f"c2pa: {error}")
    except (ValueError, RecursionError) as error:
        return _unverified(f"c2pa wrote no JSON: {error}")
    signed = _dict(_active(store).get("signature_info"))
    signer = signed.get("issuer") or signed.get("common_name")
    return Credentials(
        declared_in_manifests(store),
        signature,
        shortened(signer, _NAME) if isinstance(signer, str) else None,
        _utc(signed.get("time")),
    )


def _unverified(why: str) -> Credentials:
    statement = shortened(f"Content Credentials are present, not verified: {why}")
    return Credentials(Declaration("none", "c2pa", statement), "unverified")


@functools.lru_cache(maxsize=1)
def _context(trust: str | None) -> Any:
    """c2pa's settings: nothing goes over the network."""
    import c2pa

    settings: dict[str, Any] = {
        "verify": {
            "verify_after_reading": True,
            "verify_trust": True,
            "remote_manifest_fetch": False,
            "ocsp_fetch": False,
        }
    }
    if trust is not None:
        settings["trust"] = {"trust_anchors": trust}
    return c2pa.Context.from_dict(settings)


def _signature(store: dict[str, Any]) -> Signature:
    """The result of c2pa's validation in one word."""
    state = store.get("validation_state")
    results = _dict(_dict(store.get("validation_results")).get("activeManifest"))
    failures = _codes(results, "failure") - {"signingCredential.untrusted"}
    if state == "Trusted":
        return "trusted"
    if state == "Valid" and not failures:
        return "valid_untrusted"
    if failures and failures <= _NOT_IN_FORCE:
        return "expired"
    return "invalid"


def _signed_in_time(store: dict[str, Any], facts: dict[str, Any]) -> bool:
    """Whether a time stamp proves that the certificate was valid at the time of the signature.

    Args:
        store: c2pa's report.
        facts: the same as crJSON, which holds the certificate's dates.
    """
    results = _dict(_dict(store.get("validation_results")).get("activeManifest"))
    if "timeStamp.validated" not in _codes(results, "success"):
        return False
    for manifest in facts.get("manifests") or []:
        if _dict(manifest).get("label") == store.get("active_manifest"):
            signature = _dict(_dict(manifest).get("signature"))
            validity = _dict(_dict(signature.get("certificateInfo")).get("validity"))
            times = [validity.get("notBefore"), _dict(signature.get("timeStampInfo")).get("timestamp")]
            first, signed, last = (_utc(text) for text in (*times, validity.get("notAfter")))
            return first is not None and signed is not None and last is not None and first <= signed <= last
    return False


def _codes(results: dict[str, Any], kind: str) -> set[str]:
    return {str(_dict(entry).get("code")) for entry in results.get(kind) or []}


def _active(store: dict[str, Any]) -> dict[str, Any]:
    return _dict(_dict(store.get("manifests")).get(str(store.get("active_manifest"))))


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _utc(text: object) -> str | None:
    """A time as ISO 8601 in UTC; None if the text is not a time."""
    if not isinstance(text, str):
        return None
    try:
        return dt.datetime.fromisoformat(text).astimezone(dt.UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError):
        return None


class _Bounded(io.RawIOBase):
    """A file that raises after `MAX_S` seconds, or after it was read several times."""

    def __init__(self, file: io.RawIOBase, size: int) -> None:
        self._file = file
        self._left = _READ_PER_BYTE * size + MAX_STORE
        self._end = time.monotonic() + MAX_S

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        content = self._file.read(len(buffer)) or b""
        self._left -= len(content)
        if self._left < 0 or time.monotonic() > self._end:
            raise OSError("the manifest takes too long to read")
        buffer[: len(content)] = content
        return len(content)
