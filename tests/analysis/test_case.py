"""Case files: what they hold, that the same line gives the same figures, and that changes are found."""

from __future__ import annotations

import hashlib
import html
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from synthesis import TINY_SPEC, music, write_model

from sonicscan.analysis.case import HTML, JSON, KEY, verify
from sonicscan.analysis.evidence import explain
from sonicscan.analysis.statement import statement, strength
from sonicscan.audio.windows import WindowPlan
from sonicscan.cli.demo import write_sound
from sonicscan.cli.report import main
from sonicscan.errors import ReportError, SignatureError
from sonicscan.model.loading import load_model
from sonicscan.model.sessions import Device
from sonicscan.scoring.thresholds import certified_thresholds
from sonicscan.signing import PrivateKey, PublicKey
from sonicscan.spec import Calibration, Caught, Material, ModelSpec

NAME = 'Ada <b>"Examiner"</b>'


def both_classes() -> ModelSpec:
    rng = np.random.default_rng(0)
    calibration = Calibration.of(
        rng.beta(2, 4, 400).tolist(), "synthetic tracks", ai_scores=rng.beta(4, 2, 300).tolist()
    )
    return replace(TINY_SPEC, calibration=calibration, caught=(Caught(0.01, 0.2, 300),))


def invoke(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A song, a model, and a signed case file about them."""
    folder = tmp_path_factory.mktemp("case")
    write_sound(folder / "a song.wav", music(20.0, seed=3))
    write_model(folder / "m.onnx", both_classes(), gain=25.0, bias=-8.5)
    PrivateKey.generate().write(folder / "ada.pem")
    done = invoke("case", folder / "a song.wav", "--model", folder / "m.onnx", "--examiner", NAME,
                  "--prior", "0.05", "--key", folder / "ada.pem", "--out", folder / "case")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert "signed by" in done.stderr
    return folder


def report_of(case: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((case / JSON).read_text())
    return report


def test_the_report_says_what_was_examined_with_what(folder: Path) -> None:
    report = report_of(folder / "case")
    assert report["examiner"] == NAME and report["opened"].endswith("+00:00") <= report["closed"].endswith("+00:00")
    for key, file in (("audio", "a song.wav"), ("model", "m.onnx")):
        assert report[key]["sha256"] == hashlib.sha256((folder / file).read_bytes()).hexdigest()
    assert len(report["tool"]["sha256"]) == 64 and report["environment"]["python"]
    result, score = report["result"], report["figures"]["score"]
    spec = both_classes()
    found = strength(evidence_of(folder), certified_thresholds(spec.calibration, 0.01), "12", 0.05)
    assert result["log10_lr"] == found.log10_lr and result["p_value"] == found.p_value
    assert result["posterior"] == found.posterior and 0 < score < 1
    assert abs(result["log10_lr"]) <= np.log10(401)
    assert report["error_rates"] == [{"max_fpr": 0.01, "share": 0.2, "n": 300, "effective_n": None}]
    assert len(report["propositions"]) == 2


def evidence_of(folder: Path) -> Any:
    return explain(bytes(folder / "a song.wav"), load_model(folder / "m.onnx", Device("cpu")), WindowPlan())


def test_the_page_holds_it_all_and_escapes_names(folder: Path) -> None:
    page = (folder / "case" / HTML).read_text()
    assert "&lt;b&gt;" in page and "<b>&#34;" not in page
    for words in ("Statement", "The two propositions", "Error rates on unseen material", "Repeat the examination",
                  "How to object", "cannot determine who made", "not the probability that the track"):  # fmt: skip
        assert words in page
    assert "is AI." not in page.replace("probability that the track is AI.", "").replace("that this one is AI", "")
    assert 'src="http' not in page


def test_the_line_in_the_report_gives_the_same_figures(folder: Path) -> None:
    """In a process and a folder of its own."""
    report = report_of(folder / "case")
    words = shlex.split(report["again"])
    assert words[0] == "sonicscan-report"
    code = "from sonicscan.cli.report import main; main()"
    done = subprocess.run([sys.executable, "-c", code, *words[1:]], cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    again = report_of(folder / "case-again")
    for part in ("figures", "result", "audio", "model", "tool", "error_rates"):
        assert again[part] == report[part], part


@pytest.mark.parametrize(
    "name", [b"raw\xff.wav", b"-rf.wav", b"it's  a\n\\new $HOME `id`.wav", "\u00e9\u202e.wav".encode()]
)
def test_a_case_about_any_name_can_be_repeated_from_the_line_in_its_page(
    folder: Path, tmp_path: Path, name: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / os.fsdecode(name)).write_bytes((folder / "a song.wav").read_bytes())
    monkeypatch.chdir(tmp_path)
    examiner = "Ada \udcff"  # as Python reads an argument that is not UTF-8
    done = invoke(
        "case", "--model", folder / "m.onnx", "--examiner", examiner, "--out", "case", "--", os.fsdecode(name)
    )
    assert done.exit_code == 0, done.output
    report = report_of(tmp_path / "case")
    page = (tmp_path / "case" / HTML).read_text(encoding="utf-8")
    shown = " ".join(html.unescape(word) for word in re.findall('<span class="word">(.*?)</span>', page))
    assert shown == report["again"] and shown.isprintable()
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-c", shown], env=environment, check=True)
    again = report_of(tmp_path / "case-again")
    for part in ("figures", "result", "audio", "examiner"):
        assert again[part] == report[part], part
    assert verify(tmp_path / "case").examiner == examiner


def test_a_case_is_verified_and_every_change_is_found(folder: Path, tmp_path: Path) -> None:
    case = folder / "case"
    public = PublicKey.read(case / KEY)
    assert verify(case).fingerprint == verify(case, public).fingerprint == public.fingerprint
    said = invoke("case", "--verify", case, "--key", folder / "ada.pub")
    assert said.exit_code == 0 and f"Signed by {public.fingerprint}." in said.stdout
    for name in (HTML, JSON, f"{JSON}.sig"):
        copy = tmp_path / name
        copy.mkdir()
        for file in case.iterdir():
            content = file.read_bytes()
            (copy / file.name).write_bytes(
                content[:-2] + bytes([content[-2] ^ 1]) + content[-1:] if file.name == name else content
            )
        with pytest.raises((SignatureError, ReportError)):
            verify(copy)
        assert invoke("case", "--verify", copy).exit_code == 2
    PrivateKey.generate().write(tmp_path / "other.pem")
    refused = invoke("case", "--verify", case, "--key", tmp_path / "other.pub")
    assert refused.exit_code == 2 and "another key signed it" in refused.stderr


def test_without_a_key_it_is_said_not_to_be_signed(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "case"
    words = ("case", folder / "a song.wav", "--model", folder / "m.onnx", "--examiner", "Ada", "--out", out)
    assert "not signed" in invoke(*words).stderr
    assert report_of(out)["result"]["posterior"] is None
    # Whoever changes report.json alone is not found out, so nothing may be called unchanged.
    changed = (out / JSON).read_text().replace('"examiner": "Ada"', '"examiner": "Eve"')
    (out / JSON).write_text(changed)
    said = invoke("case", "--verify", out).stdout
    assert "report.json is not signed" in said and "unchanged" not in said
    assert invoke("case", "--verify", out, "--key", folder / "ada.pub").exit_code == 2
    again = invoke(*words)
    assert again.exit_code == 2 and "never written over another" in again.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give either AUDIO, or --verify"),
        (("a.wav",), "needs --examiner NAME and --out"),
        (("a.wav", "--examiner", "A", "--out", "x", "--model", "no.onnx"), "cannot be read"),
        (("--verify", "nowhere"), "cannot be read"),
    ],
)
def test_what_makes_no_case_is_refused(words: tuple[str, ...], said: str) -> None:
    result = invoke("case", *words)
    assert result.exit_code == 2 and said in result.stderr


def test_the_statement_claims_no_more_than_was_measured(folder: Path) -> None:
    evidence = evidence_of(folder)
    limits = certified_thresholds(evidence.spec.calibration, 0.01)
    plain = " ".join(statement(evidence, limits, strength(evidence, limits, "12")))
    assert "With 95% confidence it flags at most 1.0% of tracks by people that are like the 400" in plain
    assert "Likelihood ratio" in plain and "assumption" not in plain
    other = " ".join(statement(evidence, limits, strength(evidence, limits, "all")))
    assert "Not certified: the model was calibrated with --windows 12" in other and "Likelihood ratio" not in other
    known = replace(evidence.spec.calibration, material=Material.of(["mp3"] * 40, [44100] * 40, [9000.0] * 40))
    elsewhere = replace(evidence, spec=replace(evidence.spec, calibration=known))
    unlike = strength(elsewhere, limits, "12").unlike
    assert (
        unlike[0] == "none of them is pcm_16" and "their bandwidth is 9.0 to 9.0 kHz" in unlike[1] and len(unlike) == 2
    )
    assert "This track is unlike" in " ".join(statement(elsewhere, limits, strength(elsewhere, limits, "12")))
    assert "unlike" not in plain
    same = replace(strength(evidence, limits, "12"), log10_lr=0.1)
    assert "a score like this is about as probable if" in " ".join(statement(evidence, limits, same))
    untrained = replace(evidence, spec=replace(evidence.spec, untrained=True))
    assert "score means nothing" in list(statement(untrained, limits, strength(untrained, limits, "12")))[-1]
