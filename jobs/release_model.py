"""Compares the challenger with champion and baselines, releases or refuses it: -> releases, registry."""

import numpy as np
import pyarrow.dataset as ds

from zigong.dataset.members import final_split
from zigong.evaluation.cards import parts_of_card
from zigong.evaluation.further import released_horizons
from zigong.evaluation.measured import measured_in
from zigong.lakehouse.audit_chain import Fact
from zigong.lakehouse.audit_log import append_facts
from zigong.lakehouse.erasures import affected_models
from zigong.release.challenge import SELECT, candidate_of, decide_challenge, release_row
from zigong.release.registry import champion, release
from zigong.release.serving import registry_of, run_prompts, serving_base
from zigong.runs.card_values import EvaluatedCard
from zigong.runs.handover import Dataset, DatasetVerdict, FinalModel, GateCheck, GateDecision
from zigong.runs.job import Job
from zigong.runs.launch import main


def release_model(job: Job) -> None:
    """The gate decides on the held-out split; calibration and threshold come from ``select``."""
    recipe, run, registry = job.recipe, job.run, registry_of(job.recipe)
    dataset_id, verdict = job.take(Dataset).dataset_id, job.find(DatasetVerdict)
    parts, card = parts_of_card(job, serving_base(job)), job.take(EvaluatedCard).card
    answers = job.arrow("evaluation_answers", where=ds.field("dataset_id") == dataset_id)
    members = job.sample_source().members([SELECT, final_split(recipe)])
    current = champion(registry)
    challenge = decide_challenge(
        measured_in(job, dataset_id=dataset_id, card=card),
        answers,
        members,
        champion=current.model if current is not None else None,
        recipe=recipe,
        retrain_by=affected_models(job.paths.local()),
        alarms=verdict.alarms if verdict is not None else (),
    )
    decision, released = challenge.decision, None
    if decision.decision == "released":
        released = release(
            registry,
            candidate_of(
                challenge,
                parts.folders,
                run,
                prompts=run_prompts(job),
                dataset_id=dataset_id,
                mix_id=job.take(FinalModel).trained_on,
                fusion=parts.added,
                further=released_horizons(job, members, answers, card, challenge.calibration),
            ),
        )
    row = release_row(challenge, run.run_id, before=current, released=released)
    version = job.publish("releases", job.frame(row), cells=f"run_id = '{run.run_id}'")
    entry = Fact(
        action=decision.decision,
        run_id=run.run_id,
        step=job.step,
        table_name="releases",
        cells=f"model_id = '{challenge.measured.model_id}'",
        version=version,
    )
    append_facts(job.paths, [entry])
    checks = tuple(
        GateCheck(name=check.name, passed=check.passed, sentence=check.sentence) for check in decision.checks
    )
    job.leave(
        GateDecision(decision=decision.decision, reasons=decision.reasons, warnings=decision.warnings, checks=checks)
    )
    run.add_metrics({f"gate.{name}": float(value) for name, value in decision.figures.items() if np.isfinite(value)})


if __name__ == "__main__":
    main("release_model", release_model)
