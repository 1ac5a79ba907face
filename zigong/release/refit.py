"""The released model trained again on the samples of all splits, once the gate has judged it.

A model that is judged out of time has seen no sample after its train dates: when it is released, its newest one is as
old as the label windows of validation and OOT together. The refit repeats its training on everything that is mature.
Nothing is left to judge it on, so calibration, threshold and the weights of a fused card stay those of the judged
model, and the card says so. A boosted card needs samples that its language model has not seen: a tenth of the persons.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from zigong.dataset.samples import SampleSource, of_task
from zigong.errors import ConfigError, DataError
from zigong.evaluation.asked_model import AskedModel, ModelFolders
from zigong.evaluation.baselines import SEEDS, bad_members, columns_of_trees, features_of_members
from zigong.evaluation.boosted_card import persons_apart, refit_inputs
from zigong.evaluation.boosting import Labelled, boosted_trees
from zigong.evaluation.boosting_teacher import STOPPING_FOLDS, Persons, folds_of, members_without, teacher_of
from zigong.evaluation.feature_space import feature_space
from zigong.evaluation.final_training import train_on_ray, with_unlabelled
from zigong.evaluation.fusion import Added, card_name
from zigong.evaluation.joint_training import tower_training
from zigong.instructions.tasks import main_task
from zigong.recipe import Head, Recipe
from zigong.release.registry import Candidate, Champion
from zigong.runs.card_values import EvaluatedCard, FusedCard
from zigong.runs.handover import FinalModel, RefittedModel
from zigong.runs.job import Job
from zigong.training.adapters import model_name
from zigong.training.file_digests import FileDigests
from zigong.training.teacher import Teacher


def judged_champion(champion: Champion, card: EvaluatedCard) -> Champion:
    """The champion, which has to be the model that this run's gate released, or its refit.

    Raises:
        DataError: another model was released since.
    """
    if card.card not in {champion.model.model_id, *champion.model.parents}:
        raise DataError(
            f"the champion is {champion.model.model_id}, this run released {card.card}: another run has released since",
            action="keep the newer champion, or start a new run",
        )
    return champion


def refitted(
    job: Job, judged: Champion, base: Path, folder: Path, *, head: Head, splits: Sequence[str], name: str
) -> Refit:
    """Trains the judged model again, with all its parts.

    Args:
        job: the job that reads the tables.
        judged: the champion that is refitted.
        base: folder of its base.
        folder: folder of the new adapter.
        head: head of the card.
        splits: the splits to train on, ``train`` among them; of ``train`` only the samples of the mix.
        name: name of the training.
    """
    recipe = job.recipe
    if recipe.refit is None:
        raise ConfigError("the recipe has no section refit", action="add refit: {} to the recipe")
    trained_on = ds.field("mix_id") == job.take(FinalModel).trained_on
    mix = job.arrow("training_mix", ["sample_id"], where=trained_on)["sample_id"].combine_chunks()
    apart = persons_apart(recipe) if head == "boosted" else None
    teacher, _ = teacher_of(job, base, splits, without=apart)
    added = _refit_added(job, head, folder, splits)
    trained = train_on_ray(
        job,
        base,
        folder,
        settings=recipe.finetune.model_copy(update={"epochs": recipe.refit.epochs or recipe.finetune.epochs}),
        choose=all_samples(job.sample_source(), mix, recipe, teacher, splits, without=apart),
        teacher=teacher,
        joint=tower_training(job, base, splits) if head == "joint" else None,
        boosted=refit_inputs(job, base, added, splits) if head == "boosted" and added is not None else None,
        name=name,
    )
    folders = ModelFolders(base=base, adapter=folder, added=added)
    return refit_of(judged, folders, adapter_digest=trained["digest"], trained=trained)


def all_samples(
    source: SampleSource,
    mix: pa.Array,
    recipe: Recipe,
    teacher: Teacher | None,
    splits: Sequence[str],
    *,
    without: Persons | None = None,
) -> Callable[[], tuple[pa.Table, dict[str, Any]]]:
    """Reads the samples of the mix and of the splits but ``train``, with their number and newest date.

    Args:
        source: the samples of the dataset.
        mix: sample_ids of the mix that the judged model was trained on.
        recipe: recipe of the run.
        teacher: the teacher of the refit, which alone answers the samples of split ``unlabelled``.
        splits: the splits to train on, ``train`` among them.
        without: persons that it is not trained on; None: there are none.
    """

    def read() -> tuple[pa.Table, dict[str, Any]]:
        members = source.members(splits)
        mixed = pc.is_in(members["sample_id"], mix)
        chosen = members.filter(pc.or_(mixed, pc.not_equal(members["split"], "train")))
        newest: date = pc.max(chosen["observation_date"]).as_py()
        chosen = members_without(with_unlabelled(chosen, source, recipe, teacher), without)
        return chosen, {"trained_until": newest.isoformat()}

    return read


def _refit_added(job: Job, head: Head, folder: Path, splits: Sequence[str]) -> Path | None:
    """The folder of what the refitted card adds to its language model; None where that alone is the card.

    A tower is trained with its adapter, and the trees of a boosted card are fitted after it, in a folder of their own.
    Those of a fused card are fitted here on the main question's members of the splits; one of ``STOPPING_FOLDS`` folds
    of persons chooses their number and is not fitted on.

    Args:
        job: the job that reads the tables.
        head: head of the card.
        folder: folder of the refitted adapter.
        splits: the splits to fit on.
    """
    if head == "lm":
        return None
    if head == "joint":
        return folder
    beside = folder.with_name(f"{folder.name}_trees")
    return beside if head == "boosted" else _refit_trees(job, beside, splits)


def _refit_trees(job: Job, folder: Path, splits: Sequence[str]) -> Path:
    recipe, fused = job.recipe, job.take(FusedCard)
    members = of_task(job.sample_source().members(splits), main_task(recipe))
    features, bad = features_of_members(job, members), bad_members(members)
    stops = folds_of(members[recipe.split.unit].to_pylist(), STOPPING_FOLDS, recipe.seed) == 0
    train, stop = (Labelled(features=features[chosen], bad=bad[chosen]) for chosen in (~stops, stops))
    columns = columns_of_trees(list(features.columns))[fused.trees]
    trees = boosted_trees(train, stop, feature_space(train.features, columns), seed=recipe.seed, seeds=SEEDS)
    folder.mkdir(parents=True, exist_ok=True)
    trees.save(folder)
    return folder


@dataclass(frozen=True, kw_only=True)
class Refit:
    """A refitted model.

    Attributes:
        candidate: the model in the form in which it is registered.
        left: the value for the report and later steps.
    """

    candidate: Candidate
    left: RefittedModel

    def with_backtest(self, sentence: str) -> Refit:
        """The refit whose card and value tell how its backtest ended."""
        card = f"{self.candidate.model_card}\n{sentence}\n"
        return replace(
            self,
            candidate=replace(self.candidate, model_card=card),
            left=replace(self.left, backtest=sentence),
        )


def refit_of(judged: Champion, folders: ModelFolders, *, adapter_digest: str, trained: dict[str, Any]) -> Refit:
    """The judged model with other weights.

    Args:
        judged: the champion that is refitted.
        folders: the folders of the new files.
        adapter_digest: digest of the new adapter.
        trained: ``samples`` and ``trained_until`` of the training.
    """
    former = judged.model
    fusion = former.fusion
    if fusion is not None and folders.added is not None:
        fusion = fusion.with_files(FileDigests.of(folders.added, fusion.files.files))
    model = replace(
        former,
        model_id=_name(adapter_digest, fusion),
        parents=former.parents or (former.model_id,),
        trained_until=date.fromisoformat(trained["trained_until"]),
        asked=AskedModel.of(former.asked.prompts, folders),
        fusion=fusion,
    )
    judged_id, samples = model.parents[0], f"{int(trained['samples']):,}"
    card = (judged.folders.adapter.parent / "model_card.md").read_text(encoding="utf-8")
    candidate = Candidate(
        model=model,
        folders=folders,
        model_card=_card(card, model.model_id, judged_id, samples, trained["trained_until"]),
        params={"refit_of": judged_id, "recipe_digest": model.recipe_digest},
        metrics={f"refit.{name}": float(trained[name]) for name in ("samples", "final_loss")},
    )
    left = RefittedModel(
        model_id=model.model_id,
        folder=folders.adapter,
        adapter_digest=adapter_digest,
        refit_of=judged_id,
        samples=samples,
        trained_until=trained["trained_until"],
    )
    return Refit(candidate=candidate, left=left)


def release_rows(job: Job, refit: Refit, version: str) -> pa.Table:
    """The run's rows of releases: the decision of the gate, and that of the refit."""
    former = job.arrow("releases", None, where=ds.field("run_id") == job.run.run_id)
    kept = former.filter(pc.not_equal(former["model_id"], refit.left.model_id))
    sentence = f"refit of {refit.left.refit_of} on {refit.left.samples} samples until {refit.left.trained_until}"
    row = {
        "run_id": job.run.run_id,
        "model_id": refit.left.model_id,
        "decision": "released",
        "reasons": [sentence],
        "champion_id": refit.left.refit_of,
        "registry_version": version,
        "decided_at": datetime.now(UTC),
    }
    added = pa.table({name: pa.array([value], kept.schema.field(name).type) for name, value in row.items()})
    return pa.concat_tables([kept.select(added.column_names), added.cast(kept.select(added.column_names).schema)])


def _name(adapter_digest: str, fusion: Added | None) -> str:
    return model_name(adapter_digest) if fusion is None else card_name(fusion, adapter_digest)


def _card(card: str, model_id: str, judged: str, samples: str, until: str) -> str:
    """The judged model's card with the refit's name and a section of its own."""
    _, _, body = card.partition("\n")
    before, _, _ = body.partition("\n## Refit\n")
    return (
        f"# {model_id}\n{before}\n## Refit\n\nAfter the release of `{judged}` its training was repeated, with the same "
        f"settings, on {samples} samples of all splits, observed until {until}. No sample is left to measure it on: "
        f"quality, gate, calibration and threshold above are those of `{judged}`.\n"
    )
