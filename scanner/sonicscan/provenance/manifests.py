"""Reads the declaration of a C2PA manifest: its actions, its metadata and its ingredient tracks.

The input is the JSON of c2pa-python's Reader: `active_manifest` and, by label, `manifests`. It is untrusted. So every
value is checked before use, cycles of ingredients end, and the number of manifests is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sonicscan.provenance.record import Claim
from sonicscan.provenance.statements import Declaration, claim_of_source_type, shortened

_MAX_MANIFESTS = 200
_MAX_NAME = 200
_AI: tuple[Claim, ...] = ("generated", "edited_with_ai")


@dataclass(frozen=True)
class _Found:
    """A claim, the digitalSourceType behind it and the program that made it."""

    claim: Claim = "none"
    statement: str = ""
    generator: str | None = None
    version: str | None = None


def declared_in_manifests(store: dict[str, Any]) -> Declaration:
    """The declaration of the active manifest and its ingredients.

    - The type of the action `c2pa.created` says how the track was made. Without that action, the parent's type counts.
    - An AI type of another action, or an ingredient that is AI, makes it `edited_with_ai`.
    """
    manifests = store.get("manifests")
    label = store.get("active_manifest")
    if not isinstance(manifests, dict) or not isinstance(label, str):
        return Declaration("none", "c2pa", "")
    found = _evaluate(manifests, label, {})
    return Declaration(found.claim, "c2pa", found.statement, found.generator, found.version)


def _evaluate(manifests: dict[str, Any], label: str, known: dict[str, _Found]) -> _Found:
    """The declaration of a manifest; `known` has those of earlier ones, since several may name the same ingredient."""
    if label in known:
        return known[label]
    manifest = manifests.get(label)
    if len(known) >= _MAX_MANIFESTS or not isinstance(manifest, dict):
        return _Found()
    known[label] = _Found()  # where it is an ingredient of itself
    known[label] = found = _declaration_of(manifests, manifest, known)
    return found


def _declaration_of(manifests: dict[str, Any], manifest: dict[str, Any], known: dict[str, _Found]) -> _Found:
    maker = _maker(manifest)
    created = [_of_action(action, maker) for action in _actions(manifest) if action.get("action") == "c2pa.created"]
    created += [_of_type(text, maker) for text in _metadata_types(manifest)]
    others = [_of_action(action, maker) for action in _actions(manifest) if action.get("action") != "c2pa.created"]
    parents, components = _ingredients(manifests, manifest, known)
    origin = _combined([*created, *parents])
    if origin.claim in ("none", "captured"):
        for used in (*others, *components):
            if used.claim in _AI:
                return _Found("edited_with_ai", used.statement, used.generator, used.version)
    if origin.claim == "none":
        statement = next((found.statement for found in (*created, *others) if found.statement), "")
        return _Found("none", statement, *maker)
    return origin


def _combined(found: list[_Found]) -> _Found:
    """The combined origin of several statements; a recording and a generated track contradict each other."""
    claims = {one.claim for one in found}
    if {"generated", "captured"} <= claims:
        generated = next(one for one in found if one.claim == "generated")
        statements = dict.fromkeys(one.statement for one in found if one.claim in ("generated", "captured"))
        return _Found("conflicting", shortened("; ".join(statements)), generated.generator, generated.version)
    for claim in ("generated", "edited_with_ai", "captured", "conflicting"):
        for one in found:
            if one.claim == claim:
                return one
    return _Found()


def _ingredients(
    manifests: dict[str, Any], manifest: dict[str, Any], known: dict[str, _Found]
) -> tuple[list[_Found], list[_Found]]:
    """The declarations of the parent and the components; a prompt or other input is not part of the track."""
    parents, components = [], []
    for ingredient in _dicts(manifest.get("ingredients")):
        label = ingredient.get("active_manifest")
        found = _evaluate(manifests, label, known) if isinstance(label, str) else _Found()
        relation = ingredient.get("relationship")
        if relation == "parentOf":
            parents.append(found)
        elif relation == "componentOf":
            components.append(found)
    return parents, components


def _actions(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for assertion in _dicts(manifest.get("assertions")):
        data = assertion.get("data")
        if str(assertion.get("label")).startswith("c2pa.actions") and isinstance(data, dict):
            yield from _dicts(data.get("actions"))


def _metadata_types(manifest: dict[str, Any]) -> Iterator[str]:
    """The IPTC field DigitalSourceType in metadata assertions."""
    for assertion in _dicts(manifest.get("assertions")):
        data = assertion.get("data")
        if isinstance(data, dict):
            for key, value in data.items():
                if key.rpartition(":")[2] == "DigitalSourceType" and isinstance(value, str):
                    yield value


def _of_action(action: dict[str, Any], maker: tuple[str | None, str | None]) -> _Found:
    agent = action.get("softwareAgent")
    if isinstance(agent, str) and agent:
        maker = (shortened(agent, _MAX_NAME), None)
    elif isinstance(agent, dict) and agent.get("name"):
        maker = (_name(agent.get("name")), _name(agent.get("version")))
    return _of_type(action.get("digitalSourceType"), maker)


def _of_type(source_type: object, maker: tuple[str | None, str | None]) -> _Found:
    if not isinstance(source_type, str):
        return _Found()
    return _Found(claim_of_source_type(source_type), shortened(source_type), *maker)


def _maker(manifest: dict[str, Any]) -> tuple[str | None, str | None]:
    """Name and version of the program that wrote the claim."""
    for info in _dicts(manifest.get("claim_generator_info")):
        return _name(info.get("name")), _name(info.get("version"))
    return _name(manifest.get("claim_generator")), None


def _name(value: object) -> str | None:
    return shortened(value, _MAX_NAME) or None if isinstance(value, str) else None


def _dicts(values: object) -> list[dict[str, Any]]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []
