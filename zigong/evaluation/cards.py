"""The answers that a run evaluates as its card: those of the final model, or of model and trees together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zigong.evaluation.baselines import SEEDS, Baselines, bad_members
from zigong.evaluation.boosting import tree_files
from zigong.evaluation.fusion import Fusion, Stack, fit_stack, fused_answers, stacked
from zigong.recipe.source import source_mapping
from zigong.runs.handover import FinalModel, FusedCard
from zigong.runs.job import Job
from zigong.training.adapters import model_name
from zigong.training.file_digests import FileDigests

LM, SELECT = "zigong_lm", "select"


@dataclass(frozen=True, kw_only=True)
class CardAnswers:
    """The answers of a run's card.

    Attributes:
        model_id: the card.
        rows: its answers, in the columns of ``model_answers``.
        parts: answers of its parts that are compared with it, by their names.
    """

    model_id: str
    rows: pa.Table
    parts: Mapping[str, pa.Table]


def card_answers(
    job: Job, final: FinalModel, own: pa.Table, baselines: Baselines, members: pa.Table, choices: Sequence[str]
) -> CardAnswers:
    """The answers of the card that ``card.head`` asks for; a fused card is left for the release.

    Args:
        job: the job that evaluates the card.
        final: the final model.
        own: its answers to the members.
        baselines: the baselines, whose trees a fused card contains.
        members: the held-out members; the weights of a fused card are fitted on those of ``select``.
        choices: possible answers, the bad one first.
    """
    if job.recipe.card.head == "lm":
        return CardAnswers(model_id=final.model_id, rows=own, parts={})
    p_model, p_trees = own["p_bad"].to_numpy(), baselines.p_bad["lightgbm"]
    select = pc.equal(members["split"], SELECT).to_numpy()
    stack = fit_stack(p_model[select], p_trees[select], bad_members(members)[select].astype(np.int64))
    card = _left(job, final, baselines, stack)
    named = {name: own.set_column(0, "model_id", pa.repeat(name, len(own))) for name in (card.model_id, LM)}
    rows = fused_answers(named[card.model_id], stacked(stack, p_model, p_trees), choices)
    return CardAnswers(model_id=card.model_id, rows=rows, parts={LM: named[LM]})


def fusion_of(card: FusedCard) -> Fusion:
    """The trees and the weights of a fused card."""
    return Fusion(
        trees=FileDigests.of(card.folder, tree_files(SEEDS)),
        outcome_events=card.outcome_events,
        stack=Stack(intercept=card.intercept, model=card.model_weight, trees=card.trees_weight),
    )


def _left(job: Job, final: FinalModel, baselines: Baselines, stack: Stack) -> FusedCard:
    folder = job.run.artefact_folder(FusedCard)
    folder.mkdir(parents=True, exist_ok=True)
    baselines.trees.save(folder)
    trees = FileDigests.of(folder, tree_files(SEEDS))
    outcomes = tuple(source_mapping(job.recipe).outcome_events)
    fusion = Fusion(trees=trees, outcome_events=outcomes, stack=stack)
    card = FusedCard(
        model_id=model_name(fusion.digest_with(final.adapter_digest)),
        folder=folder,
        trees_digest=trees.digest,
        outcome_events=outcomes,
        intercept=stack.intercept,
        model_weight=stack.model,
        trees_weight=stack.trees,
    )
    job.leave(card)
    weights = {"intercept": stack.intercept, "weight_of_model": stack.model, "weight_of_trees": stack.trees}
    job.run.add_metrics({f"evaluation.fused.{name}": value for name, value in weights.items()})
    return card
