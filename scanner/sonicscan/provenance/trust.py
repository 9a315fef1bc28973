"""Trust lists: the root certificates that make a signature `trusted`."""

from __future__ import annotations

from pathlib import Path

from sonicscan.errors import InputError
from sonicscan.extras import missing_extra
from sonicscan.files import read_small

MAX_LIST = 4 << 20  # bytes


def load_trust(path: Path) -> str:
    """The certificates of a trust list, PEM.

    Raises:
        InputError: the extra `provenance` is not installed, or the file cannot be read or holds no certificates.
    """
    try:
        import c2pa  # noqa: F401 - without c2pa, the trust list would have no effect
        from cryptography import x509
    except ImportError as error:
        raise InputError(missing_extra("--c2pa-trust needs c2pa-python", "provenance")) from error
    content = read_small(path, MAX_LIST, f"the trust list {path}", InputError)
    try:
        if not x509.load_pem_x509_certificates(content):
            raise ValueError("it is empty")
        return content.decode("ascii", "ignore")
    except ValueError as error:
        raise InputError(f"the trust list {path} holds no certificates in PEM form ({error}).") from error
