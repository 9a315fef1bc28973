"""Ed25519 keys and detached signatures of models and case files.

    key.pem     private key, PEM (PKCS #8), readable by its owner only
    key.pub     public key, PEM (SubjectPublicKeyInfo)
    FILE.sig    the signature: the 64 bytes of RFC 8032, over the bytes of FILE

OpenSSL reads and writes the same formats, so a signature can be checked without sonicscan:

    openssl pkeyutl -verify -pubin -inkey key.pub -rawin -in FILE -sigfile FILE.sig
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sonicscan.errors import SignatureError
from sonicscan.extras import missing_extra
from sonicscan.files import read_small

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SIGNATURE_SUFFIX = ".sig"
SIGNATURE_BYTES = 64
_MAX_KEY_BYTES = 16_384


@dataclass(frozen=True)
class PublicKey:
    """A key that checks signatures.

    Attributes:
        raw: its 32 bytes.
    """

    raw: bytes
    _key: Ed25519PublicKey = field(repr=False, compare=False)

    @classmethod
    def from_pem(cls, pem: bytes, name: str) -> PublicKey:
        """Read a key from the content of a PEM file.

        Args:
            pem: its bytes.
            name: the name of the key in messages.

        Raises:
            SignatureError: not an Ed25519 public key, or the extra `sign` is not installed.
        """
        serialization, ed25519 = _cryptography()
        from cryptography.exceptions import UnsupportedAlgorithm

        try:
            key = serialization.load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise SignatureError(f"{name} is not a public key in PEM; name the .pub file that keygen wrote.") from error
        if not isinstance(key, ed25519.Ed25519PublicKey):
            raise SignatureError(f"{name} is not an Ed25519 key; make one with sonicscan-export keygen.")
        return cls(key.public_bytes_raw(), key)

    @classmethod
    def read(cls, path: Path) -> PublicKey:
        """Read a key from a PEM file.

        Raises:
            SignatureError: it cannot be read, is not an Ed25519 public key, or the extra `sign` is not installed.
        """
        return cls.from_pem(read_small(path, _MAX_KEY_BYTES, f"the public key {path}", SignatureError), str(path))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the raw key, hex; two people can compare it by telephone."""
        return hashlib.sha256(self.raw).hexdigest()

    @property
    def pem(self) -> bytes:
        """The key as a PEM file holds it."""
        serialization, _ = _cryptography()
        pem: bytes = self._key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        return pem

    def signed(self, content: bytes, signature: bytes) -> bool:
        """Whether `signature` was made over `content` with this key's private half."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._key.verify(signature, content)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class PrivateKey:
    """A key that signs."""

    _key: Ed25519PrivateKey = field(repr=False, compare=False)

    @classmethod
    def generate(cls) -> PrivateKey:
        """A new key from the system's random numbers.

        Raises:
            SignatureError: the extra `sign` is not installed.
        """
        _, ed25519 = _cryptography()
        return cls(ed25519.Ed25519PrivateKey.generate())

    @classmethod
    def read(cls, path: Path) -> PrivateKey:
        """Read a key from a PEM file without a passphrase.

        Raises:
            SignatureError: it cannot be read, is not an Ed25519 private key, is encrypted, is readable by other users,
                or the extra `sign` is not installed.
        """
        serialization, ed25519 = _cryptography()
        from cryptography.exceptions import UnsupportedAlgorithm

        pem = read_small(path, _MAX_KEY_BYTES, f"the private key {path}", SignatureError)
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise SignatureError(f"other users may read the private key {path}; run chmod 600 {path} first.")
        try:
            key = serialization.load_pem_private_key(pem, None)
        except TypeError as error:
            raise SignatureError(f"the private key {path} has a passphrase; only keys without one are read.") from error
        except (ValueError, UnsupportedAlgorithm) as error:
            raise SignatureError(
                f"{path} is not a private key in PEM; make one with sonicscan-export keygen."
            ) from error
        if not isinstance(key, ed25519.Ed25519PrivateKey):
            raise SignatureError(f"{path} is not an Ed25519 key; make one with sonicscan-export keygen.")
        return cls(key)

    @property
    def public(self) -> PublicKey:
        """The public key that checks signatures of this key."""
        public = self._key.public_key()
        return PublicKey(public.public_bytes_raw(), public)

    def sign(self, content: bytes) -> bytes:
        """The signature over `content`, 64 bytes."""
        return self._key.sign(content)

    def write(self, path: Path) -> Path:
        """Write both halves as new files, `path` and `path` with the suffix `.pub`; returns the latter.

        Raises:
            SignatureError: a file of that name exists, or cannot be written.
        """
        serialization, _ = _cryptography()
        private = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        public = path.with_suffix(".pub")
        if path == public:
            raise SignatureError(f"{path}: .pub is the suffix of the public key; name the private one KEY.pem.")
        _write_new(public, self.public.pem, 0o644)
        try:
            _write_new(path, private, 0o600)
        except SignatureError:
            public.unlink(missing_ok=True)
            raise
        return public


def signature_path(path: Path) -> Path:
    """The path of a file's detached signature, beside the file."""
    return path.with_name(path.name + SIGNATURE_SUFFIX)


def read_signature(path: Path) -> bytes:
    """Read a detached signature.

    Raises:
        SignatureError: it cannot be read, or does not have 64 bytes.
    """
    signature = read_small(path, _MAX_KEY_BYTES, f"the signature {path}", SignatureError)
    if len(signature) != SIGNATURE_BYTES:
        raise SignatureError(f"{path} is not an Ed25519 signature: it does not have {SIGNATURE_BYTES} bytes.")
    return signature


def check_signature(content: bytes, signature: bytes, key: PublicKey, name: str) -> None:
    """Raise `SignatureError` unless the signature is this key's over `content`; `name` is what the message calls it."""
    if not key.signed(content, signature):
        raise SignatureError(
            f"the signature of {name} does not fit it and the key {key.fingerprint[:16]}: "
            "the file was changed, or another key signed it; do not use it."
        )


def _write_new(path: Path, content: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as error:
        raise SignatureError(f"{path} exists already, and a key is never replaced; choose another name.") from error
    except OSError as error:
        raise SignatureError(f"the key {path} cannot be written: {error.strerror or error}.") from error
    with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
        file.write(content)


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise SignatureError(missing_extra("signatures need the package cryptography", "sign")) from error
    return serialization, ed25519
