"""The sections of a recipe about the Behavior Card: what answers, and the scaling of its points."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from zigong.recipe.sections import Positive, Section

Head = Literal["lm", "fused", "joint", "boosted"]
CANDIDATES: tuple[Head, ...] = ("lm", "fused", "joint")


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


class BoostedTraining(Section):
    """LightGBM on the baseline features and on what the language model says of a prompt, on train out of fold."""

    folds: int = Field(
        2,
        ge=2,
        description="parts of the train persons; the final model's training is repeated without each, and answers it",
    )
    components: int = Field(
        2,
        ge=0,
        description="principal components of the last hidden state that LightGBM reads beside the log-odds; 0: none",
    )


class Card(Section):
    """Parts and points of the Behavior Card: ``base_score`` at ``base_odds`` good to bad, ``pdo`` to double them."""

    head: Literal["lm", "fused", "joint", "boosted", "select"] = Field(
        "lm",
        description="lm: the language model is the card; fused: its log-odds and those of LightGBM on the baseline "
        "features are added, with weights fitted on select; joint: a language model and a tower on these features, "
        "trained together; boosted: LightGBM on these features, the language model's log-odds and components of its "
        "last state; select: the candidate with the smallest log-loss on select",
    )
    candidates: tuple[Head, ...] = Field(
        CANDIDATES,
        min_length=2,
        exclude_if=lambda heads: heads == CANDIDATES,
        description="heads among which head: select chooses",
    )
    joint: JointTraining | None = Field(
        None,
        exclude_if=lambda joint: joint is None,
        description="a joint model that is trained and measured; null: none, unless head or candidates need one",
    )
    boosted: BoostedTraining | None = Field(
        None,
        exclude_if=lambda boosted: boosted is None,
        description="a boosted card that is fitted and measured; null: none, unless head or candidates need one",
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
    def _sections_if_needed(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        head, candidates = content.get("head"), content.get("candidates", CANDIDATES)
        needed = (name for name in ("joint", "boosted") if name in (candidates if head == "select" else (head,)))
        return {**content, **{name: {} for name in needed if content.get(name) is None}}

    @model_validator(mode="after")
    def _candidates_fit(self) -> Self:
        if len(set(self.candidates)) < len(self.candidates):
            raise ValueError("candidates names a head twice")
        if self.head != "select" and self.candidates != CANDIDATES:
            raise ValueError("candidates needs head: select")
        return self
