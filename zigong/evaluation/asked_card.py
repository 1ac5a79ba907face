"""A card as it is asked: a language model and its question, with what the card adds to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from zigong.evaluation.asked_model import AskedModel, ModelFolders
from zigong.evaluation.boosted import Boosted
from zigong.evaluation.fusion import Added, FusedPart
from zigong.evaluation.held_out_answers import model_answers
from zigong.evaluation.joint import Joint
from zigong.evaluation.prompt_sources import ModelPrompts
from zigong.evaluation.published_features import PublishedFeatures
from zigong.evaluation.published_sequences import PublishedSequences
from zigong.instructions.prompt_spec import PromptSpec
from zigong.recipe import Head, Recipe
from zigong.runs.card_values import BoostedCard, JointModel
from zigong.runs.handover import FinalModel
from zigong.runs.job import Job


@dataclass(frozen=True, kw_only=True)
class AskedCard:
    """A card as it is asked.

    Attributes:
        model_id: the card.
        asked: its language model and the question.
        folders: the folders of its files.
        fused: what the card adds to the language model; None: that alone answers.
    """

    model_id: str
    asked: AskedModel
    folders: ModelFolders
    fused: FusedPart | None = None

    def answers(
        self, prompts: ModelPrompts, members: pa.Table, *, recipe: Recipe, stage: Path, generated: int = 0
    ) -> pa.Table:
        """Its answers to members, about all horizons of the recipe; see :func:`model_answers`."""
        return model_answers(
            self.model_id,
            self.asked,
            self.folders,
            prompts,
            members,
            recipe=recipe,
            stage=stage,
            fused=self.fused,
            generated=generated,
            further=recipe.labels.further,
        )


def asked_cards(
    job: Job,
    base: Path,
    prompts: PromptSpec,
    sequences: PublishedSequences,
    features: PublishedFeatures | None = None,
) -> tuple[AskedCard, dict[Head, AskedCard]]:
    """The final model of a run, and the cards that the recipe had trained beside it, by head.

    Args:
        job: a job of the run.
        base: folder of their base.
        prompts: settings that their prompts are rendered with.
        sequences: the sequences of the features of the other cards.
        features: these features, if the run has published them.
    """
    final = job.take(FinalModel)

    def asked(model_id: str, adapter: Path, added: Added | None = None, files: Path | None = None) -> AskedCard:
        folders, part = ModelFolders(base=base, adapter=adapter, added=files), None
        if added is not None and files is not None:
            part = FusedPart(fusion=added, folder=files, prompts=prompts, sequences=sequences, features=features)
        return AskedCard(model_id=model_id, asked=AskedModel.of(prompts, folders), folders=folders, fused=part)

    others: dict[Head, AskedCard] = {}
    if job.recipe.card.joint is not None:
        joint = job.take(JointModel)
        others["joint"] = asked(joint.model_id, joint.folder, Joint.of(joint), joint.folder)
    if job.recipe.card.boosted is not None:
        boosted = job.take(BoostedCard)
        others["boosted"] = asked(boosted.model_id, final.folder, Boosted.of(boosted), boosted.folder)
    return asked(final.model_id, final.folder), others
