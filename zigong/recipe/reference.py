"""The reference of a recipe's keys, read from its types: meaning, default, unit and example of each."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from zigong.errors import ConfigError
from zigong.recipe.recipe import Recipe

# The unit of a key, by the end of its name; the first that fits.
_UNITS = (
    ("_months", "months"),
    ("_since_last_event", "calendar months"),
    ("months", "months"),
    ("_days", "days"),
    ("days_past_due", "days past due"),
    ("dpd_threshold", "days past due"),
    ("_mb", "MB"),
    ("_memory", "with its unit, such as 3g"),
    ("_tokens", "tokens"),
    ("context_length", "tokens"),
    ("_share", "share of 1"),
    ("fraction", "share of 1"),
    ("confidence", "share of 1"),
    ("_score", "points"),
    ("pdo", "points"),
    ("_odds", "good per bad"),
    ("_samples", "samples"),
    ("batch_size", "samples"),
    ("_events", "events"),
    ("_steps", "steps"),
    ("epochs", "passes"),
    ("users", "clients"),
    ("user_buckets", "parts"),
    ("as_of", "date"),
    ("first_month", "date"),
    ("first", "date"),
    ("last", "date"),
    ("observations.score", "date"),
)
# Examples of keys whose default shows no value.
_EXAMPLES: dict[str, object] = {
    "name": "consumer_loans",
    "as_of": date(2024, 3, 2),
    "lakehouse.root": "/lake/consumer_loans",
    "engine.spark_java_options": "-XX:TieredStopAtLevel=1",
    "engine.ray_actors": 4,
    "engine.training_min_workers": 2,
    "refit.epochs": 3,
    "source.mapping": "mappings/consumer_loans.yaml",
    "source.further": ["mappings/card_payments.yaml"],
    "source.path": "/landing/consumer_loans",
    "observations.train.first": date(2023, 1, 1),
    "observations.train.last": date(2023, 6, 1),
    "observations.validation.first": date(2023, 9, 1),
    "observations.validation.last": date(2023, 9, 1),
    "observations.oot.first": date(2023, 12, 1),
    "observations.oot.last": date(2023, 12, 1),
    "observations.score": date(2024, 3, 1),
    "observations.cohort.max_months_since_last_event": 1,
    "observations.cohort.max_days_past_due": 29,
    "split.max_train_samples": 30000,
    "instructions.auxiliary[].template": "sentiment@1",
    "instructions.currency": "EUR",
    "instructions.quantiles": 16,
    "base.path": "models/mistral-7b",
    "base.gguf": "models/mistral-7b-q8_0.gguf",
    "base.revision": "caa1feb0e54d415e2df31207e5f4e273e33509b1",
    "base.parameters": 7248023552,
    "base.continued.max_tokens": 50000000,
    "base.tiny.max_tokens": 2000000,
    "mix.max_per_user": 4,
    "finetune.max_grad_norm": 1.0,
    "finetune.quantise": "nf4",
    "agent.quantise": "nf4",
    "registry.uri": "http://mlflow:5000",
}
_NUMBERS = {int: "whole number", float: "number"}
_TYPES = {str: "text", bool: "true or false", date: "date", **_NUMBERS}


@dataclass(frozen=True, kw_only=True)
class Key:
    """One key of a recipe.

    Attributes:
        path: from the top of the file, with ``[]`` for the entries of a list.
        meaning: what it does.
        allowed: type, or the allowed values.
        default: as YAML; "required" without one.
        unit: empty where a value has none.
        example: a value as YAML.
    """

    path: str
    meaning: str
    allowed: str
    default: str
    unit: str
    example: str

    @property
    def section(self) -> str:
        """The path without the key's own name; empty for keys at the top of a recipe."""
        return self.path.rpartition(".")[0]


@dataclass(frozen=True, kw_only=True)
class SectionText:
    """A section of a recipe: its path, its description, and whether every recipe has to have it."""

    path: str
    meaning: str
    required: bool


