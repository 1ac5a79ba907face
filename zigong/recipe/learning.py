"""The sections of a recipe about models: base, trainings, influence, mix, evaluation, gate, card and registry."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from zigong.recipe.sections import Positive, Rate, Section, Share


class TinyBase(Section):
    """A Mistral-architecture model trained in the run."""

    hidden_size: Positive = 128
    layers: Positive = 4
    heads: Positive = 4
    ffn_size: Positive = 384
    context_length: Positive = 512
    epochs: Positive = 2
    learning_rate: Rate = 2e-3
    batch_tokens: Positive = 4096
    max_tokens: Positive | None = Field(None, description="stop pre-training after this many tokens")


class Base(Section):
    """The base model: a local folder in Hugging Face format, or a tiny one trained here."""

    path: str | None = None
    tiny: TinyBase | None = TinyBase()
    parameters: Positive | None = Field(None, description="size of the named base, for the plan")

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.path is None) == (self.tiny is None):
            raise ValueError("set exactly one of path and tiny")
        return self


class Lora(Section):
    """The low-rank adapter."""

    r: Positive = 8
    alpha: Positive = 16
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj")
    rank_pattern: dict[str, Positive] = Field({}, description="r of single layers: name or pattern to rank")
    alpha_pattern: dict[str, Positive] = Field({}, description="alpha of single layers: name or pattern to alpha")
    rslora: bool = Field(False, description="scale alpha / sqrt(r) instead of alpha / r")


class Training(Section):
    """One supervised training: completion-only loss, AdamW 0.9/0.999."""

    engine: Literal["samples", "trees"] = Field(
        "samples", description="trees: batches of whole users of a period, whose shared history is processed once"
    )
    lora: Lora = Lora()
    epochs: Positive = 1
    learning_rate: Rate = 3e-3
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup_steps: int = Field(10, ge=0)
    batch_size: Positive = Field(64, description="samples of one forward pass")
    accumulation: Positive = Field(
        1, description="batches per step; a step has batch_size x accumulation samples however it is divided"
    )
    context_length: Positive = 512
    weight_decay: float = Field(0.0, ge=0)
    count_eos: bool = Field(False, description="whether the end token counts for the loss, here and in scoring")


class Agent(Training):
    """The agent: trained in time order, one checkpoint per period, constant rate after warm-up."""

    schedule: Literal["constant"] = "constant"
    checkpoints: Positive = Field(3, description="periods the train dates are divided into")


class Influence(Section):
    """TracSeq settings (docs/influence.md)."""

    engine: Literal["samples", "trees"] = Field(
        "samples", description="trees: forward mode over one token tree per user, each shared token computed once"
    )
    gamma: float = Field(0.9, gt=0, le=1)
    decay: Literal["checkpoint", "sample", "none"] = "checkpoint"
    checkpoints: Literal["all", "own"] = "all"
    pairs: Literal["later", "all"] = "later"
    scope: Literal["population", "user"] = Field("population", description="user: targets of the sample's own user")
    normalise: Literal["dot", "cosine"] = "dot"
    precondition: Literal["none", "adam"] = "none"
    precision: Literal["fp32", "bf16"] = Field("fp32", description="of the passes; scores are summed in fp32 or fp64")
    gradient_checkpointing: bool = Field(False, description="less memory, a third more time, the same scores")
    max_targets: Positive = Field(2000, description="cap of target samples by unit hash")
    batch_tokens: Positive = Field(
        4096, description="padded tokens of one pass; choose what fits a CPU's cache, or a GPU"
    )

    @model_validator(mode="after")
    def _forward_mode_fits(self) -> Self:
        served = {"scope": "population", "normalise": "dot", "precision": "fp32"}
        other = [name for name, value in served.items() if getattr(self, name) != value]
        if self.engine == "trees" and other:
            raise ValueError(f"engine: trees serves only {served[other[0]]} as {other[0]}; use engine: samples")
        return self


class Mix(Section):
    """The training mix: an influence share first, then random samples from the rest."""

    fraction: Rate = Field(0.5, description="size of the mix as a share of the pool")
    influence_share: Share = 0.3
    rank: Literal["global", "class", "period", "class_period"] = Field(
        "class", description="groups of a task within which samples are ranked; quotas as in the pool"
    )
    max_per_user: Positive | None = Field(None, description="most samples of one user in the whole mix")


class Evaluation(Section):
    """Answers, measures and baselines."""

    engine: Literal["samples", "trees"] = Field(
        "samples", description="trees: the prompts of a user share a pass; for evaluation and for scoring the book"
    )
    bootstrap: Positive = Field(2000, description="resamples of whole split units behind every interval")
    confidence: Rate = 0.95
    batch_tokens: Positive = Field(8192, description="padded tokens of one pass")


class Gate(Section):
    """The conditions for the release of a challenger."""

    max_auc_loss: Share = Field(0.01, description="largest tolerated loss of AUC against the champion")
    beat_last_status: bool = Field(True, description="paired AUC difference to the lookup must exclude zero")
    min_mcc: float = Field(0.0, description="MCC at the threshold must be above this; majority has 0")
    alarm: Literal["refuse", "warn"] = Field(
        "refuse", description="what happens where an attribute or a model separates the classes almost wholly"
    )


class Card(Section):
    """Scaling of the Behavior Card: ``base_score`` points at ``base_odds`` good to bad, ``pdo`` to double the odds."""

    base_score: Positive = 600
    base_odds: float = Field(20.0, gt=0)
    pdo: Positive = 50


class Registry(Section):
    """The model registry."""

    uri: str | None = Field(None, description="MLflow address; default: sqlite under the lakehouse")
    model_name: str = "behavior_card"
    experiment: str = "zigong"
