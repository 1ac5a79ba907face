"""Answers of models to the held-out members of a dataset: rows of evaluation_answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zigong.dataset.samples import partition_shards, user_shards
from zigong.errors import DataError
from zigong.evaluation.answering import answered
from zigong.evaluation.asked_model import AskedModel, ModelFolders
from zigong.evaluation.fusion import FusedPart
from zigong.evaluation.held_out import in_dataset
from zigong.evaluation.horizons import HORIZONS
from zigong.evaluation.prompt_sources import ModelPrompts
from zigong.recipe import Horizon, Recipe

COLUMNS = ("model_id", "sample_id", "split", "answer", "p_bad", "miss", "generated", "horizons")


def model_answers(
    model_id: str,
    asked: AskedModel,
    folders: ModelFolders,
    prompts: ModelPrompts,
    members: pa.Table,
    *,
    recipe: Recipe,
    stage: Path,
    fused: FusedPart | None = None,
    generated: int = 0,
    further: Sequence[Horizon] = (),
) -> pa.Table:
    """The answers of a language model, in COLUMNS and in the order of the members.

    Args:
        members: sorted by sample_id, as ``SampleSource.members`` returns them.
        fused: what a card adds to the model.
        generated: number of samples that it also answers in free text.
        further: horizons that it is also asked about.

    Raises:
        DataError: the prompt of a member does not fit the model's context, or a file of the model differs from the
            registered one.
    """
    shards = user_shards(members) if recipe.evaluation.engine == "trees" else partition_shards(members)
    rows = answered(
        asked,
        folders,
        prompts,
        shards,
        members["sample_id"],
        recipe=recipe,
        stage=stage,
        label=f"answers of {model_id}",
        fused=fused,
        generated=generated,
        further=further,
    )
    if rows["p_bad"].null_count:
        raise DataError(
            f"model {model_id}: {rows['p_bad'].null_count} of {len(rows)} prompts do not fit its context of "
            f"{asked.prompts.context_length} tokens, even with all months but the newest folded",
            action="the model cannot be compared on these samples; see docs/operations.md, The champion",
        )
    if not generated:
        rows = rows.append_column("generated", pa.nulls(len(rows), pa.string()))
    if not further:
        rows = rows.append_column("horizons", pa.nulls(len(rows), HORIZONS))
    named = rows.append_column("model_id", pa.repeat(model_id, len(rows))).append_column("split", members["split"])
    return named.select(COLUMNS)


def baseline_answers(model_id: str, members: pa.Table, p_bad: NDArray[np.float64], choices: Sequence[str]) -> pa.Table:
    """The answers of a baseline, which has no misses, in COLUMNS and in the order of the members."""
    answer = np.where(p_bad >= 0.5, choices[0], choices[1])
    return pa.table(
        {
            "model_id": pa.repeat(model_id, len(members)),
            "sample_id": members["sample_id"],
            "split": members["split"],
            "answer": pa.array(answer, pa.string()),
            "p_bad": pa.array(p_bad, pa.float64()),
            "miss": pa.array(np.zeros(len(members), dtype=bool)),
            "generated": pa.nulls(len(members), pa.string()),
            "horizons": pa.nulls(len(members), HORIZONS),
        }
    )


def answer_rows(answers: Mapping[str, pa.Table], dataset_id: str) -> tuple[pa.Table, str]:
    """Rows of evaluation_answers, and the predicate of the rows that they replace."""
    return in_dataset(pa.concat_tables(answers.values()), dataset_id)
