"""Reads a recipe file; every error names the file, the field path and what is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from schemas.documents import explain, yaml_content
from zigong.errors import ConfigError
from zigong.recipe.recipe import Recipe


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe and applies ``a.b=c`` overrides.

    Args:
        path: a YAML file.
        overrides: ``field.path=value``; values are YAML.

    Raises:
        ConfigError: the file is missing or broken, a key is unknown or a value not allowed.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"recipe {file} does not exist", action="use the path of a recipe, e.g. recipes/demo.yaml")
    try:
        content = yaml_content(file.read_text(encoding="utf-8"), origin=f"recipe {file}")
    except ValueError as error:
        raise ConfigError(str(error), action="correct the line named above") from error
    if not isinstance(content, dict):
        raise ConfigError(f"recipe {file} must be a mapping of sections", action="start from recipes/demo.yaml")
    for override in overrides:
        _apply(content, override)
    return parse_recipe(content, origin=str(file))


def parse_recipe(content: dict[str, Any], *, origin: str) -> Recipe:
    """Validates the content of a recipe; ``origin`` is named in errors."""
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise ConfigError(
            explain(error, Recipe, origin=origin), action=f"edit {origin} (or the --set argument)"
        ) from error


def changed_recipe(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """The recipe with ``a.b=c`` overrides.

    Raises:
        ConfigError: an override is malformed, a key unknown or a value not allowed.
    """
    content = recipe.model_dump(mode="json")
    for override in overrides:
        _apply(content, override)
    return parse_recipe(content, origin=f"recipe {recipe.name}")


def _apply(content: dict[str, Any], override: str) -> None:
    path, separator, value = override.partition("=")
    if not separator or not path:
        raise ConfigError(f"--set {override!r} is not of the form a.b=c", action="write e.g. --set mix.fraction=0.5")
    *parents, leaf = path.split(".")
    node = content
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override!r}: {parent} is a value, not a section", action="check the field path")
        node = child
    node[leaf] = yaml.safe_load(value)
