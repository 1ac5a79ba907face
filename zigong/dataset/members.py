"""Builds the members of one dataset from instruction samples and labels: the split and the answer of each sample."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from schemas.contracts import table_contract
from zigong.dataset.duplicates import Repetitions, repeated_samples
from zigong.dataset.samples import UNLABELLED
from zigong.instructions.tasks import Tasks, load_tasks
from zigong.instructions.template_files import LabelAnswer
from zigong.recipe import DateRange, Recipe

SPLITS = ("train", "test", "target", "select", "oot")
_POINT = ("population", "user_id", "loan_id", "observation_at")
HASH_BINS = 4096  # resolution of the hash range at which ``max_train_samples`` is applied


@dataclass(frozen=True, kw_only=True)
class BuiltDataset:
    """A dataset before publication.

    Attributes:
        members: rows of the contract dataset_members.
        dropped: number of samples that are in no split, by reason.
        unlabelled: number of samples in the split ``unlabelled``.
        indeterminate: number of samples of the main question that their indeterminate label excludes, by split.
        repetitions: train samples that repeat another sample.
    """

    dataset_id: str
    members: DataFrame
    dropped: dict[str, int]
    indeterminate: dict[str, int]
    unlabelled: int
    repetitions: Repetitions


def build_members(
    samples: DataFrame, labels: DataFrame, recipe: Recipe, completion_ids: dict[str, list[int]]
) -> BuiltDataset:
    """Joins samples with the labels of the first horizon and assigns each a split and an answer.

    A sample without a label is dropped and counted like any other.
    Auxiliary samples have the label of the main sample of their client or loan and date, and are in train only.

    Args:
        samples: rows of instruction_samples of one population.
        labels: rows of performance_labels of this population and of the label settings of the recipe.
        completion_ids: token ids of each choice.
    """
    horizon, tasks = recipe.labels.horizons[0], load_tasks(recipe.instructions)
    main = F.col("task") == tasks.main.task
    first_horizon = labels.where(
        (F.col("window_months") == horizon.window_months) & (F.col("dpd_threshold") == horizon.dpd_threshold)
    ).select(*_POINT, "outcome", "max_days_past_due", "matured_at")
    labelled = samples.join(first_horizon, list(_POINT), "left")
    placed = labelled.withColumn("split", split_column(recipe))
    fated = placed.withColumn("reason", F.coalesce(_exclusion(recipe), _auxiliary_exclusion(main)))
    fated = (_with_unlabelled(fated, main, recipe) if recipe.unlabelled_dates() else fated).cache()
    threshold = _cap_threshold(fated.where("reason IS NULL AND split = 'train'").where(main), recipe)
    over_cap = F.col("split").isin("train", UNLABELLED) & (_share(recipe, "cap") >= threshold)
    fate = F.coalesce(F.col("reason"), F.when(over_cap, F.lit("over_cap")))
    decided = fated.withColumn("reason", fate)
    dropped = _by_reason(decided.where("reason IS NOT NULL"))
    unclear = _counted_by(decided.where("reason = 'indeterminate' AND split IS NOT NULL").where(main), "split")
    answered = _answered(decided.where("reason IS NULL"), tasks)
    compared = answered.where(F.col("split") != UNLABELLED)
    repeated, repetitions = repeated_samples(compared, recipe.duplicates, recipe.split.unit)
    repeated = repeated.localCheckpoint()
    members = answered.join(repeated, "sample_id", "left_anti")
    dataset_id = _dataset_id(members, main, recipe)
    fated.unpersist()
    return BuiltDataset(
        dataset_id=dataset_id,
        members=_contracted(members, dataset_id, completion_ids),
        dropped={**dropped, **_by_reason(repeated)},
        indeterminate={**dict.fromkeys(SPLITS, 0), **unclear},
        unlabelled=members.where(F.col("split") == UNLABELLED).count() if recipe.unlabelled_dates() else 0,
        repetitions=repetitions,
    )


def _with_unlabelled(fated: DataFrame, main: Column, recipe: Recipe) -> DataFrame:
    """Moves what has no usable label, of train persons at the dates allowed, to the split ``unlabelled``."""
    dated = F.col("observation_date").isin(list(recipe.unlabelled_dates())) & F.col("matured_at").isNotNull()
    moved = main & F.col("reason").isNotNull() & dated & may_pretrain(recipe)
    split = F.when(moved, UNLABELLED).otherwise(F.col("split"))
    return fated.select(
        *(name for name in fated.columns if name not in {"split", "reason"}),
        split.alias("split"),
        F.when(~moved, F.col("reason")).alias("reason"),
    )


def _by_reason(dropped: DataFrame) -> dict[str, int]:
    return _counted_by(dropped, "reason")


def _counted_by(rows: DataFrame, column: str) -> dict[str, int]:
    return {row[column]: row["count"] for row in rows.groupBy(column).count().collect()}


def _answered(members: DataFrame, tasks: Tasks) -> DataFrame:
    """Members with label and completion; questions without choices have a computed answer, unlabelled ones none."""
    labelled = F.col("split") != UNLABELLED
    label = F.when(labelled, (F.col("outcome") == "bad").cast("int"))
    completion = F.when(labelled, F.coalesce("answer", F.col("choices")[_place_of_answer(tasks)]))
    return members.withColumn("label", label).withColumn("completion", completion)


def split_column(recipe: Recipe) -> Column:
    """The split of a sample, by its date or by the hash of its unit; null if the recipe assigns none."""
    split = recipe.split
    held_out = F.when(_share(recipe, "target") < split.target_share, "target").otherwise("select")
    if split.by == "user_hash":
        share = _share(recipe, "split")
        validation = share < split.test_share + split.validation_share
        return F.when(share < split.test_share, "test").when(validation, held_out).otherwise("train")
    tested = F.when(_share(recipe, "test") < split.test_share, "test").otherwise("train")
    observations = recipe.observations
    return (
        F.when(_within(observations.train), tested)
        .when(_within(observations.validation), held_out)
        .when(_within(observations.oot), "oot")
    )


def may_pretrain(recipe: Recipe) -> Column:
    """Whether a user may be learned from without labels, as in pre-training; held-out units are excluded."""
    if recipe.split.by == "user_hash":
        return split_column(recipe) == "train"
    return _share(recipe, "test") >= recipe.split.test_share


def _exclusion(recipe: Recipe) -> Column:
    """Reason why a sample is in no split; its label must be mature at the data's as-of date."""
    as_of = F.to_utc_timestamp(F.lit(recipe.as_of.isoformat()), recipe.business_timezone)
    return (
        F.when(F.col("outcome").isNull(), "no_label")
        .when(F.col("matured_at") > as_of, "immature")  # its window may be open: nothing is known of it yet
        .when(F.col("outcome") == "indeterminate", "indeterminate")
        .when(split_column(recipe).isNull(), "no_split_at_this_date")
    )


