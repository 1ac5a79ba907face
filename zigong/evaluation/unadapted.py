"""The answers of a model's base: a baseline, and a sign of an adapter that is trained in vain, or not served."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from zigong.evaluation.asked_card import AskedCard
from zigong.evaluation.asked_model import AskedModel
from zigong.evaluation.held_out import Figure
from zigong.evaluation.prompt_sources import SamplePrompts
from zigong.runs.job import Job
from zigong.training.adapters import save_neutral_adapter

CHANGE = "largest_change_from_base"
SELECT = "select"
ZERO_SHOT = "zero_shot"  # the base as a baseline


def base_answers(job: Job, asked: AskedCard, prompts: SamplePrompts, members: pa.Table) -> pa.Table:
    """The answers of a model's base, with sample_id and p_bad, to all members where it is a baseline.

    Where it is none, only the members of ``select`` in its largest user bucket are answered.

    Args:
        job: the job that evaluates the model.
        asked: the model, or the language model in it; a tower stays as it is.
        prompts: its prompts.
        members: the held-out members.
    """
    neutral = replace(asked.folders, adapter=job.scratch / "neutral_adapter")
    save_neutral_adapter(asked.folders.adapter, neutral.adapter)
    if not job.recipe.evaluation.zero_shot:
        prompts = replace(prompts, splits=(SELECT,))
        members = largest_bucket(members.filter(pc.equal(members["split"], SELECT)))
    unadapted = replace(asked, model_id="base", asked=AskedModel.of(asked.asked.prompts, neutral), folders=neutral)
    return unadapted.answers(prompts, members, recipe=job.recipe, stage=job.stage("evaluation_answers_of_base"))


def change_from_base(model_id: str, own: pa.Table, base: pa.Table) -> Figure:
    """The largest difference between p_bad of a model and of its base, over the samples that both answer.

    Args:
        model_id: the model that the figure is of.
        own: its answers, with sample_id and p_bad.
        base: those of its base.
    """
    value = largest_change(own, base)
    return Figure(model_id=model_id, split=SELECT, metric=CHANGE, value=value, low=None, high=None, samples=len(base))


def largest_bucket(members: pa.Table) -> pa.Table:
    """The members of the user bucket with the most members, the first one if several are equal."""
    buckets: Sequence[int] = members["user_bucket"].to_pylist()
    counts = np.bincount(buckets)
    return members.filter(pc.equal(members["user_bucket"], int(counts.argmax())))


def largest_change(own: pa.Table, base: pa.Table) -> float:
    """The largest difference of p_bad over the samples of ``base``, all of which ``own`` has."""
    scores = pd.Series(own["p_bad"].to_numpy(), index=own["sample_id"].to_pandas())
    change = scores.loc[base["sample_id"].to_pandas()].to_numpy() - base["p_bad"].to_numpy()
    return float(np.abs(change).max())
