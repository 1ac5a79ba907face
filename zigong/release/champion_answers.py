"""Answers of the champion to the samples of a challenger, with the champion's own question, settings and tokenizer."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from zigong.dataset.members import final_split
from zigong.evaluation.answering import require_known_words
from zigong.evaluation.asked_model import AskedModel
from zigong.evaluation.held_out_answers import model_answers
from zigong.evaluation.prompt_sources import prompts_of_members
from zigong.instructions.currencies import require_one_currency
from zigong.instructions.event_types import event_types
from zigong.release.model import require_unseen
from zigong.release.registry import champion
from zigong.release.serving import fused_part, published_features, published_sequences, registry_of
from zigong.runs.dates import ObservationDates
from zigong.runs.job import Job


def champion_answers(
    job: Job, challenger: AskedModel, members: pa.Table, *, splits: tuple[str, ...], challenger_id: str
) -> dict[str, pa.Table]:
    """The champion's answers by its model_id, as :func:`model_answers` returns them.

    Empty if there is no champion, or if the challenger is the champion itself.

    Args:
        challenger: the model whose settings rendered the run's samples.
        members: members of the run's dataset in these splits.
        splits: splits to answer.
        challenger_id: model_id of the challenger.

    Raises:
        ConfigError: what the recipe holds out may have trained the champion, or it is asked about another unit.
        DataError: the tokenizer of the champion lacks an event type, its text does not tell the currencies apart, or a
            prompt does not fit its context.
    """
    current = champion(registry_of(job.recipe))
    if current is None or current.model.model_id == challenger_id:
        return {}
    final = members.filter(pc.equal(members["split"], final_split(job.recipe)))
    require_unseen(current.model, job.recipe.split, held_out_from=pc.min(final["observation_date"]).as_py())
    name, asked, folders = current.model.model_id, current.model.asked, current.folders
    asked.require_unit(job.recipe.observations.unit)
    days = ObservationDates(population=job.population, days=tuple(members["observation_date"].unique().to_pylist()))
    sequences = job.read("user_sequences").where(days.predicate)
    require_one_currency(sequences, asked.prompts.settings)
    present = event_types(sequences)
    require_known_words(name, asked, asked.encoder(folders), present)
    prompts = prompts_of_members(
        asked,
        job.sample_source(),
        splits,
        recipe_prompts=challenger.prompts,
        recipe_tokenizer=challenger.tokenizer_digest,
        sequences=published_sequences(job),
    )
    stage = job.stage("evaluation_answers_of_champion")
    fused = fused_part(current, published_sequences(job), published_features(job))
    return {name: model_answers(name, asked, folders, prompts, members, recipe=job.recipe, stage=stage, fused=fused)}
