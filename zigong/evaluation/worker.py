"""What an answering actor does: opens one model, then answers one cell of prompts after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from zigong.dataset.samples import PromptSource, SampleSource, prompts_of_cell
from zigong.evaluation.answers import answer_prompts
from zigong.instructions.encode import LineEncoder
from zigong.training.adapters import load_adapted


class AnswerWorker:
    """Answers shards of instruction_samples: (observation_date, user_bucket) cells, or the users of a bucket.

    Prompts are encoded with the tokenizer of the model that answers, which may be an older champion's.

    Args:
        source: where the prompts stand.
        splits: answer only members of these splits; None: every prompt of the template in the cell.
        template: the question that is answered, the recipe's main one.
        choices: the admissible answers, the bad one first.
        engine: ``trees``: the prompts of a user in a shard share a pass.
    """

    def __init__(
        self,
        *,
        source: PromptSource,
        splits: Sequence[str] | None,
        template: str,
        base_folder: Path,
        adapter_folder: Path,
        choices: Sequence[str],
        engine: Literal["samples", "trees"],
        batch_tokens: int,
        torch_threads: int,
    ) -> None:
        torch.set_num_threads(torch_threads)
        self._source = source
        self._template = template
        self._wanted = source.members(splits) if isinstance(source, SampleSource) and splits is not None else None
        self._model = load_adapted(base_folder, adapter_folder).get_base_model()
        self._encoder = LineEncoder.of(base_folder)
        self._choices = tuple(choices)
        self._engine = engine
        self._batch_tokens = batch_tokens

    def __call__(self, shard: Mapping[str, Any]) -> pa.Table:
        """Columns sample_id, p_bad, answer (null on a miss) and miss of one cell."""
        told = prompts_of_cell(self._source, shard, self._template, among=self._wanted)
        found = answer_prompts(
            self._model,
            told["sample_id"].to_pylist(),
            [np.array(self._encoder.prompt(prompt), dtype=np.int32) for prompt in told["prompt"].to_pylist()],
            [self._encoder.completion(choice) for choice in self._choices],
            batch_tokens=self._batch_tokens,
            owners=told["user_id"].to_pylist() if self._engine == "trees" else None,
        )
        words = pa.array(self._choices).take(found["answer"].combine_chunks())
        answers = pc.if_else(found["miss"].combine_chunks(), pa.scalar(None, pa.string()), words)
        return found.set_column(found.column_names.index("answer"), "answer", answers)
