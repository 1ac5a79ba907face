"""Reads a contract that may be faulty: YAML, then the ODCS schema; the valid parts become a typed document."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

import yaml
from jsonschema import Draft201909Validator
from jsonschema.exceptions import ValidationError, best_match
from open_data_contract_standard.model import OpenDataContractStandard
from pydantic import ValidationError as ModelError

from schemas.findings import LintFinding

API_VERSION = "v3.1.0"
_CASCADE = "unevaluatedProperties"  # also reported for every known field next to a faulty one


def read_document(text: str) -> tuple[OpenDataContractStandard | None, list[LintFinding]]:
    """The typed document without its faulty parts, and a finding for each of them; None if nothing is readable."""
    content, findings = _yaml(text)
    if content is None:
        return None, findings
    findings += _schema_findings(content)
    if content.get("apiVersion") != API_VERSION and isinstance(content.get("apiVersion"), str):
        findings.append(LintFinding(where="apiVersion", found=content["apiVersion"], expected=API_VERSION))
    while True:
        try:
            return OpenDataContractStandard.model_validate(content), list(dict.fromkeys(findings))
        except ModelError as error:
            first = error.errors()[0]
            path = _remove(content, first["loc"])
            if not any(finding.where.startswith(path) for finding in findings):
                findings.append(LintFinding(where=path, found=first["msg"], expected=f"ODCS {API_VERSION}"))


class _Loader(yaml.SafeLoader):
    """The safe loader, which also reports duplicate keys of a mapping: the last one would silently win."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.doubled: list[LintFinding] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Builds the mapping and records its duplicate keys."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and keys.count(key.value) > 1 and key.value in keys:
                keys = [other for other in keys if other != key.value]
                self.doubled.append(
                    LintFinding(
                        where=f"line {node.start_mark.line + 1}",
                        found=f"duplicate field {key.value}",
                        expected="no duplicate fields",
                    )
                )
        return super().construct_mapping(node, deep)


def _yaml(text: str) -> tuple[dict[str, Any] | None, list[LintFinding]]:
    loader = None
    try:
        loader = _Loader(text)
        content = loader.get_single_data()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark else "file"
        return None, [LintFinding(where=where, found=getattr(error, "problem", None) or str(error), expected="YAML")]
    finally:
        if loader is not None:
            loader.dispose()
    if not isinstance(content, dict):
        return None, [
            LintFinding(where="file", found=type(content).__name__, expected="a mapping with the fields of ODCS")
        ]
    return content, loader.doubled


def _schema_findings(content: dict[str, Any]) -> list[LintFinding]:
    """Violations of the JSON schema of ODCS with their places, without those that only follow from another one."""
    errors = list(_validator().iter_errors(content))
    firm = [list(error.absolute_path) for error in errors if error.validator != _CASCADE]
    findings = []
    for error in errors:
        path = list(error.absolute_path)
        if error.validator == _CASCADE and any(other[: len(path)] == path for other in firm):
            unknown = sorted(set(error.instance) - _known_fields()) if isinstance(error.instance, dict) else []
            findings += [_unknown_field(content, path, name) for name in unknown]
        elif error.validator in {_CASCADE, "additionalProperties"}:
            findings += [_unknown_field(content, path, name) for name in _named(error)]
        else:
            findings.append(_violation(content, best_match([error]) or error))
    return findings


def _named(error: ValidationError) -> list[str]:
    """The fields that a violation reports as unexpected; only its message names them.

    The installed schema is that of v3.2, which forbids bounds in custom rules; v3.1 allows them.
    """
    bounds = isinstance(error.instance, dict) and error.instance.get("type") == "custom"
    return [
        name for name in error.instance if repr(name) in error.message and not (bounds and name.startswith("mustBe"))
    ]


def _unknown_field(content: dict[str, Any], path: Sequence[str | int], name: str) -> LintFinding:
    return LintFinding(
        where=_place(content, path), found=f"unknown field {name}", expected=f"a field of ODCS {API_VERSION}"
    )


def _violation(content: dict[str, Any], error: ValidationError) -> LintFinding:
    where = _place(content, list(error.absolute_path))
    if error.validator in {"type", "enum", "const", "pattern"}:
        wanted = error.validator_value
        expected = ", ".join(map(str, wanted)) if isinstance(wanted, list) else str(wanted)
        return LintFinding(where=where, found=repr(error.instance), expected=f"{error.validator}: {expected}")
    return LintFinding(where=where, found=error.message[:200], expected=f"ODCS {API_VERSION}")


def _place(content: Any, path: Iterable[str | int]) -> str:
    """A path with the names of columns and rules instead of their positions."""
    parts, at = [], content
    for step in path:
        at = at[step]
        name = at.get("name") if isinstance(at, dict) else None
        parts.append(f"[{name or step}]" if isinstance(step, int) else f".{step}")
    return "".join(parts).lstrip(".") or "file"


def _remove(content: Any, location: tuple[str | int, ...]) -> str:
    """Removes the deepest part that a pydantic location, which may contain union members, resolves to."""
    steps: list[str | int] = []
    holder = at = content
    for step in location:
        inside = step in at if isinstance(at, dict) else isinstance(at, list) and isinstance(step, int)
        if inside:
            holder, at = at, at[step]
            steps.append(step)
    place = _place(content, steps)
    del holder[steps[-1]]
    return place


@cache
def _validator() -> Draft201909Validator:
    return Draft201909Validator(json.loads(OpenDataContractStandard.json_schema()))


@cache
def _known_fields() -> frozenset[str]:
    """Every field name of ODCS, in any part."""

    def names(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            yield from node.get("properties", {}) if isinstance(node.get("properties"), dict) else ()
            for part in node.values():
                yield from names(part)
        elif isinstance(node, list):
            for part in node:
                yield from names(part)

    return frozenset(names(json.loads(OpenDataContractStandard.json_schema())))
