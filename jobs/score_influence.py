"""Scores every training sample with TracSeq on Ray Data: dataset_members, checkpoints -> influence_scores."""

import pyarrow as pa

from zigong.console import LOG, progress
from zigong.influence.rescoring import all_scores, crashed, former_scores, taken_over, with_constants, without
from zigong.influence.scorer import Scorer, compared, computed_scores, open_scorer, training_samples
from zigong.influence.worker import ScoringTask
from zigong.lakehouse.tables import latest_version, published_tables
from zigong.release.serving import serving_base
from zigong.runs.handover import Agent, FormerScores, InfluenceScores
from zigong.runs.job import Job
from zigong.runs.launch import main


def score_influence(job: Job) -> None:
    """Target gradients once, then one actor per GPU or CPU group over samples without a reusable score; one commit."""
    task = _task(job)
    scorer = open_scorer(task, business_timezone=job.recipe.business_timezone)
    members = training_samples(task.source)
    known = taken_over(members, former_scores(job.paths, _former_version(job), scorer.scorer_id))
    wanted, stage = without(members, known), job.stage("influence_scores")
    with progress("TracSeq") as advance:
        computed = computed_scores(task, scorer, wanted, stage_folder=stage, engine=job.recipe.engine, progress=advance)
    scores = all_scores(known, computed, wanted)
    refused = without(members, scores)
    named = {"dataset_id": task.source.dataset_id, "scorer_id": scorer.scorer_id}
    job.publish(
        "influence_scores",
        job.frame(with_constants(scores, named)),
        cells=" AND ".join(f"{name} = '{value}'" for name, value in named.items()),
        rejected=job.frame(crashed(refused, named)) if len(refused) else None,
    )
    counts = {"taken_over": len(known), "computed": len(computed), "refused": len(refused)}
    job.run.add_metrics({f"influence.{name}": count for name, count in counts.items()})
    job.leave(InfluenceScores(scorer_id=scorer.scorer_id, warnings=_compare(job, scorer, members, scores)))


def _task(job: Job) -> ScoringTask:
    return ScoringTask(
        source=job.sample_source(),
        base_folder=serving_base(job),
        agent_folder=job.take(Agent).folder,
        targets_file=job.scratch / "targets.safetensors",
        settings=job.recipe.influence,
        torch_threads=job.recipe.engine.torch_threads,
    )


def _former_version(job: Job) -> int | None:
    """The version whose scores may be reused: the newest one at the first attempt of this run."""
    seen = job.find(FormerScores)
    if seen is None:
        published = "influence_scores" in published_tables(job.paths)
        seen = FormerScores(version=latest_version(job.paths, "influence_scores") if published else None)
        job.leave(seen)
    return None if job.recipe.engine.rescore == "all" else seen.version


def _compare(job: Job, scorer: Scorer, members: pa.Table, scores: pa.Table) -> tuple[str, ...]:
    """Writes tables of the scores under other settings, and returns reasons against using them."""
    top_share = job.recipe.mix.fraction * job.recipe.mix.influence_share
    found = compared(scorer, members, scores, job.recipe.influence, top_share=top_share)
    for name, table in found.tables.items():
        job.run.write_table(name, table.to_dict("records"))
    for warning in found.warnings:
        LOG.warning("influence", extra={"fields": {"warning": warning}})
    job.run.add_metrics(found.figures)
    return found.warnings


if __name__ == "__main__":
    main("score_influence", score_influence)