def recipe_keys() -> tuple[Key, ...]:
    """Every key of a recipe that has a value of its own, in the order of the types."""
    return tuple(item for item in _walk(Recipe, "") if isinstance(item, Key))


def recipe_sections() -> tuple[SectionText, ...]:
    """Every section of a recipe."""
    return tuple(item for item in _walk(Recipe, "") if isinstance(item, SectionText))


def explained(path: str) -> tuple[Key, ...]:
    """The key of a path, all keys of a section, or every key with this name.

    Raises:
        ConfigError: there is no such key; the closest ones are named.
    """
    keys = recipe_keys()
    wanted = path.replace("[]", "").strip(".")
    found = [key for key in keys if f"{key.path.replace('[]', '')}.".startswith(f"{wanted}.")]
    named = [key for key in keys if key.path.rpartition(".")[2] == wanted.rpartition(".")[2]]
    if found or wanted in {key.path.rpartition(".")[2] for key in named}:
        return tuple(found or named)
    close = [key.path for key in named] or get_close_matches(wanted, [key.path for key in keys], n=3, cutoff=0.4)
    raise ConfigError(
        f"a recipe has no key {path!r}",
        action=f"closest: {', '.join(close)}" if close else "`zigong recipe reference` lists every key",
    )


def _walk(model: type[BaseModel], prefix: str) -> Iterator[Key | SectionText]:
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        section, many = _section_of(field.annotation)
        if section is None:
            yield _key(path, field)
            continue
        inner = f"{path}[]" if many else path
        own = _sentence((section.__doc__ or "").partition("\n\n")[0]).replace("``", "`")
        further = _sentence(field.description or "")
        meaning = f"{own} {further[:1].upper()}{further[1:]}" if further else own
        yield SectionText(path=inner, meaning=meaning, required=field.is_required())
        yield from _walk(section, f"{inner}.")


def _section_of(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """The section of an annotation, and whether there may be many; None for a value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    for part in get_args(annotation):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part, get_origin(annotation) is tuple
    return None, False


def _key(path: str, field: FieldInfo) -> Key:
    default = field.get_default()
    example = _EXAMPLES.get(path, default)
    return Key(
        path=path,
        meaning=_sentence(field.description or ""),
        allowed=_allowed(field.annotation, field.metadata),
        default="required" if default is PydanticUndefined else _yaml(default),
        unit=next((unit for end, unit in _UNITS if path.endswith(end)), ""),
        example="" if example is PydanticUndefined else _yaml(example),
    )


def _allowed(annotation: Any, metadata: list[Any]) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(map(str, parts))
    if origin in {Union, types.UnionType}:
        (part,) = [part for part in parts if part is not type(None)]
        return f"{_allowed(part, metadata)} or null"
    if origin is tuple:
        return f"list of {_allowed(parts[0], [])}"
    if origin is dict:
        return f"mapping of {_allowed(parts[0], [])} to {_allowed(parts[1], [])}"
    inner = getattr(annotation, "__metadata__", ())
    if inner:
        return _allowed(annotation.__origin__, [part for item in inner for part in getattr(item, "metadata", [item])])
    return " ".join([_TYPES.get(annotation, "text"), *_bounds(metadata)])


def _bounds(metadata: list[Any]) -> list[str]:
    """The bounds of a number as words."""
    words: list[str] = []
    for bound in metadata:
        match bound:
            case Gt(gt=value):
                words.append(f"above {value}")
            case Ge(ge=value):
                words.append(f"of at least {value}")
            case Lt(lt=value):
                words.append(f"below {value}")
            case Le(le=value):
                words.append(f"of at most {value}")
    return words


def _yaml(value: object) -> str:
    """A value as it is written in a recipe."""
    if isinstance(value, str):
        return value or '""'
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_yaml, value))}]"
    return json.dumps(value)


def _sentence(text: str) -> str:
    flat = " ".join(text.split())
    return flat if not flat or flat.endswith(".") else f"{flat}."
