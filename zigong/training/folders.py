"""Folders that exist whole or not at all, and what is read from them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zigong.errors import ConfigError


@contextmanager
def promoted_folder(folder: Path) -> Iterator[Path]:
    """Gives an empty folder beside ``folder`` and renames it to ``folder`` once the block ends without an error."""
    partial = folder.with_name(f".{folder.name}.partial")
    former = folder.with_name(f".{folder.name}.former")
    for leftover in (partial, former):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    if folder.exists():
        folder.rename(former)
    partial.rename(folder)
    shutil.rmtree(former, ignore_errors=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes JSON through a temporary name, so that a reader never sees half a file."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    partial.rename(path)


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        ConfigError: the file is missing or is no JSON object.
    """
    if not path.is_file():
        raise ConfigError(f"{path} does not exist", action="run the step that writes it first")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path} is not valid JSON: {error}", action="write it anew") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold one JSON object", action="write it anew")
    return content


def required(content: Mapping[str, Any], key: str, *, where: str) -> Any:
    """The value of a key that must be there.

    Raises:
        ConfigError: the key is missing; the message names it.
    """
    if key not in content:
        raise ConfigError(f"{where}: key {key!r} is missing; found {sorted(content)}", action="write the file anew")
    return content[key]


def refuse_pickles(folder: Path) -> None:
    """Refuses a model folder that holds pickled weights, which run code when they are read.

    Raises:
        ConfigError: a ``.bin``, ``.pt`` or ``.pkl`` file lies in the folder.
    """
    found = sorted(file.name for file in folder.glob("*") if file.suffix in {".bin", ".pt", ".pth", ".pkl"})
    if found:
        raise ConfigError(f"{folder} holds pickled weights: {', '.join(found)}", action="convert them to safetensors")
