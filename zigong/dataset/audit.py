"""Evaluates a dataset across its tables by the ``spark-dataset`` rules of the contract of dataset_members.

The rules are conditions on one joined view with a row per sample. In addition to the columns of dataset_members it has:

- of its sample: ``sample_found``, ``prompt``, ``choices``, ``answer``, ``prompt_tokens`` (NULL where there is none);
- of the recipe: ``is_main`` (whether it has the main question), ``unit_id`` (unit of hash splits), ``as_of``,
  ``context_length``, ``answer_cue``, ``window_closes`` (date), ``next_split_begins`` (date, NULL for the last split).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from functools import reduce
from pathlib import Path

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from schemas.contracts import table_contract
from schemas.rules import DatasetRule, TableRule
from zigong.dataset.members import final_split
from zigong.dataset.separation import LARGEST_AUC, Separation, attribute_separations
from zigong.instructions.tasks import horizons_of_tasks, load_tasks, main_task
from zigong.quality.audit import write_verdict
from zigong.quality.measures import Measurement
from zigong.quality.rows import holds
from zigong.quality.suite import evaluated, open_context
from zigong.quality.verdict import Verdict, pending_results
from zigong.recipe import Recipe

NAME = "dataset"
SEPARATION_RULES = (
    TableRule(
        name="no_attribute_has_a_large_auc",
        measure="share",
        high=LARGEST_AUC,
        severity="warn",
        description="largest AUC of one attribute on the train samples; above the limit it may leak the outcome",
    ),
    TableRule(
        name="no_value_decides_the_class",
        measure="rows",
        high=0,
        severity="warn",
        description="attributes of which one value, or its absence, on 100 samples or more goes with one class only",
    ),
)
STATIC_PROFILES = (
    "every client has one profile version, known by his first event: were it a later snapshot, it would leak; give "
    "profiles the known_at of their delivery"
)
PROFILE_RULE = TableRule(
    name="profiles_become_known_over_time",
    measure="share",
    high=0.999,
    severity="warn",
    description="share of clients with one profile version, known by their first event",
)
Spans = Mapping[str, date]


def audit_dataset(
    members: DataFrame,
    samples: DataFrame,
    recipe: Recipe,
    closes_before: Spans,
    *,
    static_profiles: float = 0.0,
    run_folder: Path,
    run_id: str,
) -> Verdict:
    """Measures and evaluates a dataset: no sample breaks a rule, and no required split is empty.

    An attribute of the train samples that alone separates the classes is a warning, which the gate reads.

    Args:
        members: rows of one dataset_id.
        samples: the instruction samples of these members.
        closes_before: per split, the local date by which its label windows must have closed.
        static_profiles: share of clients whose only profile version was known by their first event.
    """
    contract = table_contract("dataset_members")
    view = joined_view(members, samples, recipe, closes_before)
    sizes, rules = split_sizes(members, recipe), split_rules(recipe)
    found = {**broken_counts(view, contract.dataset_rules), **{rule.name: sizes[rule.name] for rule in rules}}
    measured = {name: Measurement(value=float(count), observed=float(count)) for name, count in found.items()}
    separations = attribute_separations(view.where("is_main AND split = 'train' AND prompt IS NOT NULL"))
    measured |= separation_measures(separations)
    measured[PROFILE_RULE.name] = Measurement(value=static_profiles, observed=static_profiles, note=STATIC_PROFILES)
    pending = pending_results((*contract.dataset_rules, *rules, *SEPARATION_RULES, PROFILE_RULE), measured)
    results = evaluated(open_context(run_folder / "quality"), NAME, pending, run_id=run_id)
    verdict = Verdict(kept=sum(sizes.values()), refused=0, results=results)
    write_verdict(run_folder, NAME, verdict, run_id=run_id, rules_version=contract.rules_version)
    return verdict


def joined_view(members: DataFrame, samples: DataFrame, recipe: Recipe, closes_before: Spans) -> DataFrame:
    """The view that the rules are evaluated on."""
    sample_columns = samples.select(
        "sample_id",
        F.lit(True).alias("_found"),
        "prompt",
        "choices",
        "answer",
        "template",
        F.size("input_ids").alias("prompt_tokens"),
    )
    local = F.from_utc_timestamp("observation_at", recipe.business_timezone)
    cues = {question.name: question.cue for question in load_tasks(recipe.instructions).questions}
    windows = {task: horizon.window_months for task, horizon in horizons_of_tasks(recipe).items()}
    months = F.coalesce(_looked_up("task", windows), F.lit(recipe.labels.horizons[0].window_months))
    return members.join(sample_columns, "sample_id", "left").select(
        *members.columns,
        F.coalesce("_found", F.lit(False)).alias("sample_found"),
        *("prompt", "choices", "answer", "prompt_tokens"),
        (F.col("task") == main_task(recipe)).alias("is_main"),
        F.col("person_id" if recipe.split.unit == "person_id" else "user_id").alias("unit_id"),
        F.to_utc_timestamp(F.lit(recipe.as_of.isoformat()), recipe.business_timezone).alias("as_of"),
        F.lit(recipe.finetune.context_length).alias("context_length"),
        _looked_up("template", cues).alias("answer_cue"),
        F.to_date(F.add_months(local, months.cast("int"))).alias("window_closes"),
        _looked_up("split", closes_before).cast("date").alias("next_split_begins"),
    )


def broken_counts(view: DataFrame, rules: Sequence[DatasetRule]) -> dict[str, int]:
    """Samples, or groups of samples, that break each rule."""
    alone = [rule for rule in rules if not rule.per]
    counts: dict[str, int] = _counted(view, alone) if alone else {}
    for per in dict.fromkeys(rule.per for rule in rules if rule.per):
        grouped = [rule for rule in rules if rule.per == per]
        satisfied = [holds(rule.condition).alias(rule.name) for rule in grouped]
        counts |= _counted(view.groupBy(per).agg(*satisfied), [_of_group(rule) for rule in grouped])
    return counts


def split_rules(recipe: Recipe) -> tuple[TableRule, ...]:
    """Rules that every required split has samples of the main question."""
    return tuple(
        TableRule(name=f"split_{name}", measure="rows", low=1, description=f"split {name} has samples to use")
        for name in ("train", "target", "select", final_split(recipe))
    )


def separation_measures(found: Sequence[Separation]) -> dict[str, Measurement]:
    """The measurements of ``SEPARATION_RULES``; a note names the attributes and none of their values."""
    strongest = max(found, key=lambda one: one.auc, default=None)
    one_sided = [one for one in found if one.one_sided]
    sides = "; ".join(f"all {one.one_sided:,} samples with one value of {one.attribute} agree" for one in one_sided)
    auc = 0.5 if strongest is None else strongest.auc
    note = (
        ""
        if strongest is None
        else f"attribute {strongest.attribute}, AUC {strongest.auc:.3f}: does it leak the outcome?"
    )
    number = float(len(one_sided))
    return {
        SEPARATION_RULES[0].name: Measurement(value=auc, observed=auc, note=note),
        SEPARATION_RULES[1].name: Measurement(value=number, observed=number, note=sides),
    }


def alarms(verdict: Verdict) -> tuple[str, ...]:
    """The sentences of the broken rules about separating attributes."""
    names = {rule.name for rule in SEPARATION_RULES}
    return tuple(item.sentence() for item in verdict.results if item.rule in names and not item.passed)


def split_sizes(members: DataFrame, recipe: Recipe) -> dict[str, int]:
    """Number of samples of the main question in each split, by rule name."""
    counted = members.where(F.col("task") == main_task(recipe)).groupBy("split").count().collect()
    found = {f"split_{row['split']}": int(row["count"]) for row in counted}
    return {**{rule.name: 0 for rule in split_rules(recipe)}, **found}


def _counted(rows: DataFrame, rules: Sequence[DatasetRule]) -> dict[str, int]:
    (row,) = rows.agg(*(F.count_if(~holds(rule.condition)).alias(rule.name) for rule in rules)).collect()
    return {rule.name: int(row[rule.name]) for rule in rules}


def _of_group(rule: DatasetRule) -> DatasetRule:
    """The rule on groups, whose condition is the column of that name."""
    return DatasetRule(name=rule.name, condition=f"`{rule.name}`")


def _looked_up(column: str, values: Mapping[str, object]) -> Column:
    nothing: Column = F.lit(None)
    return reduce(
        lambda kept, item: F.when(F.col(column) == item[0], F.lit(item[1])).otherwise(kept), values.items(), nothing
    )
