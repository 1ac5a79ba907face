"""The champion on the challenger's samples, with the champion's own tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zigong.evaluation.answers import answer_samples
from zigong.instructions.encode import LineEncoder


def rescored(
    told: pa.Table,
    *,
    base_folder: Path,
    adapter_folder: Path,
    choices: Sequence[str],
    batch_tokens: int,
    torch_threads: int,
) -> NDArray[np.float64]:
    """p_bad of another model for rendered prompts.

    Args:
        told: columns sample_id and prompt; shape [samples].
        base_folder: base of the model, whose tokenizer encodes the prompts.
        choices: admissible answers, the bad one first.
    """
    encoder = LineEncoder.of(base_folder)
    answers = answer_samples(
        base_folder,
        adapter_folder,
        told["sample_id"].to_pylist(),
        [np.array(encoder.prompt(prompt), dtype=np.int32) for prompt in told["prompt"].to_pylist()],
        [encoder.completion(choice) for choice in choices],
        batch_tokens=batch_tokens,
        torch_threads=torch_threads,
    )
    p_bad: NDArray[np.float64] = answers["p_bad"].to_numpy()
    return p_bad
