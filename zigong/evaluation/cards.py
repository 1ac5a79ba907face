"""The answers that a run evaluates as its card: those of the final model, or of model and trees together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from zigong.evaluation.baselines import SEEDS, Baselines, bad_members
from zigong.evaluation.boosting import BoostedTrees, tree_files
from zigong.evaluation.fusion import Floats, Fusion, Stack, fit_stack, fused_answers, stacked
from zigong.evaluation.metrics import log_loss
from zigong.recipe.source import source_mapping
from zigong.runs.handover import FinalModel, FusedCard
from zigong.runs.job import Job
from zigong.training.adapters import model_name
from zigong.training.file_digests import FileDigests

SELECT = "select"
TREES_OF_A_CARD = ("lightgbm", "lightgbm_no_profile")  # the better ones on ``select`` are the card's


@dataclass(frozen=True, kw_only=True)
class CardAnswers:
    """The answers of a run's card.

    Attributes:
        model_id: the card.
        rows: its answers, in the columns of ``model_answers``.
        parts: answers of its parts that are compared with it, by model_id.
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
        baselines: the baselines; the trees of one of them become part of a fused card.
        members: the held-out members; the weights of a fused card are fitted on those of ``select``.
        choices: possible answers, the bad one first.
    """
    if job.recipe.card.head == "lm":
        return CardAnswers(model_id=final.model_id, rows=own, parts={})
    p_model, select = own["p_bad"].to_numpy(), pc.equal(members["split"], SELECT).to_numpy()
    p_trees = {name: baselines.p_bad[name][select] for name in TREES_OF_A_CARD}
    name, stack = best_trees(p_model[select], p_trees, bad_members(members)[select].astype(np.int64))
    card = _left(job, final, name, baselines.trees[name], stack)
    named = own.set_column(0, "model_id", pa.repeat(card.model_id, len(own)))
    named = named.set_column(named.column_names.index("generated"), "generated", pa.nulls(len(own), pa.string()))
    rows = fused_answers(named, stacked(stack, p_model, baselines.p_bad[name]), choices)
    return CardAnswers(model_id=card.model_id, rows=rows, parts={final.model_id: own})


def fusion_of(card: FusedCard) -> Fusion:
    """The trees and the weights of a fused card."""
    return Fusion(
        trees=FileDigests.of(card.folder, tree_files(SEEDS)),
        outcome_events=card.outcome_events,
        stack=Stack(intercept=card.intercept, model=card.model_weight, trees=card.trees_weight),
    )


def best_trees(p_model: Floats, p_trees: Mapping[str, Floats], label: NDArray[np.integer]) -> tuple[str, Stack]:
    """The trees with which the card has the smallest log-loss, by name, and the weights.

    Args:
        p_model: probabilities of the language model; shape [samples of select].
        p_trees: those of each candidate; shape [samples of select] each.
        label: 1 = bad; shape [samples of select].

    Raises:
        DataError: one class is missing.
    """
    stacks = {name: fit_stack(p_model, p, label) for name, p in p_trees.items()}
    losses = {name: log_loss(label, stacked(stack, p_model, p_trees[name])) for name, stack in stacks.items()}
    name = min(losses, key=lambda name: losses[name])
    return name, stacks[name]


def _left(job: Job, final: FinalModel, name: str, fitted: BoostedTrees, stack: Stack) -> FusedCard:
    folder = job.run.artefact_folder(FusedCard)
    folder.mkdir(parents=True, exist_ok=True)
    fitted.save(folder)
    trees = FileDigests.of(folder, tree_files(SEEDS))
    outcomes = tuple(source_mapping(job.recipe).outcome_events)
    fusion = Fusion(trees=trees, outcome_events=outcomes, stack=stack)
    card = FusedCard(
        model_id=model_name(fusion.digest_with(final.adapter_digest)),
        language_model=final.model_id,
        folder=folder,
        trees=name,
        trees_digest=trees.digest,
        outcome_events=outcomes,
        intercept=stack.intercept,
        model_weight=stack.model,
        trees_weight=stack.trees,
    )
    job.leave(card)
    weights = {"intercept": stack.intercept, "weight_of_model": stack.model, "weight_of_trees": stack.trees}
    job.run.add_metrics({f"evaluation.fused.{key}": value for key, value in weights.items()})
    return card
