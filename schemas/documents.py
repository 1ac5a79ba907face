"""Validates YAML written by users: every mistake is reported on one line with file, field and what is allowed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

Location = tuple[int | str, ...]


class Closed(BaseModel):
    """Base model of such documents: immutable, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Strict(Closed):
    """A closed model without type conversion: a text is not a number and ``yes please`` is not a boolean."""

    model_config = ConfigDict(strict=True)


def yaml_content(text: str, *, origin: str) -> Any:
    """The content of a YAML text.

    Raises:
        ValueError: it is not YAML; the message names ``origin`` and the line.
    """
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{origin}: not valid YAML: {error}") from error


class _TextLoader(yaml.SafeLoader):
    """Keeps keys and items of lists as the texts they are written as: ``no``, ``0123``, ``12:30``, ``NULL``."""


def text_content(text: str, *, origin: str) -> Any:
    """As :func:`yaml_content`; keys and plain items of lists are the texts in the file, and no key occurs twice.

    Raises:
        ValueError: as :func:`yaml_content`, or a key occurs twice.
    """
    try:
        return yaml.load(text, Loader=_TextLoader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(f"{origin}: not valid YAML: {error}") from error


def _text_mapping(loader: _TextLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[str] = set()
    for key_node, _ in node.value:
        if key_node.value in seen:
            problem = f"expected each key once, found {key_node.value!r} again"
            raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
        seen.add(str(key_node.value))
    loader.flatten_mapping(node)
    return {_as_written(loader, key): loader.construct_object(value, deep=True) for key, value in node.value}


def _text_list(loader: _TextLoader, node: yaml.SequenceNode) -> list[Any]:
    return [_as_written(loader, item) for item in node.value]


def _as_written(loader: _TextLoader, node: yaml.Node) -> Any:
    return node.value if isinstance(node, yaml.ScalarNode) else loader.construct_object(node, deep=True)


_TextLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _text_mapping)
_TextLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_SEQUENCE_TAG, _text_list)


def explain(error: ValidationError, model: type[BaseModel], *, origin: str) -> str:
    """Every mistake that pydantic found in a document, one per line: ``file: field.path: what is allowed``.

    Args:
        error: the error raised by validation.
        model: the model of the complete document; it defines the keys allowed in place of an unknown one.
        origin: name of the document for the user.
    """
    return "\n".join(_line(dict(item), model, origin) for item in error.errors())


def _line(item: Mapping[str, Any], model: type[BaseModel], origin: str) -> str:
    location, kind, found = item["loc"], item["type"], item["input"]
    where = ": ".join(part for part in (origin, _field(location, model)) if part)
    if kind == "extra_forbidden":
        return f"{where}: unknown key; allowed here: {', '.join(_keys(_at(model, location[:-1])))}"
    if kind == "missing":
        return f"{where} is missing; required here: {', '.join(_keys(_at(model, location[:-1]), required=True))}"
    if kind == "model_type":
        keys = ", ".join(_keys(_at(model, location)))
        return f"{where}: expected a section with {keys}; found {type(found).__name__}"
    message = item["msg"].removeprefix("Value error, ")
    shown = kind != "value_error" and (found is None or isinstance(found, str | int | float))
    return f"{where}: {message}" + (f"; found {found!r}" if shown else "")


def _field(location: Location, model: type[BaseModel]) -> str:
    """The path as written in the file, without the union members and ``[key]`` markers that pydantic adds."""
    parts, annotation = [], model
    for part in location:
        if part != "[key]" and part not in {option.__name__ for option in _models(annotation)}:
            parts.append(str(part))
        annotation = _inside(annotation, part)
    return ".".join(parts)


def _keys(annotation: Any, *, required: bool = False) -> list[str]:
    fields = [item for option in _models(annotation) for item in option.model_fields.items()]
    return list(dict.fromkeys(name for name, field in fields if field.is_required() or not required))


def _at(annotation: Any, location: Sequence[int | str]) -> Any:
    for part in location:
        annotation = _inside(annotation, part)
    return annotation


def _inside(annotation: Any, part: int | str) -> Any:
    """The type at one part of a location; the same type if the part does not lead to another one."""
    for option in _options(annotation):
        origin, arguments = get_origin(option), get_args(option)
        if origin in {dict, Mapping}:
            return arguments[1]
        if origin in {list, tuple}:
            return arguments[0]
    for option in _models(annotation):
        if part == option.__name__:
            return option
        if str(part) in option.model_fields:
            return option.model_fields[str(part)].annotation
    return annotation


def _models(annotation: Any) -> list[type[BaseModel]]:
    return [option for option in _options(annotation) if isinstance(option, type) and issubclass(option, BaseModel)]


def _options(annotation: Any) -> Iterator[Any]:
    """The members of a union, without annotations."""
    if get_origin(annotation) is Annotated:
        yield from _options(get_args(annotation)[0])
    elif get_origin(annotation) in {Union, UnionType}:
        for option in get_args(annotation):
            yield from _options(option)
    else:
        yield annotation
