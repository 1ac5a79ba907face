"""A digest of a table's rows that does not depend on their order."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from zigong.lakehouse.row_text import row_text


@dataclass(frozen=True, kw_only=True)
class RowsDigest:
    """A fingerprint of a multiset of rows.

    Attributes:
        rows: number of rows.
        digest: 16 hexadecimal digits; independent of the order of rows, and duplicate rows count.
        columns: names and types of the digested columns, sorted by name.
    """

    rows: int
    digest: str
    columns: tuple[tuple[str, str], ...]


def rows_digest(frame: DataFrame) -> RowsDigest:
    """Digests all columns of a frame: the sum, modulo 2**64, of the 64-bit hashes of its rows.

    Spark reads the rows once, in parallel; the driver receives two numbers. The order of map entries is ignored;
    timestamps are compared to the microsecond and numbers exactly.
    """
    columns = tuple(sorted(frame.dtypes))
    hashed = F.xxhash64(row_text(columns)).cast("decimal(38,0)")
    (found,) = frame.agg(F.count("*").alias("rows"), F.sum(hashed).alias("sum")).collect()
    return RowsDigest(rows=found["rows"], digest=f"{int(found['sum'] or 0) % 2**64:016x}", columns=columns)
