"""What a recipe observes, as digests in the keys of its tables: recipes that differ in it never share a row."""

from __future__ import annotations

from zigong.files.digests import json_digest
from zigong.recipe.recipe import Recipe
from zigong.recipe.source import source_mapping, source_names

DIGITS = 16  # of a digest in a key


def population_of(recipe: Recipe) -> str:
    """Digest of everything that decides who is observed: sources, outcome types, unit, cohort, and the time zone of T.

    Text, labels and models do not enter it: recipes that differ only there share their observation points.

    Raises:
        ConfigError: see :func:`zigong.recipe.source.source_mapping`.
    """
    mapping = source_mapping(recipe)
    content = {
        "source": mapping.name,
        "further": sorted(source_names(recipe)[1:]),
        "outcome_events": sorted(mapping.outcome_events),
        "closing_events": sorted(mapping.closing_events),
        "unit": recipe.observations.unit,
        "cohort": recipe.observations.cohort.model_dump(mode="json"),
        "timezone": recipe.business_timezone,
    }
    return json_digest(content)[:DIGITS]


def label_settings_of(recipe: Recipe) -> str:
    """Digest of the horizons and the reporting lag, which decide the labels of a population."""
    return json_digest(recipe.labels.model_dump(mode="json"))[:DIGITS]