def _auxiliary_exclusion(main: Column) -> Column:
    """Reason why an auxiliary sample is excluded: it is not in train, or its answer cannot be computed."""
    return F.when(~main & (F.col("split") != "train"), "auxiliary_outside_train").otherwise(F.col("unanswered"))


def _place_of_answer(tasks: Tasks) -> Column:
    """Index of the label's answer among the choices."""
    bad, late = F.col("outcome") == "bad", F.coalesce(F.col("max_days_past_due"), F.lit(0)) > 0
    by_delay = F.when(bad, 0).when(late, 1).otherwise(2)
    delayed = [q.name for q in tasks.questions if isinstance(q.answer, LabelAnswer) and q.answer.by == "delay"]
    return F.when(F.col("template").isin(delayed), by_delay).when(bad, 0).otherwise(1)


def _within(dates: DateRange | None) -> Column:
    if dates is None:
        return F.lit(False)
    return F.col("observation_date").between(F.lit(dates.first), F.lit(dates.last))


def _share(recipe: Recipe, salt: str) -> Column:
    """A uniform number in [0, 1) for the split unit; each use has its own salt."""
    unit = F.col("person_id" if recipe.split.unit == "person_id" else "user_id")
    digest = F.sha2(F.concat_ws("|", F.lit(salt), F.lit(str(recipe.split.seed)), unit), 256)
    return F.conv(F.substring(digest, 1, 8), 16, 10).cast("double") / F.lit(float(2**32))


def _cap_threshold(train: DataFrame, recipe: Recipe) -> Column:
    """The largest hash threshold below which there are at most ``max_train_samples``; units are never split."""
    cap = recipe.split.max_train_samples
    if cap is None:
        return F.lit(1.0)
    position = F.floor(_share(recipe, "cap") * HASH_BINS).cast("int").alias("bin")
    counts = {row["bin"]: row["count"] for row in train.groupBy(position).count().collect()}
    total, kept = 0, 0
    while kept < HASH_BINS and total + counts.get(kept, 0) <= cap:
        total += counts.get(kept, 0)
        kept += 1
    return F.lit(kept / HASH_BINS)


def _dataset_id(members: DataFrame, main: Column, recipe: Recipe) -> str:
    """Digest of the settings and of every member, independent of row order and of table versions.

    The label determines the answer to the main question; for other questions the answer is included in the digest.
    """
    content_of = ("sample_id", "label", "split", "text_hash")
    row_hash = F.when(main, F.xxhash64(*content_of)).otherwise(F.xxhash64(*content_of, "completion"))
    (content,) = members.agg(
        F.sum(row_hash.cast("decimal(38,0)")).alias("sum"),
        F.count("*").alias("rows"),
        F.max("population").alias("population"),
    ).collect()
    settings = {
        "split": recipe.split.model_dump(mode="json"),
        "labels": recipe.labels.model_dump(mode="json"),
        "population": content["population"],
    }
    identity = json.dumps({**settings, "sum": str(content["sum"]), "rows": content["rows"]}, sort_keys=True)
    return "ds-" + hashlib.sha256(identity.encode()).hexdigest()[:16]


def _contracted(members: DataFrame, dataset_id: str, completion_ids: dict[str, list[int]]) -> DataFrame:
    ids = F.create_map(
        *(item for answer, tokens in completion_ids.items() for item in (F.lit(answer), F.array(*map(F.lit, tokens))))
    )
    return members.select(
        F.lit(dataset_id).alias("dataset_id"),
        *("population", "sample_id", "user_id", "person_id", "loan_id"),
        *("observation_at", "observation_date", "user_bucket"),
        "task",
        "completion",
        F.coalesce("answer_ids", ids[F.col("completion")]).alias("completion_ids"),
        "label",
        "matured_at",
        "split",
    ).select(*table_contract("dataset_members").column_names)


def final_split(recipe: Recipe) -> str:
    """The split that results are reported on: out of time, or held-out users if a source has a single T."""
    return "oot" if recipe.split.by == "time" else "test"


def window_closes_before(recipe: Recipe) -> dict[str, date]:
    """Per split, the date by which its label windows must have closed: the next split's first T.

    Samples of the split ``unlabelled`` have no window; they are observed before this date.
    """
    observations = recipe.observations
    if observations.validation is None or observations.oot is None:
        return {}
    first, second = observations.validation.first, observations.oot.first
    return {"train": first, "test": first, UNLABELLED: first, "target": second, "select": second}
