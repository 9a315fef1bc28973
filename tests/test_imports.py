"""Start-up stays cheap, and workers never load the model's runtime."""

from __future__ import annotations

import dataclasses
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from synthesis import TINY_SPEC, music, write_model

from sonicscan.cli.demo import write_sound
from sonicscan.spec import Calibration

HEAVY = ("numpy", "onnxruntime", "pyarrow", "scipy", "torch", "av", "soundfile", "rich")


def modules_after(code: str, folder: Path | None = None) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after running `code` in `folder`."""
    program = f"import sys\n{code}\nprint(' '.join({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=folder)
    return set(done.stdout.splitlines()[-1].split())


def called(program: str, arguments: list[str]) -> str:
    """Code that runs a program's command line, which must succeed."""
    return (
        f"from {program} import main\ntry:\n    main({arguments})\nexcept SystemExit as end:\n    assert not end.code"
    )


@pytest.mark.parametrize(
    "program", ["sonicscan.cli.scan", "sonicscan.cli.report", "sonicscan_export.cli", "sonicscan_train.cli"]
)
def test_help_imports_nothing_heavy(program: str) -> None:
    loaded = modules_after(called(program, ["--help"]))
    assert "click" in loaded
    assert not loaded.intersection(HEAVY)


def test_the_package_itself_imports_nothing_heavy() -> None:
    assert not modules_after("import sonicscan").intersection(HEAVY)


def test_workers_import_neither_onnxruntime_nor_torch() -> None:
    loaded = modules_after("import sonicscan.engine.worker")
    assert "numpy" in loaded
    assert not loaded.intersection({"onnxruntime", "torch", "onnx", "pyarrow"})


def test_the_scanner_never_imports_torch() -> None:
    loaded = modules_after("import sonicscan.scanning.scan, sonicscan.cli.session, sonicscan.cli.report")
    assert "onnxruntime" in loaded
    assert not loaded.intersection({"torch", "timm", "onnx"})


def test_a_scan_and_a_report_import_only_what_they_need(tmp_path: Path) -> None:
    """pandas is installed here, and Arrow imports it where it can. Special functions would add a quarter to the time
    that a scan of one track takes, and masked arrays a twentieth."""
    assert importlib.util.find_spec("pandas") is not None
    write_sound(tmp_path / "a.flac", music(6.0))
    calibration = Calibration.of([k / 400 for k in range(400)], ai_scores=[0.5 + k / 200 for k in range(100)])
    write_model(tmp_path / "m.onnx", dataclasses.replace(TINY_SPEC, calibration=calibration))
    scan = ["a.flac", "--model", "m.onnx", "--max-fpr", "0.01", "--windows", "1", "--out", "report.parquet"]
    code = called("sonicscan.cli.scan", scan) + "\nassert 'numpy.ma' not in sys.modules"
    loaded = modules_after(code, tmp_path)
    assert (tmp_path / "report.parquet").exists()
    assert "pyarrow" in loaded and not loaded.intersection({"pandas", "scipy"})
    loaded = modules_after(called("sonicscan.cli.report", ["show", "report.parquet"]), tmp_path)
    assert "pyarrow" in loaded and not loaded.intersection({"pandas", "scipy", "onnxruntime"})


def test_public_names() -> None:
    import sonicscan

    assert sonicscan.__all__ == [
        "AudioError",
        "DeviceError",
        "FileResult",
        "InputError",
        "ModelError",
        "ModelSpec",
        "RemoteError",
        "ReportError",
        "Scanner",
        "SignatureError",
        "SonicscanError",
        "__version__",
        "scan",
    ]
    import sonicscan.scanning.scan  # a room must not hide the function

    assert callable(sonicscan.scan)
    for name in sonicscan.__all__:
        assert getattr(sonicscan, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sonicscan.nothing  # type: ignore[attr-defined]
