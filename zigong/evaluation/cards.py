"""The answers that a run evaluates as its card: those of the final model, or of it with what a card adds to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from zigong.evaluation.asked_model import ModelFolders
from zigong.evaluation.baselines import SEEDS, TREES_OF_A_CARD, Baselines, bad_members
from zigong.evaluation.boosted import Boosted
from zigong.evaluation.boosting import BoostedTrees, tree_files
from zigong.evaluation.calibration import calibrated, fit_calibration
from zigong.evaluation.fusion import Added, Floats, Fusion, Stack, card_name, fit_stack, fused_answers, stacked
from zigong.evaluation.joint import Joint
from zigong.evaluation.metrics import log_loss
from zigong.recipe import Head
from zigong.recipe.source import source_mapping
from zigong.runs.card_values import BoostedCard, EvaluatedCard, FusedCard, JointModel
from zigong.runs.handover import FinalModel
from zigong.runs.job import Job
from zigong.training.file_digests import FileDigests

SELECT = "select"


@dataclass(frozen=True, kw_only=True)
class CardAnswers:
    """The answers of a run's card and of the models that are measured with it.

    Attributes:
        card: the card.
        heads: model_id of each head.
        rows: answers by model_id, the card's first, in the columns of ``model_answers``.
    """

    card: EvaluatedCard
    heads: Mapping[str, str]
    rows: Mapping[str, pa.Table]

    @property
    def scores(self) -> dict[str, Floats]:
        """Probabilities by model_id; shape [members] each."""
        return {name: rows["p_bad"].to_numpy() for name, rows in self.rows.items()}

    @property
    def missed(self) -> dict[str, NDArray[np.bool_]]:
        """Whether each model missed, by model_id; shape [members] each."""
        return {name: np.asarray(rows["miss"]) for name, rows in self.rows.items()}


def card_answers(
    job: Job,
    own: pa.Table,
    others: Mapping[Head, pa.Table],
    baselines: Baselines,
    members: pa.Table,
    choices: Sequence[str],
) -> CardAnswers:
    """The answers of the card that ``card.head`` asks for; the card is left for the release.

    Args:
        job: the job that evaluates the card.
        own: answers of the final model.
        others: answers of the cards that were trained beside it, by head.
        baselines: the baselines; the trees of one of them become part of a fused card.
        members: the held-out members; those of ``select`` choose the head, and the weights of a fused card.
        choices: possible answers, the bad one first.
    """
    settings, found = job.recipe.card, dict[Head, pa.Table](lm=own) | dict(others)
    if "fused" in settings.compared:
        found["fused"] = _fused(job, own, baselines, members, choices)
    compared = settings.candidates if settings.head == "select" else ()
    losses = losses_on_select({name: found[name]["p_bad"].to_numpy() for name in compared}, members)
    head = min(losses, key=lambda head: losses[head]) if settings.head == "select" else settings.head
    heads = {str(name): rows["model_id"][0].as_py() for name, rows in found.items()}
    text = ", ".join(f"{name} {loss:.4f}" for name, loss in losses.items())
    card = EvaluatedCard(
        head=head, card=heads[head], language_model=heads["lm"], log_loss_on_select=text if losses else None
    )
    job.leave(card)
    job.run.add_metrics({f"evaluation.log_loss_on_select.{name}": loss for name, loss in losses.items()})
    first = {heads[head]: found[head]}
    return CardAnswers(card=card, heads=heads, rows=first | {heads[name]: rows for name, rows in found.items()})


def losses_on_select(scores: Mapping[Head, Floats], members: pa.Table) -> dict[Head, float]:
    """Log-loss of each head on ``select``, calibrated there like every model that is measured.

    Args:
        scores: probabilities by head; shape [members] each.
        members: the held-out members.

    Raises:
        DataError: there are heads, and one class is missing.
    """
    select = pc.equal(members["split"], SELECT).to_numpy()
    label = bad_members(members)[select].astype(np.int64)
    return {
        head: log_loss(label, calibrated(fit_calibration(p[select], label), p[select])) for head, p in scores.items()
    }


def _fused(job: Job, own: pa.Table, baselines: Baselines, members: pa.Table, choices: Sequence[str]) -> pa.Table:
    """The answers of the final model with the trees, which are left for the release."""
    p_model, select = own["p_bad"].to_numpy(), pc.equal(members["split"], SELECT).to_numpy()
    p_trees = {name: baselines.p_bad[name][select] for name in TREES_OF_A_CARD}
    name, stack = best_trees(p_model[select], p_trees, bad_members(members)[select].astype(np.int64))
    card = _left(job, name, baselines.trees[name], stack)
    named = own.set_column(0, "model_id", pa.repeat(card.model_id, len(own)))
    named = named.set_column(named.column_names.index("generated"), "generated", pa.nulls(len(own), pa.string()))
    return fused_answers(named, stacked(stack, p_model, baselines.p_bad[name]), choices)


@dataclass(frozen=True, kw_only=True)
class CardParts:
    """The files of a run's card and what it adds to its language model; None where that alone is the card."""

    folders: ModelFolders
    added: Added | None


def parts_of_card(job: Job, base: Path) -> CardParts:
    """The parts of the card that a run has evaluated.

    Args:
        job: a later job of the run.
        base: folder of the base model.
    """
    head, final = job.take(EvaluatedCard).head, job.take(FinalModel)
    if head == "joint":
        joint = job.take(JointModel)
        folders = ModelFolders(base=base, adapter=joint.folder, added=joint.folder)
        return CardParts(folders=folders, added=Joint.of(joint))
    if head == "boosted":
        boosted = job.take(BoostedCard)
        folders = ModelFolders(base=base, adapter=final.folder, added=boosted.folder)
        return CardParts(folders=folders, added=Boosted.of(boosted))
    if head == "fused":
        fused = job.take(FusedCard)
        folders = ModelFolders(base=base, adapter=final.folder, added=fused.folder)
        return CardParts(folders=folders, added=fusion_of(fused))
    return CardParts(folders=ModelFolders(base=base, adapter=final.folder), added=None)


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


def _left(job: Job, name: str, fitted: BoostedTrees, stack: Stack) -> FusedCard:
    final = job.take(FinalModel)
    folder = job.run.artefact_folder(FusedCard)
    folder.mkdir(parents=True, exist_ok=True)
    fitted.save(folder)
    trees = FileDigests.of(folder, tree_files(SEEDS))
    outcomes = tuple(source_mapping(job.recipe).outcome_events)
    fusion = Fusion(trees=trees, outcome_events=outcomes, stack=stack)
    card = FusedCard(
        model_id=card_name(fusion, final.adapter_digest),
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
