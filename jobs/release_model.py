"""Holds the challenger against champion and baselines and releases it or says why not: -> releases, registry."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from zigong.dataset.members import final_split
from zigong.evaluation.calibration import calibrated, fit_calibration
from zigong.evaluation.champion import rescored
from zigong.evaluation.held_out import FINAL
from zigong.instructions.templates import load_template
from zigong.lakehouse.audit_chain import Fact
from zigong.lakehouse.audit_log import append_facts
from zigong.release.briefing import model_card_of
from zigong.release.gate import CHALLENGER, CHAMPION, LAST_STATUS, LIGHTGBM, Decision, decide
from zigong.release.registry import Candidate, Champion, champion, release
from zigong.release.serving import registry_of, serving_base
from zigong.runs.handover import Dataset, FinalModel, GateDecision, TrainingMix
from zigong.runs.job import Job
from zigong.runs.launch import main


def release_model(job: Job) -> None:
    """The gate decides on the held-out split; calibration and threshold come from ``select``."""
    recipe, run = job.recipe, job.run
    registry = registry_of(recipe)
    current = champion(registry)
    answers = _answers(job)
    held_out = answers[answers["split"] == final_split(recipe)]
    threshold = run.metrics()[f"select.threshold.{FINAL}"]
    final = job.take(FinalModel)
    model_id = final.model_id
    select = answers[answers["split"] == "select"]
    calibration = fit_calibration(select[model_id].to_numpy(), select["label"].to_numpy())
    scores = {
        CHALLENGER: calibrated(calibration, held_out[model_id].to_numpy()),
        LAST_STATUS: held_out["last_status"].to_numpy(),
        LIGHTGBM: held_out["lightgbm"].to_numpy(),
    }
    if current is not None:
        scores[CHAMPION] = _champion_scores(job, current)
    decision = decide(
        labels=held_out["label"].to_numpy(),
        clusters=held_out[recipe.split.unit].to_numpy(),
        scores=scores,
        threshold=threshold,
        gate=recipe.gate,
        evaluation=recipe.evaluation,
        seed=recipe.seed,
    )
    released = None
    if decision.decision == "released":
        released = release(
            registry,
            Candidate(
                model_id=model_id,
                dataset_id=job.take(Dataset).dataset_id,
                run_id=run.run_id,
                adapter=final.folder,
                base=serving_base(job),
                threshold=threshold,
                calibration=calibration,
                card=recipe.card,
                model_card=model_card_of(run, decision, threshold),
                params={
                    "recipe": recipe.name,
                    "recipe_digest": recipe.digest(),
                    "mix_id": job.take(TrainingMix).mix_id,
                },
                metrics={name: value for name, value in run.metrics().items() if name.startswith("oot.")},
            ),
        )
    _record(job, decision, current, released)


def _answers(job: Job) -> pd.DataFrame:
    """One row per held-out sample: split, label, unit, and p_bad of every model in a column of its name."""
    dataset_id = job.take(Dataset).dataset_id
    table = job.arrow(
        "evaluation_answers", ["sample_id", "model_id", "p_bad"], where=ds.field("dataset_id") == dataset_id
    )
    wide = table.to_pandas().pivot(index="sample_id", columns="model_id", values="p_bad")
    members = job.sample_source().members(["select", final_split(job.recipe)])
    known = members.select(["sample_id", "split", "label", "user_id", "person_id"]).to_pandas()
    answers: pd.DataFrame = known.merge(wide, left_on="sample_id", right_index=True, how="left", validate="one_to_one")
    return answers


def _champion_scores(job: Job, current: Champion) -> np.ndarray:
    """The champion answers the challenger's samples itself, in the order of ``members``."""
    recipe = job.recipe
    return rescored(
        job.sample_source().labelled([final_split(recipe)], ["prompt"]),
        base_folder=current.base,
        adapter_folder=current.adapter,
        choices=load_template(recipe.instructions.template, recipe.instructions.language).choices,
        batch_tokens=recipe.evaluation.batch_tokens,
        torch_threads=recipe.engine.torch_threads,
    )


def _record(job: Job, decision: Decision, before: Champion | None, released: Champion | None) -> None:
    row = {
        "run_id": job.run.run_id,
        "model_id": job.take(FinalModel).model_id,
        "decision": decision.decision,
        "reasons": list(decision.reasons),
        "champion_id": before.model_id if before else None,
        "registry_version": released.version if released else None,
        "decided_at": datetime.now(UTC),
    }
    columns = {name: pa.array([value]) for name, value in row.items()}
    version = job.publish("releases", job.frame(pa.table(columns)), cells=f"run_id = '{job.run.run_id}'")
    told = Fact(
        action=decision.decision,
        run_id=job.run.run_id,
        step=job.step,
        table_name="releases",
        cells=f"model_id = '{row['model_id']}'",
        version=version,
    )
    append_facts(job.paths, [told])
    job.leave(GateDecision(decision=decision.decision, reasons=decision.reasons))
    job.run.add_metrics(
        {f"gate.{name}": float(value) for name, value in decision.figures.items() if np.isfinite(value)}
    )


if __name__ == "__main__":
    main("release_model", release_model)
