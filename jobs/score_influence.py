"""Scores every training sample with TracSeq on Ray Data: dataset_members, checkpoints -> influence_scores."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from zigong.console import LOG, progress
from zigong.dataset.samples import SampleSource, cell_of, cells_of, user_cells_of
from zigong.fanout.shards import map_shards
from zigong.fanout.staged import ShardManifest, staged_rows
from zigong.influence.capture import OpenAgent, open_agent
from zigong.influence.compare import comparison_tables
from zigong.influence.diagnostics import target_diagnostics
from zigong.influence.rescoring import PUBLISHED_SCORES, identities, taken_over, with_input_hash, without
from zigong.influence.target_file import save_targets
from zigong.influence.targets import TargetGradients, scorer_fingerprint, target_gradients
from zigong.influence.worker import InfluenceWorker
from zigong.lakehouse.tables import arrow_pinned, latest_version, published_tables
from zigong.release.serving import serving_base
from zigong.runs.job import Job
from zigong.runs.launch import main
from zigong.tokens.samples import Samples, whole_users
from zigong.training.checkpoints import read_checkpoints

CRASHED = "scorer_crashed"  # the reason of a sample that ends the process which scores it


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """What scores: the agent, and the gradients of the targets.

    Attributes:
        fingerprint: of everything that decides a score except the scored sample.
    """

    agent: OpenAgent
    gradients: TargetGradients
    fingerprint: str

    @property
    def scorer_id(self) -> str:
        """Its name in tables."""
        return f"tracseq-{self.fingerprint[:16]}"


def score_influence(job: Job) -> None:
    """Target gradients once, then one actor per GPU or CPU group over what no former run has scored; one commit."""
    source, run = job.sample_source(), job.run
    scorer = _scorer(job, source)
    members = with_input_hash(source.with_columns(source.members(["train"]), ("text_hash",)))
    known = taken_over(members, _former_scores(job, scorer.scorer_id))
    wanted = without(members, known)
    rows = staged_rows(job.stage("influence_scores"), _computed(job, source, scorer, wanted), wanted["sample_id"])
    hashes = without(wanted, without(wanted, rows))["input_hash"]  # both in order of sample_id
    scores = pa.concat_tables([known, rows.append_column("input_hash", hashes)], promote_options="default")
    refused = without(members, scores)
    _publish(job, source.dataset_id, scorer.scorer_id, scores, refused)
    run.note(scorer_id=scorer.scorer_id)
    counts = {"taken_over": len(known), "computed": len(rows), "refused": len(refused)}
    run.add_metrics({f"influence.{name}": count for name, count in counts.items()})
    _compare(job, scorer, members, scores)


def _compare(job: Job, scorer: Scorer, members: pa.Table, scores: pa.Table) -> None:
    """Writes what the published scores look like under other settings, and what speaks against using them."""
    recipe, run = job.recipe, job.run
    known = members.select(["sample_id", "task", "label", "observation_date"]).to_pandas()
    known["stratum"] = known["task"] + "/" + known["label"].astype(str)
    scored = scores.to_pandas().dropna(subset=["score"]).merge(known, on="sample_id")
    tables, warnings = comparison_tables(
        scored,
        recipe.influence,
        targets=scorer.gradients,
        manifest=scorer.agent.manifest,
        top_share=recipe.mix.fraction * recipe.mix.influence_share,
    )
    for name, table in tables.items():
        run.write_table(name, table.to_dict("records"))
    for warning in warnings:
        LOG.warning("influence", extra={"fields": {"warning": warning}})
    run.note(influence_warnings=list(warnings))
    for found in target_diagnostics(scorer.gradients, scorer.agent.manifest):
        for name, value in (("class_cosine", found.class_cosine), ("half_cosine", found.half_cosine)):
            if value is not None:
                run.add_metrics({f"influence.{found.checkpoint}.{name}": value})


def _scorer(job: Job, source: SampleSource) -> Scorer:
    recipe, settings = job.recipe, job.recipe.influence
    manifest = read_checkpoints(job.run.artifact("agent"))
    agent = open_agent(
        serving_base(job.run),
        manifest,
        torch_threads=recipe.engine.torch_threads,
        precision=settings.precision,
        gradient_checkpointing=settings.gradient_checkpointing,
    )
    told = with_input_hash(source.labelled(["target"], ("text_hash",)))
    targets = whole_users(Samples.from_arrow(told), settings.max_targets)
    gradients = target_gradients(agent, targets, settings, business_timezone=recipe.business_timezone)
    save_targets(gradients, job.run.artifact("targets.safetensors"))
    used = told.filter(ds.field("sample_id").isin(targets.sample_id))
    fingerprint = scorer_fingerprint(manifest, settings, identities(used))
    return Scorer(agent=agent, gradients=gradients, fingerprint=fingerprint)


def _former_scores(job: Job, scorer_id: str) -> pa.Table:
    """What former runs of the same scorer published, at the version that the first attempt of this run saw."""
    nothing = PUBLISHED_SCORES.empty_table()
    if job.recipe.engine.rescore == "all" or "influence_scores" not in published_tables(job.paths):
        return nothing
    facts = job.run.manifest()["facts"]
    version = facts.get("former_scores_version", latest_version(job.paths, "influence_scores"))
    job.run.note(former_scores_version=version)
    same = ds.field("scorer_id") == scorer_id
    found = arrow_pinned(job.paths, "influence_scores", version, columns=PUBLISHED_SCORES.names, where=same)
    return found.cast(PUBLISHED_SCORES)


def _computed(job: Job, source: SampleSource, scorer: Scorer, wanted: pa.Table) -> list[ShardManifest]:
    """Stages the scores of the wanted samples; a sample that ends its worker's process is refused."""
    recipe, run = job.recipe, job.run
    with progress("TracSeq") as advance:
        return map_shards(
            _shards_of(source, wanted, user_cells_of if recipe.influence.engine == "trees" else cells_of),
            InfluenceWorker,
            {
                "source": source,
                "base_folder": serving_base(run),
                "agent_folder": run.artifact("agent"),
                "targets_file": run.artifact("targets.safetensors"),
                "settings": recipe.influence,
                "torch_threads": recipe.engine.torch_threads,
            },
            stage_folder=job.stage("influence_scores"),
            fingerprint=f"{scorer.fingerprint}-{source.members_version}-{source.samples_version}",
            engine=recipe.engine,
            progress=advance,
            keys_of=lambda shard: cell_of(wanted, shard)["sample_id"].to_pylist(),
        )


