"""Reads the `Provenance` of a file: Content Credentials first, then tags, then XMP."""

from __future__ import annotations

from collections.abc import Iterable

from sonicscan.audio.sources import open_regular
from sonicscan.library.ranges import OpenFile
from sonicscan.provenance.containers import Embedded, find_embedded
from sonicscan.provenance.credentials import Credentials, read_credentials
from sonicscan.provenance.record import Claim, Provenance
from sonicscan.provenance.statements import Declaration, declared_in_tags, shortened
from sonicscan.provenance.xmp import declared_in_xmp, remote_manifest


def read_provenance(
    path: bytes | OpenFile, texts: Iterable[tuple[str, str]], trust: str | None = None
) -> Provenance | None:
    """The declaration of a file about its own origin; None if the file cannot be read.

    Reads only chunk headers and XMP of a file without a manifest. Reads a file with a manifest in full, since its
    signature covers the whole file.

    Args:
        path: the file's name, as bytes, or an open file.
        texts: the file's tags, as (name in lower case, text).
        trust: certificates of trusted roots, PEM; None for none.
    """
    try:
        with open_regular(path) as file:
            found = find_embedded(file)
            credentials = read_credentials(file, found, trust) if found.size > 0 else None
        if not isinstance(path, bytes):
            path.check()  # a signature of a partly fetched file cannot be checked
    except Exception:  # noqa: BLE001 - what is wrong with a declaration costs the declaration, never the track
        return None
    return _provenance(found, texts, credentials)


def _provenance(found: Embedded, texts: Iterable[tuple[str, str]], credentials: Credentials | None) -> Provenance:
    declarations = [] if credentials is None else [credentials.declaration]
    declarations += declared_in_tags(texts)
    declarations += declared_in_xmp(found.xmp)
    remote = remote_manifest(found.xmp) if credentials is None else None
    if remote is not None:
        statement = f"Content Credentials are stored elsewhere, not fetched: {remote}"
        declarations.append(Declaration("none", "xmp", shortened(statement)))
    combined = combine(declarations)
    return Provenance(
        claim=combined.claim,
        generator=combined.generator,
        generator_version=combined.generator_version,
        signer=None if credentials is None else credentials.signer,
        signed_at=None if credentials is None else credentials.signed_at,
        signature=credentials.signature if credentials is not None else "absent" if remote is None else "unverified",
        source=combined.source if combined.statement or credentials is not None else None,
        statement=combined.statement or None,
    )


def combine(declarations: list[Declaration]) -> Declaration:
    """Join several declarations of one file; earlier ones take precedence.

    A track that is declared both recorded and generated gets the claim `conflicting`. All generators are named.
    """
    claims = {declaration.claim for declaration in declarations}
    if "conflicting" in claims or {"generated", "captured"} <= claims:
        claim: Claim = "conflicting"
        chosen = [d for d in declarations if d.claim != "none"]
    else:
        claim = next((c for c in ("generated", "edited_with_ai", "captured") if c in claims), "none")
        chosen = [d for d in declarations if d.claim == claim]
    if not chosen:
        return Declaration("none", "tag", "")
    first = next((d for d in chosen if d.statement), chosen[0])
    named = [d for d in chosen if d.generator]
    generators = {d.generator.casefold(): d.generator for d in reversed(named) if d.generator}
    statements = dict.fromkeys(d.statement for d in chosen) if claim == "conflicting" else [first.statement]
    return Declaration(
        claim,
        first.source,
        shortened("; ".join(statements)),
        ", ".join(reversed(generators.values())) or None,
        next((d.generator_version for d in named), None),
    )
