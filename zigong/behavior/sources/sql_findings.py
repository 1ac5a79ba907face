"""Findings about the SQL of a mapping: values it loses, times it cannot place, columns it cannot compute."""

from __future__ import annotations

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from schemas.mappings import SourceMapping
from zigong.behavior.sources.causes import HINTS, THOUSANDS
from zigong.behavior.sources.findings import SourceFinding
from zigong.behavior.sources.query import stated_rows
from zigong.behavior.sources.raw import RawTables
from zigong.behavior.sources.sql_losses import Converted, doubtful_fractions, doubtful_local_times, emptied_texts
from zigong.errors import DataError

UNUSUAL_SHARE = 0.01  # of the texts of a conversion


def conversion_findings(
    spark: SparkSession, raw: RawTables, mapping: SourceMapping, timezone: str
) -> list[SourceFinding]:
    """Texts that the SQL turns into null or a thousandth, and local times that name two instants or none."""
    queries = [stated_rows(spark, raw, mapping, section, timezone) for section in ("events", "profiles")]
    findings: list[SourceFinding] = []
    for measured, finding in (
        (emptied_texts, _emptied),
        (doubtful_fractions, _shortened),
        (doubtful_local_times, _doubtful),
    ):
        found = [item for query in queries for item in measured(spark, query)]
        findings += map(finding, {(item.columns, item.sql): item for item in found}.values())
    return findings


def require_few_emptied(spark: SparkSession, raw: RawTables, mapping: SourceMapping, timezone: str) -> int:
    """The number of texts that the SQL of the events turns into null, or into a thousandth of them.

    Raises:
        DataError: a conversion loses more than the mapping's ``max_refused_share`` of its texts.
    """
    query = stated_rows(spark, raw, mapping, "events", timezone)
    emptied = [(item, _emptied(item)) for item in emptied_texts(spark, query)]
    shortened = [(item, _shortened(item)) for item in doubtful_fractions(spark, query) if item.of_cents]
    for item, finding in (*emptied, *shortened):
        if item.lost > mapping.max_refused_share * item.rows:
            raise DataError(
                f"source mapping {mapping.origin}: {finding.column}: {finding.problem}; "
                f"the mapping allows a share of {mapping.max_refused_share:g}",
                action=f"{finding.action}; `zigong source check` shows all; nothing was published",
            )
    return sum(item.lost for item, _ in (*emptied, *shortened))


def failing_columns(
    spark: SparkSession, raw: RawTables, mapping: SourceMapping, timezone: str, section: str
) -> tuple[str, ...]:
    """The columns of a section whose SQL stops on some row; none if every column does, as a filter or a join would."""
    query = stated_rows(spark, raw, mapping, section, timezone)
    failing = []
    for name in query.columns:
        try:
            query.agg(F.max(F.length(F.to_json(F.struct(name))))).collect()
        except (PySparkException, Py4JJavaError):
            failing.append(name)
    return tuple(failing) if len(failing) < len(query.columns) else ()


def _emptied(item: Converted) -> SourceFinding:
    return SourceFinding(
        section="SQL",
        column=", ".join(item.columns),
        problem=f"{item.lost:,} of {item.rows:,} rows have a text and no value: {item.sql}",
        rows=item.lost,
        action="correct the conversion: take out separators of thousands first, name the right pattern; list texts "
        "that mean an empty cell in null_values of the file",
        blocking=item.lost > UNUSUAL_SHARE * item.rows,
        lossy=True,
    )


def _shortened(item: Converted) -> SourceFinding:
    return SourceFinding(
        section="SQL",
        column=", ".join(item.columns),
        problem=f"{THOUSANDS}: {item.lost:,} of {item.rows:,} fractions have exactly three digits, and "
        f"become less than a thousand: {item.sql}",
        rows=item.lost,
        action=HINTS[THOUSANDS] if item.of_cents else f"none if they are thousandths; otherwise {HINTS[THOUSANDS]}",
        blocking=item.of_cents and item.lost > UNUSUAL_SHARE * item.rows,
        lossy=True,
    )


def _doubtful(item: Converted) -> SourceFinding:
    return SourceFinding(
        section="SQL",
        column=", ".join(item.columns),
        problem=f"{item.lost:,} of {item.rows:,} local times lie in an hour that the clocks show twice or never",
        rows=item.lost,
        action="have the times delivered with an offset: of a repeated hour the earlier one is taken, and a time in a "
        "skipped hour is moved",
        blocking=False,
        lossy=True,
    )
