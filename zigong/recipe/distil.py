"""The section of a recipe about the teachers of the final model."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from zigong.recipe.sections import Positive, Section, Share


class Ensemble(Section):
    """Trainings of the final model under several seeds, whose answers, averaged in log-odds, help to teach it."""

    seeds: Positive = Field(3, description="trainings whose answers to a sample are averaged, one for each seed")
    folds: Positive = Field(
        2,
        description="parts of the train persons; a sample is answered by trainings without this part, so that none has "
        "seen its person; 1: all trainings have all samples",
    )
    share: Share = Field(
        0.5, description="share of the ensemble's log-odds in those of the teacher; the rest is LightGBM's"
    )


class Distil(Section):
    """A teacher of the final model: LightGBM on the baseline features, which answers persons that it never saw."""

    folds: int = Field(
        5, ge=3, description="parts of the train persons; each is answered by trees that saw none of its samples"
    )
    weight: Share = Field(
        0.0, description="share of the teacher's answer in the loss, the rest is the label's; 0: no teacher"
    )
    ensemble: Ensemble | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="an ensemble of the final model as a second teacher; needs weight above 0",
    )
    unlabelled: bool = Field(
        False,
        exclude_if=lambda value: not value,
        description="whether observation points of train persons without a usable label are trained on with the "
        "teacher's answer alone: indeterminate and immature ones, and those between the train dates and validation, "
        "whose windows reach into it; needs weight above 0",
    )

    @model_validator(mode="after")
    def _weight_of_every_teacher(self) -> Self:
        used = {"ensemble": self.ensemble is not None, "unlabelled": self.unlabelled}
        if any(used.values()) and not self.weight:
            names = " and ".join(name for name, is_used in used.items() if is_used)
            raise ValueError(f"{names} needs weight above 0: with 0 nothing is taught")
        return self

    @property
    def trainings(self) -> int:
        """The cost of the final model and its ensemble, in trainings on all samples."""
        if self.ensemble is None:
            return 1
        seeds, folds = self.ensemble.seeds, self.ensemble.folds
        return 1 + seeds * (folds - 1 if folds > 1 else 1)