def _shards_of(
    source: SampleSource, wanted: pa.Table, divided: Callable[[pa.Table], list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """The cells of the wanted samples; a cell that is not wanted whole names those that are."""
    whole = {shard["shard"]: shard["rows"] for shard in divided(source.members(["train"]))}
    return [
        shard
        if shard["rows"] == whole[shard["shard"]]
        else {**shard, "only": cell_of(wanted, shard)["sample_id"].to_pylist()}
        for shard in divided(wanted)
    ]


def _publish(job: Job, dataset_id: str, scorer_id: str, scores: pa.Table, refused: pa.Table) -> None:
    named = scores.append_column("dataset_id", pa.repeat(dataset_id, len(scores))).append_column(
        "scorer_id", pa.repeat(scorer_id, len(scores))
    )
    keys = ("sample_id", "user_id", "input_hash")
    payloads = [
        json.dumps({"dataset_id": dataset_id, "scorer_id": scorer_id, **row}, sort_keys=True)
        for row in refused.select(keys).to_pylist()
    ]
    rejected = pa.table({"reasons": [[CRASHED]] * len(payloads), "payload": payloads})
    job.publish(
        "influence_scores",
        job.frame(named),
        cells=f"dataset_id = '{dataset_id}' AND scorer_id = '{scorer_id}'",
        rejected=job.frame(rejected) if payloads else None,
    )


if __name__ == "__main__":
    main("score_influence", score_influence)
