"""The section of a recipe about the base model."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from zigong.recipe.sections import Positive, Rate, Section


def _is_none(value: object) -> bool:
    """For keys that a recipe's digest holds only where they are used."""
    return value is None


class TinyBase(Section):
    """A Mistral-architecture model trained in the run."""

    hidden_size: Positive = Field(128, description="width of the model; a multiple of heads")
    layers: Positive = Field(4, description="layers of the model")
    heads: Positive = Field(4, description="attention heads of a layer")
    ffn_size: Positive = Field(384, description="width of the gated feed-forward part of a layer")
    context_length: Positive = Field(512, description="longest segment of a timeline in pre-training")
    epochs: Positive = Field(2, description="passes over the timelines in pre-training")
    learning_rate: Rate = Field(2e-3, description="highest learning rate of pre-training")
    batch_tokens: Positive = Field(4096, description="padded tokens of one step of pre-training")
    max_tokens: Positive | None = Field(None, description="stop pre-training after this many tokens")


class ContinuedBase(Section):
    """Further pre-training of all weights of a named base on the lender's event text, without labels."""

    context_length: Positive = Field(1024, description="longest segment of a timeline")
    epochs: Positive = Field(1, description="passes over the timelines")
    learning_rate: Rate = Field(2e-5, description="highest learning rate")
    batch_tokens: Positive = Field(4096, description="padded tokens of one step")
    max_tokens: Positive | None = Field(None, description="stop after this many tokens")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="numbers of the passes; the weights stay in fp32")
    gradient_checkpointing: bool = Field(False, description="keep one tensor per layer and compute the others again")


class Base(Section):
    """The base model: a pretrained one in Hugging Face format or in a GGUF file, or a tiny one trained here."""

    path: str | None = Field(
        None,
        description="folder of a model in Hugging Face format, or the id of one in the local cache of the hub; needs "
        "tiny: null. docs/models.md lists the families",
    )
    revision: str | None = Field(
        None, description="branch, tag or commit of a path in the cache of the hub; null: main", exclude_if=_is_none
    )
    gguf: str | None = Field(
        None,
        description="GGUF file with the tokenizer.json of the model beside it, converted in the run; needs tiny: null",
        exclude_if=_is_none,
    )
    tiny: TinyBase | None = Field(TinyBase(), description="a small model trained in the run; null with path or gguf")
    continued: ContinuedBase | None = Field(
        None,
        description="train path or gguf further on the event text of train clients, before agent and final training",
        exclude_if=_is_none,
    )
    parameters: Positive | None = Field(
        None, description="number of parameters of a pretrained model, for the estimate of zigong plan"
    )

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if sum(given is not None for given in (self.path, self.gguf, self.tiny)) != 1:
            raise ValueError("set exactly one of path, gguf and tiny")
        if self.revision is not None and self.path is None:
            raise ValueError("revision belongs to path")
        if self.continued is not None and self.tiny is not None:
            raise ValueError("continued belongs to path or gguf: a tiny base is trained by its own section")
        return self
