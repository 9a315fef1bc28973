"""Describes a model file from its contract, for people and for programs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from sonicscan_export import onnxfile
from sonicscan_export.tables import calibration_table


def describe(path: Path) -> dict[str, Any]:
    """All of a model's contract and figures, as JSON values.

    Raises:
        ModelError: the file cannot be read, or has no contract.
    """
    model = onnxfile.read(path)
    spec = onnxfile.read_spec(model, path)
    contract: dict[str, Any] = json.loads(spec.to_json())
    scores = contract["calibration"].pop("scores")
    for category in contract["calibration"]["categories"]:
        category.pop("scores")
    contract["calibration"] |= {
        "lowest_stored": scores[0] if scores else None,
        "highest": scores[-1] if scores else None,
        "thresholds": [dataclasses.asdict(row) for row in calibration_table(spec.calibration)],
    }
    return {
        "file": path.name,
        "bytes": path.stat().st_size,
        "sha256": onnxfile.digest(path),
        "audio_digest": spec.audio.digest,
        "spec": contract,
        "graph": dataclasses.asdict(onnxfile.facts(model)),
    }


def lines(path: Path) -> list[str]:
    """The same in readable form."""
    facts = describe(path)
    spec, graph = facts["spec"], facts["graph"]
    out = [
        f"file          {facts['file']}, {facts['bytes'] / 1e6:.1f} MB",
        f"sha256        {facts['sha256']}",
        f"architecture  {spec['architecture']}"
        + (" (UNTRAINED: its scores mean nothing)" if spec["untrained"] else ""),
        f"classes       {', '.join(spec['classes'])}",
        f"made by       sonicscan {spec['tool_version'] or '(unknown version)'}",
        f"licence       {spec['license_note'] or 'not stated'}",
        f"model card    {spec['card'] or 'none'}",
        f"training data {spec['data_digest'] or 'not stated'}",
        f"graph         {graph['nodes']} nodes, {graph['parameters']:,} parameters, opset {graph['opset']}",
        "              " + ", ".join(f"{n} {name}" for name, n in list(graph["operators"].items())[:8]),
        f"audio digest  {facts['audio_digest']}",
        *_audio(spec["audio"]),
        f"temperature   {spec['temperature']:g}",
        *_calibration(spec["calibration"]),
    ]
    for title, values in (("metrics", spec["metrics"]), ("provenance", _told(spec["provenance"]))):
        out.append(title + ("" if values else "       none"))
        out += _nested(values, 1)
    return out


def _audio(audio: dict[str, Any]) -> list[str]:
    return [
        f"audio         {audio['sample_rate']} Hz mono, FFT {audio['n_fft']}, hop {audio['hop_length']}, "
        f"{audio['n_mels']} mels of {audio['fmin']:g} to {audio['fmax']:g} Hz, {audio['n_frames']} frames",
        f"              {audio['top_db']:g} dB below {'the maximum' if audio['reference'] == 'max' else 'full scale'}",
    ]


def _calibration(calibration: dict[str, Any]) -> list[str]:
    if not calibration["n"]:
        return ["calibration   none: scans give no verdicts without --threshold"]
    out = [f"calibration   {calibration['n']} tracks by people ({calibration['data'] or 'not described'})"]
    out.append("              false-positive rate   flagged from a score of")
    for row in calibration["thresholds"]:
        threshold = row["threshold"]
        said = f"{threshold:.6f}" if threshold is not None else f"not certified: takes {row['tracks_needed']} tracks"
        out.append(f"              {row['max_fpr']:>19.1%}   {said}")
    for category in calibration["categories"]:
        what = "codec class" if category["kind"] == "codec" else "kind of music"
        out.append(f"              of them {category['n']} of the {what} {category['name']}")
    return out


def _told(provenance: dict[str, Any]) -> dict[str, Any]:
    """Provenance without the graph, since `lines` describes the graph from the file itself."""
    return {key: value for key, value in provenance.items() if key != "graph"}


def _nested(values: dict[str, Any], depth: int) -> list[str]:
    """`name: value` lines, deeper dictionaries indented."""
    out = []
    for name, value in values.items():
        if isinstance(value, dict):
            out.append(f"{'  ' * depth}{name}")
            out += _nested(value, depth + 1)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            out.append(f"{'  ' * depth}{name}")
            for entry in value:
                out.append("  " * (depth + 1) + ", ".join(f"{k} {_short(v)}" for k, v in entry.items()))
        else:
            out.append(f"{'  ' * depth}{name}: {_short(value)}")
    return out


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(_short(entry) for entry in value) or "none"
    return str(value)
