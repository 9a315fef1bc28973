"""Sound files with Content Credentials, signed here by certificates of a certificate authority that is made here."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import http.server
import io
import json
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import c2pa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from sounds import encode
from synthesis import music

from sonicscan.cli.demo import write_sound

MIME = {"mp3": "audio/mpeg", "wav": "audio/wav", "m4a": "audio/mp4", "flac": "audio/flac"}
TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
GENERATED = TYPES + "trainedAlgorithmicMedia"
DAY_S = 86_400.0


@functools.cache
def sound(kind: str) -> bytes:
    """Six seconds of synthetic music as a file of this kind, without a manifest."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{kind}"
        if kind == "m4a":
            encode(path, music(6.0), 44100, "aac")
        else:
            write_sound(path, music(6.0))
        return path.read_bytes()


@dataclass(frozen=True)
class Authority:
    """A certificate authority."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def new(cls) -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("Test root", "Test authority")
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = _builder(key, name, name, -10 * DAY_S, 10 * DAY_S)
        builder = builder.add_extension(x509.BasicConstraints(True, None), True).add_extension(usage, True)
        return cls(key, builder.sign(key, hashes.SHA256()))

    @property
    def pem(self) -> str:
        """The root certificate: what a trust list holds."""
        return _pem(self.certificate).decode()

    def issue(
        self,
        organisation: str,
        lasts_s: float,
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.EMAIL_PROTECTION,
    ) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        """A key and its certificate, which is valid for `lasts_s` seconds from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        key_usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
        builder = (
            _builder(key, _name("Test signer", organisation), self.certificate.subject, -DAY_S, lasts_s)
            .add_extension(x509.BasicConstraints(False, None), True)
            .add_extension(key_usage, True)
            .add_extension(x509.ExtendedKeyUsage([usage]), usage == ExtendedKeyUsageOID.TIME_STAMPING)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False)
        )
        return key, builder.sign(self.key, hashes.SHA256())

    def signer(self, organisation: str = "Acme Records", lasts_s: float = DAY_S, ta_url: str | None = None) -> Any:
        """The signer for c2pa."""
        key, certificate = self.issue(organisation, lasts_s)
        chain = _pem(certificate) + _pem(self.certificate)
        return c2pa.Signer.from_info(
            c2pa.C2paSignerInfo(
                alg=b"es256",
                sign_cert=chain,
                private_key=key_pem(key),
                ta_url=None if ta_url is None else ta_url.encode(),
            )
        )


@functools.cache
def authority() -> Authority:
    return Authority.new()


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    none = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, none)


@dataclass(frozen=True)
class Ingredient:
    """A signed file that another one was made from."""

    content: bytes
    kind: str = "mp3"
    relationship: str = "componentOf"


def signed(
    kind: str,
    actions: str | Sequence[dict[str, Any]] = GENERATED,
    *,
    signer: Any = None,
    generator: tuple[str, str] = ("Acme Music", "v7"),
    ingredients: Sequence[Ingredient] = (),
    content: bytes | None = None,
    assertions: Sequence[dict[str, Any]] = (),
    edit: bool = False,
) -> bytes:
    """A sound file with a manifest.

    Args:
        kind: key of `MIME`.
        actions: of the manifest; a text is the digitalSourceType of `c2pa.created`.
        signer: None for a certificate of `authority()` that is valid for a day.
        generator: name and version of the program that wrote the manifest.
        ingredients: what the track was made from.
        content: the file without the manifest; None for `sound(kind)`.
        assertions: further ones.
        edit: `content` is an earlier version of the track; its manifest becomes that of the parent.
    """
    if isinstance(actions, str):
        actions = [{"action": "c2pa.created", "digitalSourceType": actions}]
    manifest = {
        "claim_generator_info": [{"name": generator[0], "version": generator[1]}],
        "format": MIME[kind],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": list(actions)}}, *assertions],
    }
    builder = c2pa.Builder(json.dumps(manifest))
    for k, ingredient in enumerate(ingredients):
        facts = {"title": f"part {k}", "relationship": ingredient.relationship}
        builder.add_ingredient(json.dumps(facts), MIME[ingredient.kind], io.BytesIO(ingredient.content))
    if edit:
        builder.set_intent(c2pa.C2paBuilderIntent.EDIT)
    target = io.BytesIO()
    builder.sign(signer or authority().signer(), MIME[kind], io.BytesIO(content or sound(kind)), target)
    return target.getvalue()


def store_of(content: bytes) -> bytes:
    """The manifest store of a signed file."""
    start = content.index(b"jumb") - 4
    return content[start : start + int.from_bytes(content[start : start + 4], "big")]


def signed_elsewhere(kind: str, url: str) -> bytes:
    """A sound file whose manifest lies at `url`."""
    actions = [{"action": "c2pa.created", "digitalSourceType": GENERATED}]
    assertions = [{"label": "c2pa.actions.v2", "data": {"actions": actions}}]
    builder = c2pa.Builder(json.dumps({"claim_generator_info": [{"name": "Acme"}], "assertions": assertions}))
    builder.set_no_embed()
    builder.set_remote_url(url)
    target = io.BytesIO()
    builder.sign(authority().signer(), MIME[kind], io.BytesIO(sound(kind)), target)
    return target.getvalue()


@functools.cache
def outlived(ta_url: str | None = None) -> bytes:
    """An MP3 whose certificate was valid at signing and has expired since."""
    ends = time.time() + 2.0
    content = signed("mp3", signer=authority().signer("Acme Records", 2.0, ta_url))
    time.sleep(max(0.0, ends - time.time()) + 1.1)
    return content


@contextlib.contextmanager
def time_service(folder: Path) -> Iterator[str]:
    """A time stamp service (RFC 3161) on this machine, by OpenSSL, with a certificate of `authority()`; its address."""
    key, certificate = authority().issue("Test clock", DAY_S, ExtendedKeyUsageOID.TIME_STAMPING)
    files = {"key.pem": key_pem(key), "cert.pem": _pem(certificate), "ca.pem": authority().pem.encode()}
    settings = [
        "[tsa]",
        "default_tsa = here",
        "[here]",
        f"serial = {folder}/serial",
        f"signer_cert = {folder}/cert.pem",
        f"signer_key = {folder}/key.pem",
        f"certs = {folder}/ca.pem",
        "signer_digest = sha256",
        "ess_cert_id_alg = sha256",
        "default_policy = 1.2.3.4.1",
        "digests = sha256, sha384, sha512",
    ]
    files |= {"serial": b"01\n", "settings": "\n".join(settings).encode()}
    for name, content in files.items():
        (folder / name).write_bytes(content)

    class Service(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            (folder / "query").write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
            command = ["openssl", "ts", "-reply", "-config", "settings", "-queryfile", "query", "-out", "reply"]
            subprocess.run(command, cwd=folder, capture_output=True, check=True)
            reply = (folder / "reply").read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def _builder(
    key: ec.EllipticCurvePrivateKey, subject: x509.Name, issuer: x509.Name, from_s: float, to_s: float
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + dt.timedelta(seconds=from_s))
        .not_valid_after(now + dt.timedelta(seconds=to_s))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    )


def _name(common: str, organisation: str) -> x509.Name:
    pairs = [(NameOID.COMMON_NAME, common), (NameOID.ORGANIZATION_NAME, organisation)]
    return x509.Name([x509.NameAttribute(oid, text) for oid, text in pairs])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
