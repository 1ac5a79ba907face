"""Scores every training sample with TracSeq on Ray Data: dataset_members, checkpoints -> influence_scores."""

import pyarrow as pa

from zigong.console import LOG, progress
from zigong.influence.capture import open_agent
from zigong.influence.compare import comparison_tables
from zigong.influence.diagnostics import target_diagnostics
from zigong.influence.target_file import save_targets
from zigong.influence.targets import capped_targets, scorer_fingerprint, target_gradients
from zigong.influence.worker import InfluenceWorker
from zigong.job import Job, main
from zigong.lakehouse.samples import cells_of
from zigong.lakehouse.shards import staged_rows
from zigong.ray_shards import map_shards
from zigong.release.serving import serving_base
from zigong.training.checkpoints import read_checkpoints
from zigong.training.samples import Samples


def score_influence(job: Job) -> None:
    """Target gradients once, then one actor per CPU group over the cells; Ray stages, the lakehouse commits once."""
    recipe, run = job.recipe, job.run
    base, source, settings = serving_base(run), job.sample_source(), recipe.influence
    agent_folder, targets_file = run.artifact("agent"), run.artifact("targets.safetensors")
    agent = open_agent(
        base,
        read_checkpoints(agent_folder),
        torch_threads=recipe.engine.torch_threads,
        precision=settings.precision,
        gradient_checkpointing=settings.gradient_checkpointing,
    )
    targets = capped_targets(Samples.from_arrow(source.labelled(["target"])), settings.max_targets)
    gradients = target_gradients(agent, targets, settings, business_timezone=recipe.business_timezone)
    save_targets(gradients, targets_file)
    fingerprint = scorer_fingerprint(agent.manifest, settings, targets.sample_id)
    members = source.members(["train"])
    shards, stage = cells_of(members), job.stage("influence_scores")
    with progress("TracSeq (cells)") as advance:
        map_shards(
            shards,
            InfluenceWorker,
            {
                "source": source,
                "base_folder": base,
                "agent_folder": agent_folder,
                "targets_file": targets_file,
                "settings": settings,
                "torch_threads": recipe.engine.torch_threads,
            },
            stage_folder=stage,
            fingerprint=f"{fingerprint}-{source.members_version}-{source.samples_version}",
            engine=recipe.engine,
            progress=advance,
        )
    rows = staged_rows(stage, [shard["shard"] for shard in shards], members["sample_id"])
    scorer_id = f"tracseq-{fingerprint[:16]}"
    named = job.frame(
        rows.append_column("dataset_id", pa.repeat(source.dataset_id, len(rows))).append_column(
            "scorer_id", pa.repeat(scorer_id, len(rows))
        )
    )
    job.publish("influence_scores", named, cells=f"dataset_id = '{source.dataset_id}' AND scorer_id = '{scorer_id}'")
    run.note(scorer_id=scorer_id)
    known = members.select(["sample_id", "label", "observation_date"]).to_pandas()
    scored = rows.to_pandas().dropna(subset=["score"]).merge(known, on="sample_id")
    tables, warnings = comparison_tables(
        scored,
        settings,
        targets=gradients,
        manifest=agent.manifest,
        top_share=recipe.mix.fraction * recipe.mix.influence_share,
    )
    for name, table in tables.items():
        run.write_table(name, table.to_dict("records"))
    for warning in warnings:
        LOG.warning("influence", extra={"fields": {"warning": warning}})
    run.note(influence_warnings=list(warnings))
    for found in target_diagnostics(gradients, agent.manifest):
        for name, value in (("class_cosine", found.class_cosine), ("half_cosine", found.half_cosine)):
            if value is not None:
                run.add_metrics({f"influence.{found.checkpoint}.{name}": value})


if __name__ == "__main__":
    main("score_influence", score_influence)
