"""Reads a recipe file; every error names the file, the field path and what is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from zigong.errors import ConfigError
from zigong.recipe.recipe import Recipe
from zigong.recipe.sections import Section


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
        raise ConfigError(f"recipe {file} does not exist", action="give the path of a recipe, e.g. recipes/demo.yaml")
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"recipe {file} is not valid YAML: {error}", action="correct the line named above") from error
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
        lines = [_explain(origin, item["loc"], item["type"], item["msg"]) for item in error.errors()]
        raise ConfigError("\n".join(lines), action=f"edit {origin} (or the --set argument)") from error


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


def _explain(origin: str, location: tuple[int | str, ...], kind: str, message: str) -> str:
    field = ".".join(str(part) for part in location) or "recipe"
    if kind != "extra_forbidden":
        return f"{origin}: {field}: {message.removeprefix('Value error, ')}"
    owner = _section_at(location[:-1])
    return f"{origin}: {field}: unknown key; allowed here: {', '.join(owner.model_fields)}"


def _section_at(location: tuple[int | str, ...]) -> type[Section]:
    owner: type[Section] = Recipe
    for part in location:
        field = owner.model_fields.get(str(part))
        options = [field.annotation, *get_args(field.annotation)] if field else []
        sections = [option for option in options if isinstance(option, type) and issubclass(option, Section)]
        owner = sections[0] if sections else owner
    return owner
