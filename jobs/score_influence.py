"""Scores every training sample with TracSeq on Ray Data: dataset_members, checkpoints -> influence_scores."""

import shutil

from zigong.console import LOG, progress
from zigong.influence.rescoring import ScoredSamples, crashed, former_scores, with_constants
from zigong.influence.scorer import ScoreComparison, Scorer, compared, open_scorer, scored_samples, training_samples
from zigong.influence.worker import ScoringTask
from zigong.lakehouse.tables import latest_version, published_tables
from zigong.release.serving import serving_base
from zigong.runs.handover import Agent, FormerScores, InfluenceScores
from zigong.runs.job import Job
from zigong.runs.launch import main


def score_influence(job: Job) -> None:
    """One actor per GPU or CPU group: target gradients, then samples without a reusable score; one commit."""
    engine, settings, mix = job.recipe.engine, job.recipe.influence, job.recipe.mix
    task = ScoringTask(
        source=job.sample_source(),
        base_folder=serving_base(job),
        agent_folder=job.take(Agent).folder,
        targets_file=job.scratch / "targets.safetensors",
        settings=settings,
        torch_threads=engine.torch_threads,
    )
    scorer = _scorer(job, task)
    members, stage = training_samples(task.source), job.stage("influence_scores")
    former = former_scores(job.paths, _former_version(job), scorer.scorer_id)
    with progress("TracSeq") as advance:
        scored = scored_samples(task, scorer, members, former, stage_folder=stage, engine=engine, progress=advance)
    _publish(job, scored, {"dataset_id": task.source.dataset_id, "scorer_id": scorer.scorer_id})
    top_share = mix.fraction * mix.influence_share
    found = compared(scorer, members, scored.scores, settings, top_share=top_share)
    _report(job, scored, found, targets=len(scorer.gradients.target_ids))
    job.leave(InfluenceScores(scorer_id=scorer.scorer_id, warnings=found.warnings))


def _scorer(job: Job, task: ScoringTask) -> Scorer:
    """The gradients of the targets in one file; the sums of their shards are removed once it is complete."""
    zone, stage = job.recipe.business_timezone, job.stage("influence_targets")
    with progress("TracSeq targets") as advance:
        scorer = open_scorer(
            task, business_timezone=zone, stage_folder=stage, engine=job.recipe.engine, progress=advance
        )
    job.attempt.require_held()
    shutil.rmtree(stage, ignore_errors=True)
    return scorer


def _former_version(job: Job) -> int | None:
    """The version whose scores may be reused: the newest one at the first attempt of this run."""
    seen = job.find(FormerScores)
    if seen is None:
        published = "influence_scores" in published_tables(job.paths)
        seen = FormerScores(version=latest_version(job.paths, "influence_scores") if published else None)
        job.leave(seen)
    return None if job.recipe.engine.rescore == "all" else seen.version


def _publish(job: Job, scored: ScoredSamples, named: dict[str, str]) -> None:
    refused = scored.refused
    job.publish(
        "influence_scores",
        job.frame(with_constants(scored.scores, named)),
        cells=" AND ".join(f"{name} = '{value}'" for name, value in named.items()),
        rejected=job.frame(crashed(refused, named)) if len(refused) else None,
    )


def _report(job: Job, scored: ScoredSamples, found: ScoreComparison, *, targets: int) -> None:
    """Records counts, tables of the scores under other settings, and reasons against using the scores."""
    for name, table in found.tables.items():
        job.run.write_table(name, table.to_dict("records"))
    for warning in found.warnings:
        LOG.warning("influence", extra={"fields": {"warning": warning}})
    job.run.add_metrics({**scored.figures(), **found.figures, "influence.targets": targets})


if __name__ == "__main__":
    main("score_influence", score_influence)
