"""Reads JSON from model folders, and rejects pickled weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zigong.errors import ConfigError


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        ConfigError: the file is missing or is not a JSON object.
    """
    if not path.is_file():
        raise ConfigError(f"{path} does not exist", action="run the step that writes it first")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path} is not valid JSON: {error}", action="write it again") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold one JSON object", action="write it again")
    return content


def required(content: Mapping[str, Any], key: str, *, where: str) -> Any:
    """The value of a required key.

    Raises:
        ConfigError: the key is missing; the message names it.
    """
    if key not in content:
        raise ConfigError(f"{where}: key {key!r} is missing; found {sorted(content)}", action="write the file again")
    return content[key]


def refuse_pickles(folder: Path) -> None:
    """Rejects a model folder with pickled weights, which can run code when they are loaded.

    Raises:
        ConfigError: the folder has a ``.bin``, ``.pt``, ``.pth`` or ``.pkl`` file.
    """
    found = sorted(file.name for file in folder.glob("*") if file.suffix in {".bin", ".pt", ".pth", ".pkl"})
    if found:
        raise ConfigError(f"{folder} holds pickled weights: {', '.join(found)}", action="convert them to safetensors")
