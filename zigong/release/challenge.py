"""A challenger at the gate: the comparison, the decision, and the candidate that a release registers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

import pyarrow as pa

from zigong.dataset.members import final_split
from zigong.evaluation.asked_model import AskedModel, ModelFolders
from zigong.evaluation.calibration import Calibration, calibrated, fit_calibration
from zigong.evaluation.fusion import Added
from zigong.evaluation.held_out import flat_figures
from zigong.evaluation.horizons import AskedHorizon
from zigong.evaluation.measured import ModelFigures
from zigong.evaluation.slice_figures import fairness_warnings
from zigong.evaluation.unadapted import CHANGE
from zigong.instructions.prompt_spec import PromptSpec
from zigong.recipe import Recipe
from zigong.release.card_facts import model_card_of
from zigong.release.gate import CHALLENGER, CHAMPION, Decision, Evidence, decide
from zigong.release.gate_checks import Ending
from zigong.release.gate_samples import GateSamples, gate_samples
from zigong.release.model import Model
from zigong.release.points import points_quality
from zigong.release.registry import Candidate, Champion
from zigong.runs.run import Run

SELECT = "select"


@dataclass(frozen=True, kw_only=True)
class Challenge:
    """A challenger and the decision on it.

    Attributes:
        measured: figures of the challenger.
        held_out: samples on which the gate decided.
        calibration: calibration of the challenger, fitted on ``select``.
        threshold: calibrated probability at or above which it classifies a sample as bad, chosen on ``select``.
        decision: the decision of the gate.
    """

    measured: ModelFigures
    held_out: GateSamples
    calibration: Calibration
    threshold: float
    decision: Decision


def decide_challenge(
    measured: ModelFigures,
    answers: pa.Table,
    members: pa.Table,
    *,
    champion: Model | None,
    recipe: Recipe,
    retrain_by: Mapping[str, str] | None = None,
    alarms: Sequence[str] = (),
) -> Challenge:
    """Compares the model of ``measured`` with the baselines and the champion.

    Challenger and champion are compared by their calibrated probabilities, each with its own calibration.

    Args:
        measured: figures of the challenger.
        answers: rows of evaluation_answers of the dataset.
        members: members of the dataset in ``select`` and the final split.
        champion: the current champion, or None if there is none.
        recipe: the recipe of the run.
        retrain_by: by model id, the date by which a model trained on erased users has to be replaced.
        alarms: attributes of the dataset that alone separate the classes, as sentences.

    Raises:
        DataError: a model has no answer to one of the samples.
    """
    unit, challenger = recipe.split.unit, measured.model_id
    others = [name for name in measured.models(final_split(recipe)) if name != challenger]
    compared = {measured.display_name(name): name for name in others}
    compared |= {CHALLENGER: challenger}
    select = gate_samples(answers, members, {CHALLENGER: challenger}, split=SELECT, unit=unit)
    calibrations = {CHALLENGER: fit_calibration(select.scores[CHALLENGER], select.labels)}
    if champion is not None:
        compared[CHAMPION], calibrations[CHAMPION] = champion.model_id, champion.calibration
    held_out = gate_samples(answers, members, compared, split=final_split(recipe), unit=unit)
    threshold = measured.value(challenger, SELECT, "threshold")
    evidence = Evidence(
        select_scores=calibrated(calibrations[CHALLENGER], select.scores[CHALLENGER]),
        bad_rate=float(select.labels.mean()),
        missed=float(held_out.missed[CHALLENGER].mean()),
        change_from_base=measured.value(challenger, SELECT, CHANGE),
    )
    decision = decide(
        labels=held_out.labels,
        clusters=held_out.clusters,
        scores=held_out.scores
        | {role: calibrated(calibration, held_out.scores[role]) for role, calibration in calibrations.items()},
        threshold=threshold,
        evidence=evidence,
        gate=recipe.gate,
        evaluation=recipe.evaluation,
        seed=recipe.seed,
        champion_ends=_ending(champion, retrain_by or {}),
        alarms=alarms,
    )
    points = points_quality(measured, final_split(recipe))
    warnings = (*(points.warnings if points is not None else ()), *fairness_warnings(measured.slices))
    return Challenge(
        measured=measured,
        held_out=held_out,
        calibration=calibrations[CHALLENGER],
        threshold=threshold,
        decision=replace(decision, warnings=warnings),
    )


def _ending(champion: Model | None, retrain_by: Mapping[str, str]) -> Ending | None:
    last = retrain_by.get(champion.model_id) if champion is not None else None
    return Ending(retrain_by=date.fromisoformat(last), today=datetime.now(UTC).date()) if last else None


def candidate_of(
    challenge: Challenge,
    folders: ModelFolders,
    run: Run,
    *,
    prompts: PromptSpec,
    dataset_id: str,
    mix_id: str,
    fusion: Added | None,
    further: Sequence[AskedHorizon] = (),
) -> Candidate:
    """The challenger in the form in which it is registered.

    Args:
        challenge: the challenger and the decision.
        folders: the folders of its files.
        run: the run that trained it.
        prompts: settings that its prompts were rendered with.
        dataset_id: id of its dataset.
        mix_id: id of its training mix.
        fusion: what the card adds to its language model.
        further: horizons that it is also asked about.
    """
    recipe, measured = run.recipe, challenge.measured
    model = Model(
        model_id=measured.model_id,
        run_id=run.run_id,
        dataset_id=dataset_id,
        mix_id=mix_id,
        recipe_digest=recipe.digest(),
        split=recipe.split,
        trained_until=max((recipe.observations.train.dates()[-1], *recipe.unlabelled_dates())),
        asked=AskedModel.of(prompts, folders),
        fusion=fusion,
        further=tuple(further),
        calibration=challenge.calibration,
        threshold=challenge.threshold,
        card=recipe.card,
    )
    labels = challenge.held_out.labels
    figures = flat_figures(measured.figures.values(), names=measured.names, split=final_split(recipe), name="oot")
    return Candidate(
        model=model,
        folders=folders,
        model_card=model_card_of(model, challenge.decision, measured, challenge.held_out, run),
        params={"recipe": recipe.name, "recipe_digest": model.recipe_digest, "mix_id": mix_id},
        metrics={**figures, "oot.samples": len(labels), "oot.bad": int(labels.sum())},
    )


def release_row(challenge: Challenge, run_id: str, *, before: Champion | None, released: Champion | None) -> pa.Table:
    """The decision as one row of releases.

    Args:
        challenge: the challenger and the decision.
        run_id: id of the run.
        before: the champion that it was compared with.
        released: the new champion, if it was released.
    """
    row = {
        "run_id": run_id,
        "model_id": challenge.measured.model_id,
        "decision": challenge.decision.decision,
        "reasons": list(challenge.decision.reasons),
        "champion_id": before.model.model_id if before else None,
        "registry_version": released.version if released else None,
        "decided_at": datetime.now(UTC),
    }
    return pa.table({name: pa.array([value]) for name, value in row.items()})
