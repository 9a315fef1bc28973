"""Keys and detached signatures, also against OpenSSL's own program."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sonicscan.errors import SignatureError
from sonicscan.signing import PrivateKey, PublicKey, check_signature, read_signature, signature_path

CONTENT = b"what is signed"


@pytest.fixture
def key(tmp_path: Path) -> PrivateKey:
    private = PrivateKey.generate()
    assert private.write(tmp_path / "key.pem") == tmp_path / "key.pub"
    return private


def test_keys_read_back_and_fit_each_other(key: PrivateKey, tmp_path: Path) -> None:
    public = PublicKey.read(tmp_path / "key.pub")
    assert public == key.public and public.pem == (tmp_path / "key.pub").read_bytes()
    assert len(public.fingerprint) == 64 and len(public.raw) == 32
    signature = PrivateKey.read(tmp_path / "key.pem").sign(CONTENT)
    check_signature(CONTENT, signature, public, "it")
    assert public.signed(CONTENT, signature)
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600


def test_a_changed_file_another_key_and_a_changed_signature_are_refused(key: PrivateKey) -> None:
    signature = key.sign(CONTENT)
    flipped = bytes([signature[0] ^ 1, *signature[1:]])
    for content, sealed, public in (
        (CONTENT + b".", signature, key.public),
        (CONTENT, flipped, key.public),
        (CONTENT, signature, PrivateKey.generate().public),
        (CONTENT, b"", key.public),
    ):
        with pytest.raises(SignatureError, match="does not fit it"):
            check_signature(content, sealed, public, "model.onnx")


def test_keys_are_never_replaced_and_never_read_by_others(key: PrivateKey, tmp_path: Path) -> None:
    before = (tmp_path / "key.pem").read_bytes()
    with pytest.raises(SignatureError, match="exists already"):
        PrivateKey.generate().write(tmp_path / "key.pem")
    (tmp_path / "key.pub").unlink()
    with pytest.raises(SignatureError, match="exists already"):
        PrivateKey.generate().write(tmp_path / "key.pem")
    assert (tmp_path / "key.pem").read_bytes() == before and not (tmp_path / "key.pub").exists()
    (tmp_path / "key.pem").chmod(0o640)
    with pytest.raises(SignatureError, match="chmod 600"):
        PrivateKey.read(tmp_path / "key.pem")


def test_what_is_no_ed25519_key_is_refused_in_a_sentence(key: PrivateKey, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    other = ec.generate_private_key(ec.SECP256R1())
    bad = {
        "other.pub": other.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
        "private.pub": (tmp_path / "key.pem").read_bytes(),
        "text.pub": b"hello",
        "empty.pub": b"",
        "large.pub": b"x" * 20_000,
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SignatureError, match=name):
            PublicKey.read(tmp_path / name)
    with pytest.raises(SignatureError, match="cannot be read"):
        PublicKey.read(tmp_path / "nowhere.pub")
    locked = tmp_path / "locked.pem"
    locked.write_bytes(
        other.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    (tmp_path / "plain.pem").write_bytes(b"hello")
    for name, words in (("locked.pem", "passphrase"), ("plain.pem", "not a private key")):
        (tmp_path / name).chmod(0o600)
        with pytest.raises(SignatureError, match=words):
            PrivateKey.read(tmp_path / name)
    with pytest.raises(SignatureError, match=r"\.pub is the suffix"):
        key.write(tmp_path / "new.pub")


def test_signature_files(key: PrivateKey, tmp_path: Path) -> None:
    beside = signature_path(tmp_path / "model.onnx")
    assert beside.name == "model.onnx.sig"
    with pytest.raises(SignatureError, match=r"model\.onnx\.sig cannot be read"):
        read_signature(beside)
    beside.write_bytes(key.sign(CONTENT))
    assert read_signature(beside) == key.sign(CONTENT)  # Ed25519 signatures are deterministic
    beside.write_bytes(b"x" * 65)
    with pytest.raises(SignatureError, match="64 bytes"):
        read_signature(beside)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_checks_our_signatures_and_makes_keys_that_we_read(key: PrivateKey, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(CONTENT)
    signature_path(file).write_bytes(key.sign(CONTENT))

    def openssl(*args: object) -> subprocess.CompletedProcess[str]:
        command = ["openssl", *map(str, args)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    check = ("pkeyutl", "-verify", "-pubin", "-inkey", tmp_path / "key.pub", "-rawin", "-in", file)
    assert openssl(*check, "-sigfile", signature_path(file)).returncode == 0
    file.write_bytes(CONTENT + b".")
    assert openssl(*check, "-sigfile", signature_path(file)).returncode != 0
    theirs = tmp_path / "theirs.pem"
    assert openssl("genpkey", "-algorithm", "ed25519", "-out", theirs).returncode == 0
    theirs.chmod(0o600)
    assert openssl("pkey", "-in", theirs, "-pubout", "-out", tmp_path / "theirs.pub").returncode == 0
    assert PrivateKey.read(theirs).public == PublicKey.read(tmp_path / "theirs.pub")


def test_without_the_extra_there_is_one_sentence_and_a_command(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "sys.modules['cryptography.hazmat.primitives'] = None\n"
        "from sonicscan.errors import SignatureError\n"
        "from sonicscan.signing import PrivateKey\n"
        "try:\n    PrivateKey.generate()\n"
        "except SignatureError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert f"{sys.executable} -m pip install 'sonicscan[sign]'." in done.stdout and not done.stderr
