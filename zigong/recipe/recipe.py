"""A recipe: its sections, the checks across them, and the digest that identifies it."""

from __future__ import annotations

from datetime import date
from typing import Any, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator

from zigong.files.digests import json_digest
from zigong.recipe.base import Base
from zigong.recipe.card import Card
from zigong.recipe.learning import (
    AgentTraining,
    Evaluation,
    FinalTraining,
    Gate,
    Influence,
    Mix,
    Reasons,
    Refit,
    Registry,
)
from zigong.recipe.sections import (
    DateRange,
    Duplicates,
    Engine,
    Labels,
    Lakehouse,
    Observations,
    Section,
    Source,
    Split,
)
from zigong.recipe.text import Instructions


class Recipe(Section):
    """One complete run."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="prefix of the ids of its runs")
    seed: int = Field(
        7, description="seed of models: weights, order of samples, random share of the mix, bootstrap resamples"
    )
    business_timezone: str = Field("UTC", description="IANA time zone of dates, months and local midnights")
    as_of: date = Field(description="end of the data, excluded: what became known at or after this date is not used")
    lakehouse: Lakehouse
    engine: Engine = Engine()
    source: Source
    observations: Observations
    labels: Labels = Labels()
    split: Split = Split()
    duplicates: Duplicates = Duplicates()
    instructions: Instructions = Instructions()
    base: Base = Base()
    agent: AgentTraining = AgentTraining()
    influence: Influence = Influence()
    mix: Mix = Mix()
    finetune: FinalTraining = FinalTraining()
    evaluation: Evaluation = Evaluation()
    gate: Gate = Gate()
    card: Card = Card()
    refit: Refit | None = Field(
        None, description="a last training of the released model, on the samples of all splits; needs split.by: time"
    )
    reasons: Reasons = Reasons()
    registry: Registry = Registry()

    @field_validator("business_timezone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"{name!r} is not an IANA time zone such as Europe/Berlin") from error
        return name

    @model_validator(mode="after")
    def _dates_fit_the_split(self) -> Self:
        if self.split.by == "user_hash":
            _require_one_date(self)
            if self.refit is not None:
                raise ValueError("refit needs split.by: time: later runs could not compare their models with this one")
        else:
            _require_closed_windows(self)
        return self

    @model_validator(mode="after")
    def _text_names_the_loan_it_asks_about(self) -> Self:
        if self.observations.unit == "loan" and "loan" not in self.instructions.event_fields:
            raise ValueError(
                "observations.unit: loan asks about one of a client's loans: add loan to instructions.event_fields, so "
                "that the text distinguishes them"
            )
        return self

    @model_validator(mode="after")
    def _divided_weights_are_frozen(self) -> Self:
        if self.engine.shard_base and (
            self.finetune.lora is None or self.finetune.quantise is not None or self.agent.quantise is not None
        ):
            raise ValueError(
                "engine.shard_base divides frozen weights in full precision: it needs finetune.lora, and no quantise"
            )
        return self

    def unlabelled_dates(self) -> tuple[date, ...]:
        """The dates whose points may be trained on without a label; none without ``finetune.distil.unlabelled``.

        They are the train dates and, with a split by time, those up to the first one of validation, excluded: a
        history of a later date would contain outcomes of held-out samples.
        """
        if not self.finetune.distil.unlabelled:
            return ()
        train, validation = self.observations.train, self.observations.validation
        if self.split.by == "user_hash" or validation is None:
            return train.dates()
        return DateRange(first=train.first, last=validation.first).dates()[:-1]

    def observation_dates(self) -> tuple[date, ...]:
        """Every date on which clients or loans are observed, sorted, without duplicates."""
        return tuple(sorted({*self.observations.dates(), *self.unlabelled_dates()}))

    def digest(self) -> str:
        """SHA-256 of everything that can change a result: not the engine's limits, nor where and when tables are."""
        unimportant: Any = {"engine": True, "lakehouse": {"root"}, "registry": True, "source": {"missing_nights"}}
        content = self.model_dump(mode="json", exclude=unimportant)
        return json_digest(content)


def _require_one_date(recipe: Recipe) -> None:
    """A hash split has one T: settings that need several are refused with their names."""
    observations = recipe.observations
    if observations.validation or observations.oot:
        raise ValueError("observations.validation and observations.oot need split.by: time")
    if len(observations.train.dates()) > 1:
        raise ValueError("observations.train must hold one date with split.by: user_hash")
    if recipe.influence.pairs != "all":
        raise ValueError("influence.pairs: later needs several dates; use all with split.by: user_hash")
    if recipe.influence.checkpoints != "all" or recipe.influence.decay == "sample":
        raise ValueError("influence.checkpoints: own and influence.decay: sample need several dates")
    if recipe.split.test_share <= 0 or recipe.split.validation_share <= 0:
        raise ValueError("split.test_share and split.validation_share must be above 0 with split.by: user_hash")


def _require_closed_windows(recipe: Recipe) -> None:
    """Every split's labels are mature, reporting lag included, at the next split's first T."""
    observations, horizon = recipe.observations, recipe.labels.horizons[0]
    if observations.validation is None or observations.oot is None:
        raise ValueError("split.by: time needs observations.validation and observations.oot")
    named = {"train": observations.train, "validation": observations.validation, "oot": observations.oot}
    for (earlier, former), (later, following) in zip(list(named.items())[:-1], list(named.items())[1:], strict=True):
        matures = recipe.labels.matures(former.last, horizon)
        if matures > following.first:
            lag = f" + {recipe.labels.reporting_lag_days} days" if recipe.labels.reporting_lag_days else ""
            raise ValueError(
                f"the label window of observations.{earlier} ({former.last} + {horizon.window_months} months{lag}) "
                f"reaches into observations.{later} (first {following.first})"
            )
