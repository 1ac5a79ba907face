"""The quarantine table: its rows of one table and run, and the mark of the rows that were replayed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas.contracts import table_contract
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.replacing import replace_cells
from zigong.lakehouse.staging import staged
from zigong.lakehouse.tables import arrow_pinned, latest_version, open_pinned, published_version

QUARANTINE, ROW = "quarantine", "_row"


@dataclass(frozen=True, kw_only=True)
class QuarantineCount:
    """Quarantined rows of one table, run and rule.

    Attributes:
        rows: number of rows.
        replayed: how many of them have been replayed since.
        newest: when the last of them was quarantined.
    """

    table: str
    run_id: str
    rule: str
    rows: int
    replayed: int
    newest: datetime


def refused_rows(paths: LakehousePaths) -> list[QuarantineCount]:
    """Counts of quarantined rows by table, run and rule, newest first; payloads are not read."""
    version = published_version(paths, QUARANTINE)
    if version is None:
        return []
    columns = ["table_name", "run_id", "reasons", "quarantined_at", "replayed_by"]
    found = arrow_pinned(paths, QUARANTINE, version, columns=columns).to_pandas().explode("reasons")
    groups = found.groupby(["table_name", "run_id", "reasons"])
    rows = groups.agg(rows=("reasons", "size"), replayed=("replayed_by", "count"), newest=("quarantined_at", "max"))
    listed = [
        QuarantineCount(
            table=table, run_id=run_id, rule=rule, rows=int(row.rows), replayed=int(row.replayed), newest=row.newest
        )
        for (table, run_id, rule), row in rows.iterrows()
    ]
    return sorted(listed, key=lambda item: (-item.newest.timestamp(), item.table, item.rule))


def unreplayed_rows(spark: SparkSession, paths: LakehousePaths, table: str, run_id: str) -> DataFrame:
    """The quarantined rows of one run that have not been replayed, with ``_row``, a digest of their content."""
    return _of_run(spark, paths, table, run_id).where("replayed_by IS NULL")


def mark_replayed(
    spark: SparkSession, paths: LakehousePaths, table: str, run_id: str, settled: DataFrame, *, by: str
) -> None:
    """Sets ``replayed_by`` of rows that were replayed, in one commit that replaces the rows of that table and run.

    Args:
        settled: column ``_row``, as returned by ``unreplayed_rows``.
        by: id of the run that replayed them.
    """
    contract = table_contract(QUARANTINE)
    entered = settled.select(ROW, F.lit(by).alias("_by")).distinct()
    marked = _of_run(spark, paths, table, run_id).join(entered, ROW, "left")
    rows = marked.withColumn("replayed_by", F.coalesce("replayed_by", "_by")).select(*contract.column_names)
    with staged(paths, QUARANTINE, run_id=by, token=0) as stage:
        stage.write(rows, "rows")
        where = f"table_name = '{table}' AND run_id = '{run_id}'"
        metadata = {"run_id": by, "step": "replay_quarantine"}
        replace_cells(spark, stage, stage.files("rows"), cells=where, metadata=metadata)


def with_former_replays(refused: DataFrame, paths: LakehousePaths, table: str) -> DataFrame:
    """Refused rows with ``replayed_by`` of an equal row of the table that was replayed before.

    A delivery that brings a row again, after somebody has corrected it, is refused again; the mark names the replay to
    repeat.

    Args:
        refused: rows in the columns of quarantine.
        paths: the lakehouse.
        table: the table they were refused for.
    """
    version = published_version(paths, QUARANTINE)
    if version is None:
        return refused
    held = open_pinned(refused.sparkSession, paths, QUARANTINE, version).where(F.col("table_name") == table)
    former = held.where("replayed_by IS NOT NULL").select(_digest(), F.col("replayed_by").alias("_by"))
    newest = former.groupBy(ROW).agg(F.max("_by").alias("_by"))  # ids of replays end in their time
    return (
        refused.withColumn(ROW, _digest())
        .join(newest, ROW, "left")
        .drop("replayed_by", ROW)
        .withColumnRenamed("_by", "replayed_by")
    )


def repeated_rows(spark: SparkSession, paths: LakehousePaths, table: str, run_id: str) -> dict[str, DataFrame]:
    """The rows of a run that were refused again after an earlier replay, by the id of that replay."""
    if published_version(paths, QUARANTINE) is None:
        return {}
    again = _of_run(spark, paths, table, run_id).where("replayed_by IS NOT NULL")
    replays = [row["replayed_by"] for row in again.select("replayed_by").distinct().collect()]
    return {by: again.where(F.col("replayed_by") == by) for by in sorted(replays)}


def _of_run(spark: SparkSession, paths: LakehousePaths, table: str, run_id: str) -> DataFrame:
    opened = open_pinned(spark, paths, QUARANTINE, latest_version(paths, QUARANTINE))
    ours = opened.where((F.col("table_name") == table) & (F.col("run_id") == run_id))
    return ours.withColumn(ROW, _digest())


def _digest() -> Column:
    """The digest of a quarantined row's content."""
    return F.sha2(F.concat_ws("|", "payload", F.to_json("reasons")), 256).alias(ROW)
