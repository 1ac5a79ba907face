"""What features depend on, besides what is known of a client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from zigong.recipe import Recipe
from zigong.recipe.source import counted_attributes, source_mapping

FEATURE_TABLE = "behavior_features"


@dataclass(frozen=True, kw_only=True)
class FeatureSettings:
    """What features depend on, besides what is known of a client.

    Attributes:
        outcome_events: event types that state a repayment status, sorted.
        timezone: business time zone.
        currency: main currency of amounts; None: they have one.
        max_events: how many of the newest events a sequence keeps.
        attributes: attributes of events whose values are counted, sorted.
    """

    outcome_events: tuple[str, ...]
    timezone: str
    currency: str | None
    max_events: int
    attributes: tuple[str, ...]

    @classmethod
    def of(cls, recipe: Recipe) -> Self:
        """The settings of a recipe.

        Raises:
            ConfigError: as ``source_mapping`` and ``counted_attributes``.
        """
        return cls(
            outcome_events=tuple(sorted(source_mapping(recipe).outcome_events)),
            timezone=recipe.business_timezone,
            currency=recipe.instructions.currency,
            max_events=recipe.instructions.max_events,
            attributes=counted_attributes(recipe),
        )
