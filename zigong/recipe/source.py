"""The source of a recipe: its mapping, and the key for the digests of its clients' ids."""

from __future__ import annotations

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
    try:
        mapping = load_mapping(recipe.source.mapping)
    except ValueError as error:
        raise ConfigError(
            f"source.mapping: {error}",
            action="correct the file, or use its path; a relative one starts at the working directory",
        ) from error
    if recipe.lakehouse.key == "published" and mapping.data == "private":
        raise ConfigError(
            "lakehouse.key: published is no secret, but the source is private",
            action=f"set lakehouse.key: env and export {KEY_VARIABLE}",
        )
    return mapping


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
