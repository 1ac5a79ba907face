"""Re-evaluates quarantined rows: parses their payloads, applies the current rules, and selects the rows to publish."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.window import Window

from schemas.contracts import TableContract
from zigong.lakehouse.replayed import ROW
from zigong.lakehouse.row_text import EXACT, row_text
from zigong.quality.rows import REASONS, broken_rules

FATE, _CONTENT, _STANDING, _LOST = "_fate", "_content", "_standing", "_lost"
FATES = ("enters", "still_broken", "published_already", "key_is_taken")
ENTERS, STILL_BROKEN, PUBLISHED_ALREADY, KEY_TAKEN = FATES


@dataclass(frozen=True, kw_only=True)
class Return:
    """Quarantined rows by their fate.

    Attributes:
        rows: columns of the table, ``_row`` (id of the quarantined row) and ``_fate``.
        counts: rows by fate: ``enters``, ``still_broken``, ``published_already`` (the table has the same row, or an
            equal row enters), ``key_is_taken`` (another row has the key).
    """

    rows: DataFrame
    counts: Mapping[str, int]

    @property
    def entering(self) -> DataFrame:
        """Rows to publish, in the columns of the table."""
        return self.rows.where(F.col(FATE) == ENTERS).drop(ROW, FATE)

    @property
    def settled(self) -> DataFrame:
        """``_row`` of the quarantined rows that are in the table after ``entering`` is published."""
        return self.rows.where(F.col(FATE).isin(ENTERS, PUBLISHED_ALREADY)).select(ROW)


def read_back(quarantined: DataFrame, contract: TableContract) -> DataFrame:
    """Parses the payloads as rows with the columns of the table; ``_row`` is kept.

    ``_lost`` names columns whose value did not fit and is not in the payload: those of reasons such as bad_cast:amount.

    Args:
        quarantined: columns ``_row``, ``reasons`` and ``payload``, of one table.
    """
    parsed = F.from_json("payload", contract.ddl, dict(EXACT)).alias("parsed")
    lost = F.transform(
        F.filter("reasons", lambda reason: F.contains(reason, F.lit(":"))),
        lambda reason: F.substring_index(reason, ":", -1),
    )
    return quarantined.select(ROW, lost.alias(_LOST), parsed).select(ROW, _LOST, "parsed.*")


def returning(
    quarantined: DataFrame, published: DataFrame, contract: TableContract, corrections: Mapping[str, str] | None = None
) -> Return:
    """Evaluates quarantined rows by the current rules, after corrections; no row enters twice.

    A row whose value is not in its payload stays broken until that column is corrected.

    Args:
        quarantined: columns ``_row``, ``reasons`` and ``payload``, of one table.
        published: the current table.
        corrections: by column, the corrected value as Spark SQL over the columns of the row.
    """
    corrected = read_back(quarantined, contract).withColumns(
        {column: F.expr(sql).cast(_types(contract)[column]) for column, sql in (corrections or {}).items()}
    )
    content = row_text((column.name, column.type) for column in contract.columns)
    given = F.array(*(F.lit(column) for column in corrections or {})).cast("array<string>")
    broken = F.concat(broken_rules(contract), F.array_except(_LOST, given))
    evaluated = corrected.withColumn(REASONS, broken).withColumn(_CONTENT, content)
    standing = published.select(*contract.key, content.alias(_STANDING))
    first = F.row_number().over(Window.partitionBy(*contract.key, F.size(REASONS) == 0).orderBy(_CONTENT, ROW))
    same = F.first(_CONTENT).over(Window.partitionBy(*contract.key, F.size(REASONS) == 0).orderBy(_CONTENT, ROW))
    fate = (
        F.when(F.size(REASONS) > 0, STILL_BROKEN)
        .when(F.col(_STANDING) == F.col(_CONTENT), PUBLISHED_ALREADY)
        .when(F.col(_STANDING).isNotNull(), KEY_TAKEN)
        .when(first == 1, ENTERS)
        .otherwise(F.when(same == F.col(_CONTENT), PUBLISHED_ALREADY).otherwise(KEY_TAKEN))
    )
    rows = (
        evaluated.join(standing, list(contract.key), "left")
        .select(ROW, *contract.column_names, fate.alias(FATE))
        .localCheckpoint()
    )
    counts = {row[FATE]: row["count"] for row in rows.groupBy(FATE).count().collect()}
    return Return(rows=rows, counts={name: counts.get(name, 0) for name in FATES})


def _types(contract: TableContract) -> dict[str, str]:
    return {column.name: column.type for column in contract.columns}
