"""The source of a recipe: its mapping, and the key for the digests of its clients' ids."""

from __future__ import annotations

import hmac

from schemas.mappings import SourceMapping, load_mapping
from zigong.errors import ConfigError
from zigong.recipe.recipe import Recipe
from zigong.recipe.user_key import KEY_FILE_VARIABLE, KEY_VARIABLE, taken_key

PUBLISHED_KEY = "zigong-public-demo-key"  # pseudonyms of public and simulated data only
SHORTEST_KEY = 16  # characters


def source_mapping(recipe: Recipe) -> SourceMapping:
    """The mapping of a recipe, by the name of a shipped one or by a path from the working directory.

    Raises:
        ConfigError: there is no such mapping, its content is not allowed, or it is private and the key published.
    """
    mapping = _loaded(recipe.source.mapping, "source.mapping")
    if recipe.lakehouse.key == "published" and mapping.data == "private":
        raise ConfigError(
            "lakehouse.key: published is no secret, but the source is private",
            action=f"set lakehouse.key: env and export {KEY_VARIABLE}",
        )
    return mapping


def counted_attributes(recipe: Recipe) -> tuple[str, ...]:
    """The attributes of events whose values the features count, sorted.

    Raises:
        ConfigError: a mapping does not exist, or no mapping of the recipe's sources declares one of them as a code.
    """
    counted = recipe.instructions.counted_attributes
    declared = {name for mapping in _mappings(recipe) for name in mapping.attribute_codes}
    if unknown := [name for name in counted if name not in declared]:
        raise ConfigError(
            f"instructions.counted_attributes: {', '.join(unknown)}: values of an attribute are "
            f"counted if the mapping declares it as a code; declared: {', '.join(sorted(declared)) or 'none'}",
            action="declare it under attributes of the mapping, if no person wrote its values, or leave it out",
        )
    return counted


def source_names(recipe: Recipe) -> tuple[str, ...]:
    """The sources whose events are in the histories, that of the labels first.

    Raises:
        ConfigError: as ``source_mapping``; or the sources do not declare that they know clients by the same ids, or an
            outcome event type of the first one is one of another.
    """
    first = source_mapping(recipe)
    others = [_loaded(name, "source.further") for name in recipe.source.further]
    for other in others:
        if first.id_namespace is None or other.id_namespace != first.id_namespace:
            raise ConfigError(
                f"source.further: {other.name} (id_namespace {other.id_namespace}) and {first.name} (id_namespace "
                f"{first.id_namespace}) do not declare that they know clients by the same ids",
                action="state the same id_namespace in both mappings, if that is so, and ingest both again",
            )
        shared = sorted({*first.outcome_events} & {*other.outcome_events})
        if shared:
            raise ConfigError(
                f"source.further: {other.name} and {first.name} both declare {', '.join(shared)} as outcome events",
                action="give the events of one of them another event_type in its mapping",
            )
    return (first.name, *(other.name for other in others))


def declared_event_types(recipe: Recipe) -> frozenset[str]:
    """The event types that the mappings of the recipe's sources name: those of outcomes and of closing loans.

    Raises:
        ConfigError: a mapping does not exist or its content is not allowed.
    """
    return frozenset(
        kind for mapping in _mappings(recipe) for kind in (*mapping.outcome_events, *mapping.closing_events)
    )


def outcome_source(recipe: Recipe) -> str | None:
    """The source that states the outcome events where the histories hold several; None: they hold one."""
    return source_mapping(recipe).name if recipe.source.further else None


def _mappings(recipe: Recipe) -> list[SourceMapping]:
    return [source_mapping(recipe), *(_loaded(name, "source.further") for name in recipe.source.further)]


def _loaded(name: str, key: str) -> SourceMapping:
    try:
        return load_mapping(name)
    except ValueError as error:
        raise ConfigError(
            f"{key}: {error}",
            action="correct the file, or use its path; a relative one starts at the working directory",
        ) from error


def pseudonym_key(recipe: Recipe) -> bytes:
    """The HMAC key of the ids of the recipe's source: of the lakehouse, and of the source's namespace if it has one.

    Raises:
        ConfigError: as ``lakehouse_key`` and ``source_mapping``.
    """
    key, namespace = lakehouse_key(recipe), source_mapping(recipe).id_namespace
    return key if namespace is None else hmac.digest(key, f"zigong id namespace {namespace}".encode(), "sha256")


def known_key(recipe: Recipe) -> bytes | None:
    """The HMAC key of client ids, None where this process has none: only the ingest needs it."""
    if recipe.lakehouse.key == "env" and not taken_key():
        return None
    return lakehouse_key(recipe)


def lakehouse_key(recipe: Recipe) -> bytes:
    """The HMAC key of client ids.

    Raises:
        ConfigError: the key is missing, too short, or the published one.
    """
    if recipe.lakehouse.key == "published":
        return PUBLISHED_KEY.encode()
    key = taken_key()
    if len(key) < SHORTEST_KEY or key == PUBLISHED_KEY:
        raise ConfigError(
            f"{KEY_VARIABLE} must hold a secret of at least {SHORTEST_KEY} characters that is not the published one",
            action=f"export {KEY_VARIABLE} from your secret store, or name its file in {KEY_FILE_VARIABLE}; one key "
            "per lakehouse, permanently",
        )
    return key.encode()
