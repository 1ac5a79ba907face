"""The sections of a recipe about the Behavior Card: what answers, and the scaling of its points."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from zigong.recipe.sections import Positive, Section

Head = Literal["lm", "fused", "joint"]
HEADS: tuple[Head, ...] = ("lm", "fused", "joint")


class JointTraining(Section):
    """A joint model: an adapter and a tower on the baseline features, trained together like the final model."""

    width: Positive = Field(16, description="width of the embedded features, and of the language model's state there")
    quantiles: Positive = Field(
        8, description="words of a number, by quantiles of the train samples; missing and zero have words of their own"
    )
    profile: bool = Field(True, description="whether the tower reads the profile")
    dropout: float = Field(0.3, ge=0, lt=1, description="share of the tower's inner values that training drops")
    rate: float = Field(1.0, gt=0, description="learning rate of the tower, as a multiple of finetune.learning_rate")
    weight_decay: float = Field(1.0, ge=0, description="decay of the tower's weights per step, times its rate")


class Card(Section):
    """Parts and points of the Behavior Card: ``base_score`` at ``base_odds`` good to bad, ``pdo`` to double them."""

    head: Literal["lm", "fused", "joint", "select"] = Field(
        "lm",
        description="lm: the language model is the card; fused: its log-odds and those of LightGBM on the baseline "
        "features are added, with weights fitted on select; joint: a language model and a tower on these features, "
        "trained together; select: the candidate with the smallest log-loss on select",
    )
    candidates: tuple[Head, ...] = Field(
        HEADS,
        min_length=2,
        exclude_if=lambda heads: heads == HEADS,
        description="heads among which head: select chooses",
    )
    joint: JointTraining | None = Field(
        None,
        exclude_if=lambda joint: joint is None,
        description="a joint model that is trained and measured; null: none, unless head or candidates need one",
    )
    base_score: Positive = Field(600, description="points at base_odds")
    base_odds: float = Field(20.0, gt=0, description="good clients per bad one at base_score")
    pdo: Positive = Field(50, description="points that double the odds")

    @property
    def compared(self) -> tuple[Head, ...]:
        """The heads among which the card is chosen: one, unless ``head`` is select."""
        return self.candidates if self.head == "select" else (self.head,)

    @model_validator(mode="before")
    @classmethod
    def _joint_if_needed(cls, content: Any) -> Any:
        if not isinstance(content, dict) or content.get("joint") is not None:
            return content
        selects = content.get("head") == "select" and "joint" in content.get("candidates", HEADS)
        return {**content, "joint": {}} if selects or content.get("head") == "joint" else content

    @model_validator(mode="after")
    def _candidates_fit(self) -> Self:
        if len(set(self.candidates)) < len(self.candidates):
            raise ValueError("candidates names a head twice")
        if self.head != "select" and self.candidates != HEADS:
            raise ValueError("candidates needs head: select")
        return self
