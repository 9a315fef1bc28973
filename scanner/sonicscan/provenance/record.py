"""What a file declares about its own origin, as the report's column `provenance` holds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Claim = Literal["generated", "edited_with_ai", "captured", "none", "conflicting"]
Signature = Literal["trusted", "valid_untrusted", "expired", "invalid", "absent", "unverified"]
Source = Literal["c2pa", "tag", "xmp"]

GENERATION: tuple[Claim, ...] = ("generated", "conflicting")  # a statement that a generator made the file is among them


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What a file declares about its own origin. docs/provenance.md says what each value proves.

    Attributes:
        claim: how the file says that it was made; `none` where it does not say.
        generator: the program that the file names as its maker.
        generator_version: the version of that program or of its model.
        signer: the organisation in the signing certificate.
        signed_at: time of the signature, ISO 8601 in UTC.
        signature: what checking the signature gave.
        source: where the claim was found; None where there is none.
        statement: the text, or the digitalSourceType, that makes the claim.
    """

    claim: Claim = "none"
    generator: str | None = None
    generator_version: str | None = None
    signer: str | None = None
    signed_at: str | None = None
    signature: Signature = "absent"
    source: Source | None = None
    statement: str | None = None

    @property
    def declares_generation(self) -> bool:
        """Whether a statement says that a generator made the file, even if another statement contradicts it."""
        return self.claim in GENERATION
