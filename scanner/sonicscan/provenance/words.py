"""A declaration in words, for tables, pages and messages."""

from __future__ import annotations

from sonicscan.provenance.record import Claim, Provenance, Signature
from sonicscan.text import printable

CLAIM_WORDS: dict[Claim, str] = {
    "generated": "declares itself generated",
    "edited_with_ai": "declares edits by AI",
    "captured": "declares itself recorded",
    "conflicting": "declares itself both recorded and generated",
    "none": "declares nothing about AI",
}
SIGNATURE_WORDS: dict[Signature, str] = {
    "trusted": "signature trusted",
    "valid_untrusted": "signature valid, signer not confirmed",
    "expired": "signed with an expired certificate",
    "invalid": "signature does not match: file or manifest were changed",
    "unverified": "Content Credentials not verified",
    "absent": "no signature",
}


def described(provenance: Provenance | None) -> str | None:
    """A declaration on one line; None where the file declares nothing and has no Content Credentials."""
    if provenance is None or (provenance.claim == "none" and provenance.signature == "absent"):
        return None
    maker = " ".join(part for part in (provenance.generator, provenance.generator_version) if part)
    signed = f"signed by {provenance.signer}" if provenance.signer else None
    if signed is not None and provenance.signed_at:
        signed += f" on {provenance.signed_at[:10]}"
    where = "in a tag" if provenance.source == "tag" else "in XMP" if provenance.source == "xmp" else None
    statement = provenance.statement
    if statement is not None and provenance.source == "c2pa" and provenance.claim != "none":
        statement = statement.rpartition("/")[2]
    parts = [
        CLAIM_WORDS[provenance.claim] + (f" by {maker}" if maker and provenance.claim != "none" else ""),
        statement,
        where if provenance.claim != "none" else None,
        signed,
        SIGNATURE_WORDS[provenance.signature],
    ]
    return printable("; ".join(part for part in parts if part))
