"""Models are opened only where they are what was asked for: by digest, by signature, or as released."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from sonicscan.cli.scan import main
from sonicscan.errors import InputError, ModelError, SignatureError
from sonicscan.files import sha256_of
from sonicscan.library.urls import Url
from sonicscan.model.bundled import bundled_digests, bundled_models, check_bundled
from sonicscan.model.loading import load_model
from sonicscan.model.sessions import Device
from sonicscan.model.trust import Trust, trust_of
from sonicscan.signing import PrivateKey, signature_path
from sonicscan_export.cli import main as export


def run(program: object, *args: object) -> tuple[int, str]:
    done = CliRunner().invoke(program, [str(arg) for arg in args])  # type: ignore[arg-type]
    return done.exit_code, done.output


def test_the_bundled_models_are_those_of_the_digests_file() -> None:
    assert bundled_digests() == {path.name: sha256_of(path) for path in bundled_models().values()}


def test_a_bundled_model_that_was_changed_is_refused() -> None:
    path = next(iter(bundled_models().values()))
    check_bundled(path, sha256_of(path))
    with pytest.raises(ModelError, match="not the bundled model of this version"):
        check_bundled(path, "0" * 64)
    check_bundled(Path("elsewhere.onnx"), "0" * 64)


def test_a_model_with_another_digest_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    digest = sha256_of(tiny_model)
    assert load_model(tiny_model, Device("cpu"), trust=trust_of(digest.upper(), None, tiny_model)).digest == digest
    with pytest.raises(ModelError, match=f"has the SHA-256 {digest}, and --model-sha256 requires 0{{64}}"):
        load_model(tiny_model, Device("cpu"), trust=Trust("0" * 64))
    with pytest.raises(InputError, match="64 hexadecimal digits"):
        trust_of(digest[:-1], None, tiny_model)
    (tmp_path / "empty").mkdir()
    code, text = run(main, tmp_path / "empty", "--model", tiny_model, "--model-sha256", "0" * 64)
    assert code == 2 and "get the model again" in text
    assert run(main, tmp_path / "empty", "--model", tiny_model, "--model-sha256", digest)[0] == 0


def test_sign_verify_and_scan_with_a_key(tiny_model: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(tiny_model.read_bytes())
    key, library = tmp_path / "key.pem", tmp_path / "library"
    library.mkdir()
    scan = (main, library, "--model", model, "--model-key", tmp_path / "key.pub")
    assert run(export, "keygen", key)[0] == 0
    code, text = run(*scan)
    assert code == 2 and "model.onnx.sig cannot be read" in text
    assert run(export, "sign", model, "--key", key)[0] == 0
    code, text = run(export, "verify", model, "--key", tmp_path / "key.pub")
    assert code == 0 and "is unchanged" in text
    assert run(*scan)[0] == 0
    run(export, "keygen", tmp_path / "other.pem")
    code, text = run(main, library, "--model", model, "--model-key", tmp_path / "other.pub")
    assert code == 2 and "another key signed it" in text
    model.write_bytes(tiny_model.read_bytes() + b"\0")
    for command in (scan, (export, "verify", model, "--key", tmp_path / "key.pub")):
        code, text = run(*command)
        assert code == 2 and "do not use it" in text
    for command in (("sign", "--key", key), ("verify", "--key", tmp_path / "key.pub")):
        code, text = run(export, command[0], tmp_path / "nowhere.onnx", *command[1:])
        assert code == 2 and "nowhere.onnx" in text


def test_the_signature_of_a_remote_model_is_fetched_from_beside_it(tmp_path: Path) -> None:
    import fsspec

    key = PrivateKey.generate()
    key.write(tmp_path / "key.pem")
    files = fsspec.filesystem("memory")
    files.pipe("/trust/m.onnx.sig", key.sign(b"content"))
    trust = trust_of(None, tmp_path / "key.pub", Url("memory://trust/m.onnx"))
    trust.check(Path("m.onnx"), b"content", "")
    with pytest.raises(SignatureError, match="does not fit"):
        trust.check(Path("m.onnx"), b"contents", "")
    files.rm("/trust", recursive=True)
    assert signature_path(Path("m.onnx")) == Path("m.onnx.sig")


def test_inspect_takes_the_names_of_bundled_models() -> None:
    code, text = run(export, "inspect", next(iter(bundled_models())))
    assert code == 0 and "sha256" in text.lower()
