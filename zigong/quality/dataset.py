"""Checks of a dataset across its tables, judged by one GX checkpoint."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import great_expectations.expectations as gxe
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from zigong.instructions.dataset import final_split
from zigong.instructions.tasks import main_task
from zigong.quality.suite import Audit, audit_frame, open_context
from zigong.recipe import Recipe

Spans = dict[str, date]


def dataset_violations(members: DataFrame, samples: DataFrame, recipe: Recipe, closes_before: Spans) -> DataFrame:
    """Counts what breaks each rule of a dataset.

    Args:
        members: rows of one dataset_id.
        samples: the instruction samples they name.
        closes_before: per split, the local date by which its label windows must have closed.

    Returns:
        One row: a column per rule with the number of violations, and the columns ``split_*`` with samples per split.
    """
    told = samples.select("sample_id", "choices", "answer", F.size("input_ids").alias("prompt_tokens"))
    joined = members.join(told, "sample_id", "left")
    main, chosen = F.col("task") == main_task(recipe), F.size("choices") > 0
    as_of = F.to_utc_timestamp(F.lit(recipe.as_of.isoformat()), recipe.business_timezone)
    length = recipe.finetune.context_length
    rows = joined.agg(
        _count("sample_is_missing", F.col("prompt_tokens").isNull()),
        _count("answer_is_no_choice", chosen & ~F.array_contains("choices", F.col("completion"))),
        _count("label_disagrees_with_answer", chosen & (_says_bad() != (F.col("label") == 1))),
        _count("answer_is_not_the_computed_one", ~chosen & ~F.col("answer").eqNullSafe(F.col("completion"))),
        _count("auxiliary_outside_train", ~main & (F.col("split") != "train")),
        _count("label_is_immature", F.col("matured_at") > as_of),
        _count("window_reaches_into_next_split", _reaches(closes_before, recipe)),
        _count("longer_than_context", F.col("prompt_tokens") + F.size("completion_ids") > length),
        (F.count("*") - F.count_distinct("sample_id")).alias("sample_in_two_splits"),
        *(F.count_if(main & (F.col("split") == name)).alias(f"split_{name}") for name in required_splits(recipe)),
    )
    unit = "person_id" if recipe.split.unit == "person_id" else "user_id"
    roles = members.groupBy(unit).agg(
        F.max(F.col("split") == "train").alias("trains"),
        F.max(F.col("split") == "test").alias("tests"),
        F.max(F.col("split") == "target").alias("targets"),
        F.max(F.col("split") == "select").alias("selects"),
    )
    divided = roles.agg(
        _count("unit_in_train_and_test", F.col("trains") & F.col("tests")),
        _count("unit_in_target_and_select", F.col("targets") & F.col("selects")),
    )
    return rows.crossJoin(divided)


def required_splits(recipe: Recipe) -> tuple[str, ...]:
    """Splits that must hold samples."""
    return ("train", "target", "select", final_split(recipe))


def judge(violations: DataFrame, run_folder: Path) -> Audit:
    """Runs the checkpoint: no violation of any rule, no empty split."""
    expectations: list[gxe.Expectation] = [
        gxe.ExpectColumnValuesToBeBetween(column=name, min_value=1)
        if name.startswith("split_")
        else gxe.ExpectColumnValuesToBeBetween(column=name, min_value=0, max_value=0)
        for name in violations.columns
    ]
    return audit_frame(open_context(run_folder / "quality"), "dataset", violations, expectations)


def _count(name: str, broken: Column) -> Column:
    return F.count_if(broken).alias(name)


def _says_bad() -> Column:
    """Whether the answer is the bad choice, which every question with choices names first."""
    return F.col("completion") == F.try_element_at("choices", F.lit(1))


def _reaches(closes_before: Spans, recipe: Recipe) -> Column:
    """Whether a label window, without the reporting lag, ends after the next split's first T."""
    horizon = recipe.labels.horizons[0]
    local = F.from_utc_timestamp("observation_at", recipe.business_timezone)
    closes = F.to_date(F.add_months(local, horizon.window_months))
    broken: Column = F.lit(False)
    for split, limit in closes_before.items():
        broken = broken | ((F.col("split") == split) & (closes > F.lit(limit)))
    return broken
