"""A Ray actor that opens one model, then answers its prompts shard by shard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import torch

from zigong.evaluation.asked_model import AskedModel, ModelFolders, OpenedModel
from zigong.evaluation.fusion import FusedPart
from zigong.evaluation.prompt_sources import ModelPrompts
from zigong.recipe import Horizon


class AnswerWorker:
    """Answers shards: partitions (observation_date, user_bucket), or the users of a bucket.

    Args:
        asked: the model and its question.
        folders: the folders of its files.
        prompts: its prompts.
        engine: with ``trees`` the prompts of a user in a shard share a forward pass.
        batch_tokens: padded tokens of one forward pass.
        torch_threads: threads of torch.
        fused: what the card adds to the model; None: the model is the card.
        generated_up_to: prompts with a sample_id up to this one are also answered in free text; None: no prompt.
        further: horizons that the question is also asked about.
    """

    def __init__(
        self,
        *,
        asked: AskedModel,
        folders: ModelFolders,
        prompts: ModelPrompts,
        engine: Literal["samples", "trees"],
        batch_tokens: int,
        torch_threads: int,
        fused: FusedPart | None = None,
        generated_up_to: str | None = None,
        further: Sequence[Horizon] = (),
    ) -> None:
        torch.set_num_threads(torch_threads)
        self._model = OpenedModel(asked, folders)
        self._fused = None if fused is None else fused.open()
        self._prompts = prompts
        self._engine = engine
        self._batch_tokens = batch_tokens
        self._generated_up_to = generated_up_to
        self._further = tuple(further)

    def __call__(self, shard: Mapping[str, Any]) -> pa.Table:
        """Columns of :meth:`OpenedModel.answers` for the prompts of one shard, and ``generated`` if any are."""
        prompts = self._prompts.of_shard(shard, self._model.encoder)
        states = self._fused is not None and self._fused.part.fusion.READS_STATES
        answers = self._model.answers(
            prompts, engine=self._engine, batch_tokens=self._batch_tokens, states=states, further=self._further
        )
        if self._generated_up_to is not None:
            chosen = prompts.filter(pc.less_equal(prompts["sample_id"], self._generated_up_to))
            texts = self._model.free_answers(chosen, batch_tokens=self._batch_tokens)
            generated = texts["generated"].take(pc.index_in(answers["sample_id"], texts["sample_id"]))
            answers = answers.append_column("generated", generated)
        return answers if self._fused is None else self._fused.applied(answers, prompts, shard)
