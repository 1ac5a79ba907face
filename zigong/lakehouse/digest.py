"""A digest of a table's rows that does not depend on their order."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from zigong.lakehouse.row_text import row_text


@dataclass(frozen=True, kw_only=True)
class RowsDigest:
    """What tells two sets of rows apart.

    Attributes:
        rows: how many.
        digest: 16 hexadecimal digits; equal for equal rows in any order, and each row counts as often as it stands.
        columns: names and types of what was digested, sorted by name.
    """

    rows: int
    digest: str
    columns: tuple[tuple[str, str], ...]


def rows_digest(frame: DataFrame) -> RowsDigest:
    """Digests all columns of a frame: the sum, modulo 2**64, of the 64-bit hashes of its rows.

    Spark reads the rows once and in parts; the driver gets two numbers. Map entries have no order; instants count to
    the microsecond, and numbers to their last bit.
    """
    columns = tuple(sorted(frame.dtypes))
    hashed = F.xxhash64(row_text(columns)).cast("decimal(38,0)")
    (found,) = frame.agg(F.count("*").alias("rows"), F.sum(hashed).alias("sum")).collect()
    return RowsDigest(rows=found["rows"], digest=f"{int(found['sum'] or 0) % 2**64:016x}", columns=columns)
