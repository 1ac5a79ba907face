"""What an ingest that replaces all rows of a source changes in what was published of it."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from schemas.contracts import table_contract
from zigong.lakehouse.row_text import row_text

_KEY, _BEFORE, _AFTER = "key", "before", "after"


@dataclass(frozen=True, kw_only=True)
class Rewritten:
    """Rows of a table by the key of its contract, before and after a commit.

    Attributes:
        published: number of rows before.
        added: keys that are new.
        changed: keys whose row has another content.
        removed: keys that are gone.
    """

    published: int
    added: int
    changed: int
    removed: int

    def warning(self, table: str) -> str | None:
        """What to tell about published rows that are not what they were; None if all stand as they did."""
        if not self.changed and not self.removed:
            return None
        return (
            f"table {table}: this ingest without dates changes {self.changed:,} and removes {self.removed:,} of "
            f"{self.published:,} published rows: histories of the past change; a run of dates adds "
            "versions instead"
        )


def rewritten(before: DataFrame, after: DataFrame, table: str) -> Rewritten:
    """Compares two versions of the same cells; 16 bytes of each row are shuffled.

    Args:
        before: the rows that were published.
        after: the rows that are published now.
        table: name of their contract.
    """
    contract = table_contract(table)
    key = F.xxhash64(*contract.key).alias(_KEY)
    content = F.xxhash64(row_text((column.name, column.type) for column in contract.columns))
    nothing = F.lit(None).cast("bigint")
    old = before.select(key, content.alias(_BEFORE), nothing.alias(_AFTER))
    new = after.select(key, nothing.alias(_BEFORE), content.alias(_AFTER))
    rows = old.unionByName(new).groupBy(_KEY).agg(F.max(_BEFORE).alias(_BEFORE), F.max(_AFTER).alias(_AFTER))
    (found,) = rows.agg(
        F.count(_BEFORE).alias("published"),
        F.count_if(F.col(_BEFORE).isNull()).alias("added"),
        F.count_if(F.col(_BEFORE) != F.col(_AFTER)).alias("changed"),
        F.count_if(F.col(_AFTER).isNull()).alias("removed"),
    ).collect()
    return Rewritten(**found.asDict())
