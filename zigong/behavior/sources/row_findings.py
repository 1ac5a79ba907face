"""Findings about single rows: fields and values that do not fit, broken rules of the contracts, implausible times."""

from __future__ import annotations

from collections import Counter, defaultdict

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from schemas.contracts import table_contract
from schemas.mappings import SourceFile
from zigong.behavior.sources.causes import likely_cause
from zigong.behavior.sources.findings import SourceFinding, rule_finding
from zigong.behavior.sources.masking import shape
from zigong.behavior.sources.raw import REASONS
from zigong.behavior.sources.stated import UNFIT, far_future
from zigong.quality.rows import broken_rules, conform

EXAMPLES = 3
_TIMES = "times_within_1900_and_2200"  # the findings name the column instead
_FOLLOWING = ("user_bucket", "known_date")  # null where user_key or known_at is


def bad_cells(cells: DataFrame, file: SourceFile) -> list[SourceFinding]:
    """The fields of a file that do not fit the mapping, by reason, with likely causes and masked examples.

    Args:
        cells: raw fields and ``_reasons``, as ``raw.RawTables.cells``.
        file: their declaration; examples of its identifiers are not shown.
    """
    reason, kinds = F.col("reason"), dict(cells.dtypes)
    shown = [
        F.when(F.substring_index(reason, ":", 1).isin("missing", "malformed_row"), None).when(
            reason.endswith(f":{column.name}"), shape(F.col(f"`{column.name}`"))
        )
        for column in file.columns
        if not column.identifier
    ]
    causes = [
        F.when(
            reason == f"bad_cast:{column.name}",
            likely_cause(F.col(f"`{column.name}`"), kinds[column.name], column.type),
        )
        for column in file.columns
        if column.type != "string"
    ]
    nothing = F.lit(None).cast("string")
    found = cells.select("*", F.explode(REASONS).alias("reason")).select(
        reason.alias("rule"), F.coalesce(*causes, nothing).alias("cause"), F.coalesce(*shown, nothing).alias("example")
    )
    return _counted(found, f"files: {file.name}")


def unfit_values(unfit: DataFrame, section: str) -> list[SourceFinding]:
    """Rows whose values do not fit their table, by reason.

    Args:
        unfit: rows with ``_unfit``, as ``ingest.Versions.unfit``.
        section: events or profiles.
    """
    nothing = F.lit(None).cast("string")
    found = unfit.select(F.explode(UNFIT).alias("rule"), nothing.alias("cause"), nothing.alias("example"))
    return _counted(found, section)


def broken_by(rows: DataFrame, table: str, section: str) -> list[SourceFinding]:
    """Rules of the table's contract that rows break, which a run sends to quarantine, and other times worth a look."""
    contract = table_contract(table)
    evaluated = conform(rows, contract).withColumn("_broken", broken_rules(contract))
    word = F.col("event_type") if section == "events" else F.lit(None).cast("string")
    example = F.when(F.col("rule") == "event_type_is_a_word", F.translate(word, "<>", ""))  # a shape already
    times: list[str] = [name for name in ("event_at", "valid_from", "known_at") if name in contract.column_names]
    unusual = _implausible(times, F.array_contains("_broken", _TIMES))
    found = evaluated.select("*", F.explode(F.concat(F.array_remove("_broken", _TIMES), unusual)).alias("rule"))
    nothing = F.lit(None).cast("string")
    findings = _counted(found.select("rule", nothing.alias("cause"), example.alias("example")), section)
    return [item for item in findings if item.column not in _FOLLOWING]


def _implausible(times: list[str], untimely: Column) -> Column:
    """Each time that is before 1970 or more than a year ahead; ``:published`` where the row breaks no rule on times."""
    fate = F.when(untimely, "").otherwise(":published")
    early = [F.when(F.col(name) < F.lit("1970-01-01").cast("timestamp"), f"before_1970:{name}") for name in times]
    late = [F.when(far_future(F.col(name)), f"far_future:{name}") for name in times]
    return F.array_compact(F.array(*(F.concat(rule, fate) for rule in (*early, *late))))


def _counted(found: DataFrame, section: str) -> list[SourceFinding]:
    """One finding for each rule.

    Args:
        found: one row for each broken rule of a row: rule, cause and a masked example; the last two may be null.
        section: file or part of the mapping.
    """
    some = F.slice(F.array_sort(F.collect_set("example")), 1, EXAMPLES)
    counted = found.groupBy("rule", "cause").agg(F.count("*").alias("rows"), some.alias("examples")).collect()
    rows: Counter[str] = Counter()
    causes: dict[str, dict[str, int]] = defaultdict(dict)
    examples: dict[str, set[str]] = defaultdict(set)
    for row in counted:
        rows[row["rule"]] += row["rows"]
        examples[row["rule"]].update(row["examples"])
        if row["cause"] is not None:
            causes[row["rule"]][row["cause"]] = row["rows"]
    return [
        rule_finding(section, rule, rows[rule], tuple(sorted(examples[rule])[:EXAMPLES]), causes[rule])
        for rule in sorted(rows)
    ]
