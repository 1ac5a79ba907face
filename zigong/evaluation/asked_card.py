"""A card as it is asked: a language model and its question, with what the card adds to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from zigong.evaluation.asked_model import AskedModel, ModelFolders
from zigong.evaluation.fusion import FusedPart
from zigong.evaluation.held_out_answers import model_answers
from zigong.evaluation.joint import Joint
from zigong.evaluation.prompt_sources import ModelPrompts
from zigong.evaluation.published_features import PublishedFeatures
from zigong.evaluation.published_sequences import PublishedSequences
from zigong.instructions.prompt_spec import PromptSpec
from zigong.recipe import Recipe
from zigong.runs.card_values import JointModel
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
) -> tuple[AskedCard, AskedCard | None]:
    """The final model of a run, and its joint model if the recipe asks for one.

    Args:
        job: a job of the run.
        base: folder of their base.
        prompts: settings that their prompts are rendered with.
        sequences: the sequences of the features of a joint model.
        features: these features, if the run has published them.
    """
    final = job.take(FinalModel)
    folders = ModelFolders(base=base, adapter=final.folder)
    language_model = AskedCard(model_id=final.model_id, asked=AskedModel.of(prompts, folders), folders=folders)
    if job.recipe.card.joint is None:
        return language_model, None
    joint = job.take(JointModel)
    folders = ModelFolders(base=base, adapter=joint.folder, added=joint.folder)
    return language_model, AskedCard(
        model_id=joint.model_id,
        asked=AskedModel.of(prompts, folders),
        folders=folders,
        fused=FusedPart(
            fusion=Joint.of(joint), folder=joint.folder, prompts=prompts, sequences=sequences, features=features
        ),
    )
