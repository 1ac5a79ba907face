"""Scores training samples: first the gradients of the targets, then the samples are computed in shards on Ray."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from zigong.dataset.samples import SampleSource, capped, members_in, partition_shards, user_shards
from zigong.fanout.shards import map_shards
from zigong.fanout.staged import staged_rows
from zigong.influence.compare import comparison_tables, with_strata
from zigong.influence.diagnostics import diagnostic_figures
from zigong.influence.rescoring import ScoredSamples, identities, taken_over, with_input_hash, without
from zigong.influence.target_file import TargetHeader, holds_sums_of, read_targets
from zigong.influence.target_groups import target_groups, target_shards
from zigong.influence.target_merge import merge_targets
from zigong.influence.targets import TargetGradients, scorer_fingerprint, target_fingerprint
from zigong.influence.worker import InfluenceWorker, ScoringTask, TargetWorker
from zigong.recipe import Engine, Influence
from zigong.training.checkpoints import CheckpointManifest, read_checkpoints


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """The agent's checkpoints and the gradients of the targets.

    Attributes:
        fingerprint: digest of everything that determines a score except the scored sample.
    """

    manifest: CheckpointManifest
    gradients: TargetGradients
    fingerprint: str

    @property
    def scorer_id(self) -> str:
        """Id of the scorer in tables."""
        return f"tracseq-{self.fingerprint[:16]}"


@dataclass(frozen=True, kw_only=True)
class ScoreComparison:
    """Comparison of scores with other settings.

    Attributes:
        tables: tables by name.
        warnings: warnings against using the scores.
        figures: diagnostics of the targets as a flat mapping.
    """

    tables: dict[str, pd.DataFrame]
    warnings: tuple[str, ...]
    figures: dict[str, float]


def open_scorer(
    task: ScoringTask,
    *,
    business_timezone: str,
    stage_folder: Path,
    engine: Engine,
    progress: Callable[[int, int], None],
) -> Scorer:
    """Computes the target gradients on workers, unless the task's file holds them already, and opens them.

    A target is never refused, since every score depends on all of them: where one ends its worker at every attempt, the
    step fails.

    Args:
        task: what workers need; its file of target gradients is written here.
        business_timezone: see :func:`target_groups`.
        stage_folder: folder of the staged shards; existing shards with the same inputs are reused.
        engine: resource limits of the workers.
        progress: called with the passes done and their total number: one per target and checkpoint.

    Raises:
        DataError: there is no target, or a target is too long or has no token in the loss.
        InfraError: a shard ends its worker at every attempt.
    """
    manifest, settings, targets = read_checkpoints(task.agent_folder), task.settings, _targets(task)
    header = _header(task, manifest, targets, business_timezone=business_timezone)
    if not holds_sums_of(task.targets_file, header.inputs):
        shards = target_shards(targets, settings.scope, header.checkpoints)
        map_shards(
            shards,
            TargetWorker,
            {"task": task},
            stage_folder=stage_folder,
            fingerprint=header.inputs,
            engine=engine,
            progress=progress,
        )
        merge_targets(header, shards, stage_folder, task.targets_file)
    fingerprint = scorer_fingerprint(manifest, settings, identities(targets))
    return Scorer(manifest=manifest, gradients=read_targets(task.targets_file), fingerprint=fingerprint)


def _targets(task: ScoringTask) -> pa.Table:
    """The targets without their prompts, with ``input_hash``."""
    members = capped(task.source.members(["target"]), task.settings.max_targets)
    return with_input_hash(task.source.with_columns(members, ("text_hash",)))


def _header(
    task: ScoringTask, manifest: CheckpointManifest, targets: pa.Table, *, business_timezone: str
) -> TargetHeader:
    source, keys = task.source, targets["sample_id"].to_pylist()
    digest = target_fingerprint(manifest, identities(targets), task.settings)
    return TargetHeader(
        fingerprint=target_fingerprint(manifest, keys, task.settings),
        inputs=f"{digest}-{source.members_version}-{source.samples_version}",
        target_ids=tuple(sorted(keys)),
        groups=target_groups(targets, task.settings.scope, business_timezone=business_timezone),
        checkpoints=len(manifest.checkpoints),
    )


def training_samples(source: SampleSource) -> pa.Table:
    """The members to score, with ``input_hash``, sorted by sample_id."""
    return with_input_hash(source.with_columns(source.members(["train"]), ("text_hash",)))


def scored_samples(
    task: ScoringTask,
    scorer: Scorer,
    members: pa.Table,
    former: pa.Table,
    *,
    stage_folder: Path,
    engine: Engine,
    progress: Callable[[int, int], None],
) -> ScoredSamples:
    """Takes over the former scores that are still valid and computes the others.

    Args:
        members: samples from :func:`training_samples`.
        former: published scores of the same scorer, of any dataset.
        stage_folder: folder of the staged shards; existing shards of the same scorer and samples are reused.
        engine: resource limits of the workers.
        progress: called with the rows done and the total number of rows.
    """
    source, reused = task.source, taken_over(members, former)
    wanted = without(members, reused)
    manifests = map_shards(
        _shards_of(source, wanted, user_shards if task.settings.engine == "trees" else partition_shards),
        InfluenceWorker,
        {"task": task},
        stage_folder=stage_folder,
        fingerprint=f"{scorer.fingerprint}-{source.members_version}-{source.samples_version}",
        engine=engine,
        progress=progress,
        keys_of=lambda shard: members_in(wanted, shard)["sample_id"].to_pylist(),
    )
    computed = staged_rows(stage_folder, manifests, wanted["sample_id"])
    return ScoredSamples(reused=reused, computed=computed, wanted=wanted)


def compared(
    scorer: Scorer, members: pa.Table, scores: pa.Table, settings: Influence, *, top_share: float
) -> ScoreComparison:
    """Compares scores with those of other settings.

    Args:
        members: members from :func:`training_samples`.
        scores: scores in the columns of influence_scores.
        settings: settings of the scores.
        top_share: share of each stratum that counts as its top.
    """
    targets, manifest = scorer.gradients, scorer.manifest
    tables, warnings = comparison_tables(
        with_strata(scores, members), settings, targets=targets, manifest=manifest, top_share=top_share
    )
    return ScoreComparison(tables=tables, warnings=warnings, figures=diagnostic_figures(targets, manifest))


def _shards_of(
    source: SampleSource, wanted: pa.Table, divided: Callable[[pa.Table], list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """The shards of the wanted samples; a shard of which only a part is wanted lists its keys under ``only``."""
    complete = {shard["shard"]: shard["rows"] for shard in divided(source.members(["train"]))}
    return [
        shard
        if shard["rows"] == complete[shard["shard"]]
        else {**shard, "only": members_in(wanted, shard)["sample_id"].to_pylist()}
        for shard in divided(wanted)
    ]
