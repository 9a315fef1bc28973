"""Statements in XMP: the IPTC's DigitalSourceType, China's AIGC label, and the address of a manifest elsewhere.

XMP is searched as text, because parsing untrusted XML would expand its entities.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import replace

from sonicscan.provenance.statements import Declaration, claim_of_source_type, declared_in_tags, shortened

_SOURCE_TYPE = re.compile(r"DigitalSourceType(?:>|(?:\s+rdf:resource)?\s*=\s*[\"'])\s*([^\"'<>]{1,200})")
# A JSON object, as an element or as an attribute of the TC260 namespace (GB 45438-2025).
_AIGC = re.compile(r"\bTC260:AIGC\s*(?:>\s*([^<]{2,4000})<|=\s*\"([^\"<]{2,4000})\"|=\s*'([^'<]{2,4000})')")
_REMOTE = re.compile(r"dcterms:provenance\s*(?:=\s*[\"']|>)\s*(https?://[^\"'<>\s]{1,400})")


def declared_in_xmp(xmp: bytes) -> Iterator[Declaration]:
    """The digital source types and AIGC labels in an XMP packet that support a claim."""
    text = _text(xmp)
    for match in _SOURCE_TYPE.finditer(text):
        claim = claim_of_source_type(match[1])
        if claim != "none":
            yield Declaration(claim, "xmp", shortened(html.unescape(match[1])))
    labels = [("aigc", html.unescape(match[match.lastindex or 0])) for match in _AIGC.finditer(text)]
    yield from (replace(found, source="xmp") for found in declared_in_tags(labels))


def remote_manifest(xmp: bytes) -> str | None:
    """The address of Content Credentials that are stored elsewhere; it is never fetched."""
    match = _REMOTE.search(_text(xmp))
    return None if match is None else shortened(html.unescape(match[1]))


def _text(xmp: bytes) -> str:
    """The text of a packet without its comments. A regular expression would take quadratic time for open comments."""
    text, parts, at = xmp.decode("utf-8", "replace"), [], 0
    while (begin := text.find("<!--", at)) >= 0 and (end := text.find("-->", begin + 4)) >= 0:
        parts.append(text[at:begin])
        at = end + 3
    return "".join([*parts, text[at:]])
