"""Statements in XMP: the IPTC's DigitalSourceType, and the address of a manifest that is stored elsewhere.

XMP is searched as text: parsing XML of strangers would expand their entities.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from sonicscan.provenance.statements import Declaration, claim_of_source_type, shortened

_COMMENT = re.compile(r"<!--.*?-->", re.S)
_SOURCE_TYPE = re.compile(r"DigitalSourceType(?:>|(?:\s+rdf:resource)?\s*=\s*[\"'])\s*([^\"'<>]{1,200})")
_REMOTE = re.compile(r"dcterms:provenance\s*(?:=\s*[\"']|>)\s*(https?://[^\"'<>\s]{1,400})")


def declared_in_xmp(xmp: bytes) -> Iterator[Declaration]:
    """The digital source types in an XMP packet that support a claim."""
    for match in _SOURCE_TYPE.finditer(_text(xmp)):
        claim = claim_of_source_type(match[1])
        if claim != "none":
            yield Declaration(claim, "xmp", shortened(html.unescape(match[1])))


def remote_manifest(xmp: bytes) -> str | None:
    """The address of Content Credentials that are stored elsewhere; it is never fetched."""
    match = _REMOTE.search(_text(xmp))
    return None if match is None else shortened(html.unescape(match[1]))


def _text(xmp: bytes) -> str:
    return _COMMENT.sub("", xmp.decode("utf-8", "replace"))
