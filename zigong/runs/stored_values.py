"""Values of a run as JSON of its manifest: written, read back with validation, and compared with their files."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from zigong.errors import ConfigError
from zigong.files.digests import files_digest
from zigong.pipeline import STEPS
from zigong.runs.value import Artefact, V, Value


def as_json(value: Value, run_folder: Path) -> dict[str, Any]:
    """The value as stored in a manifest, its folder relative to the run's.

    Raises:
        ValueError: the folder lies outside the run's.
    """
    if isinstance(value, Artefact):
        value = replace(value, folder=value.folder.relative_to(run_folder))
    content: dict[str, Any] = TypeAdapter(type(value)).dump_python(value, mode="json")
    return content


def from_json(kind: type[V], content: object, *, run_id: str, run_folder: Path) -> V:
    """Reads the output of :func:`as_json`.

    Raises:
        ConfigError: a key is missing, unknown or of another type, or the folder lies outside the run's.
    """
    try:
        value = TypeAdapter(kind).validate_json(json.dumps(content))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join([kind.__name__, *map(str, first["loc"])])
        raise _broken(kind, run_id, f"{place}: {first['msg']}, found {json.dumps(first['input'])}") from error
    if not isinstance(value, Artefact):
        return value
    folder = (run_folder / value.folder).resolve()
    if not folder.is_relative_to(run_folder.resolve()):
        raise _broken(kind, run_id, f"{kind.__name__}.folder: expected a folder of the run, found {value.folder}")
    return replace(value, folder=run_folder / value.folder)


def require_intact(value: Artefact, *, run_id: str) -> None:
    """Compares the files of an artefact with its digest.

    Raises:
        ConfigError: the folder is missing, or its files do not match the digest.
    """
    kind = type(value)
    if not value.folder.is_dir():
        raise _broken(kind, run_id, f"{kind.__name__}.folder: expected files in {value.folder}, found no such folder")
    files = {file.name: file for pattern in kind.FILES for file in value.folder.glob(pattern)}
    expected, found = getattr(value, kind.DIGEST_FIELD), files_digest(files)
    if found != expected:
        raise _broken(
            kind, run_id, f"{kind.__name__}.{kind.DIGEST_FIELD}: expected {expected}, found {found} in {value.folder}"
        )


def missing(kind: type[Value], *, run_id: str) -> ConfigError:
    """The error for a value that no step has left yet."""
    step = step_leaving(kind)
    return ConfigError(
        f"run {run_id} has no {kind.__name__} yet: step {step} writes it",
        action=f"run {step} in this run first: `zigong run RECIPE --run-id {run_id} --until {step}`",
    )


def step_leaving(kind: type[Value]) -> str:
    """The name of the step that writes a value."""
    return next(step.name for step in STEPS if kind.__name__ in step.leaves)


def texts(value: Value) -> dict[str, str]:
    """The text fields of a value, for the report."""
    named = {field.name: getattr(value, field.name) for field in fields(value)}
    return {name: text for name, text in named.items() if isinstance(text, str)}


def _broken(kind: type[Value], run_id: str, found: str) -> ConfigError:
    step = step_leaving(kind)
    return ConfigError(
        f"run {run_id}: {found}", action=f"restore what step {step} left, or start a new run (omit --run-id)"
    )
