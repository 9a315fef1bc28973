"""Checks a model file before it is opened, against a digest or a signature that the user requires."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sonicscan.errors import InputError, ModelError
from sonicscan.library import remote
from sonicscan.library.urls import Location, Url
from sonicscan.signing import SIGNATURE_SUFFIX, PublicKey, check_signature, read_signature, signature_path

_MAX_SIGNATURE_BYTES = 1000


@dataclass(frozen=True)
class Trust:
    """The digest and the key that a model file is checked against.

    Attributes:
        sha256: its digest, hex; None for any.
        key: the key that signed it; None for none.
        signature: the signature, where there is a key.
    """

    sha256: str | None = None
    key: PublicKey | None = None
    signature: bytes = b""

    def check(self, path: Path, blob: bytes, digest: str) -> None:
        """Raise `ModelError` or `SignatureError` unless the file is the one that is trusted.

        Args:
            path: for messages.
            blob: the file's bytes, as they will be used.
            digest: their SHA-256, hex.
        """
        if self.sha256 is not None and digest != self.sha256:
            raise ModelError(
                f"{path} has the SHA-256 {digest}, and --model-sha256 requires {self.sha256}; "
                "get the model again, or correct the digest."
            )
        if self.key is not None:
            check_signature(blob, self.signature, self.key, str(path))


ANY = Trust()


def trust_of(sha256: str | None, key: Path | None, model: Location) -> Trust:
    """Reads the values of `--model-sha256` and `--model-key`.

    Args:
        sha256: 64 hexadecimal digits, or None.
        key: the file of a public key, or None; the signature is then read from the file `MODEL.sig` beside the model.
        model: the model's file or URL.

    Raises:
        InputError: not a digest.
        SignatureError, RemoteError: the key or the signature cannot be read.
    """
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise InputError(f"a SHA-256 has 64 hexadecimal digits, not {sha256!r}; sha256sum prints it.")
    digest = None if sha256 is None else sha256.lower()
    if key is None:
        return Trust(digest)
    return Trust(digest, PublicKey.read(key), _signature_of(model))


def _signature_of(model: Location) -> bytes:
    if not isinstance(model, Url):
        return read_signature(signature_path(model))
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / "signature"
        remote.download(model.beside(model.name + SIGNATURE_SUFFIX), local, _MAX_SIGNATURE_BYTES)
        return read_signature(local)
