"""What an answering actor does: opens one model, then answers one cell of prompts after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from zigong.evaluation.answers import answer_prompts
from zigong.instructions.encode import LineEncoder
from zigong.lakehouse.samples import SampleSource, prompts_of_cell
from zigong.training.adapters import load_adapted


class AnswerWorker:
    """Answers shards; a shard is one (observation_date, user_bucket) cell of instruction_samples.

    Prompts are encoded with the tokenizer of the model that answers, which may be an older champion's.

    Args:
        source: where the prompts stand.
        splits: answer only members of these splits; None: every prompt of the template in the cell.
        template: the question that is answered, the recipe's main one.
        choices: the admissible answers, the bad one first.
    """

    def __init__(
        self,
        *,
        source: SampleSource,
        splits: Sequence[str] | None,
        template: str,
        base_folder: Path,
        adapter_folder: Path,
        choices: Sequence[str],
        batch_tokens: int,
        torch_threads: int,
    ) -> None:
        torch.set_num_threads(torch_threads)
        self._source = source
        self._template = template
        self._wanted = source.members(splits)["sample_id"] if splits is not None else None
        self._model = load_adapted(base_folder, adapter_folder).get_base_model()
        self._encoder = LineEncoder.of(base_folder)
        self._choices = tuple(choices)
        self._batch_tokens = batch_tokens

    def __call__(self, shard: Mapping[str, Any]) -> pa.Table:
        """Columns sample_id, p_bad, answer (null on a miss) and miss of one cell."""
        told = prompts_of_cell(self._source, shard, self._template)
        if self._wanted is not None:
            told = told.filter(pc.is_in(told["sample_id"], self._wanted.combine_chunks()))
        found = answer_prompts(
            self._model,
            told["sample_id"].to_pylist(),
            [np.array(self._encoder.prompt(prompt), dtype=np.int32) for prompt in told["prompt"].to_pylist()],
            [self._encoder.completion(choice) for choice in self._choices],
            batch_tokens=self._batch_tokens,
        )
        words = pa.array(self._choices).take(found["answer"].combine_chunks())
        answers = pc.if_else(found["miss"].combine_chunks(), pa.scalar(None, pa.string()), words)
        return found.set_column(found.column_names.index("answer"), "answer", answers)
