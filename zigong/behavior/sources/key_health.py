"""Whether keys identify: findings on placeholders, on rounded numbers, and on keys that many rows share."""

from __future__ import annotations

from collections.abc import Iterator

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from schemas.mappings import SourceFile
from zigong.behavior.sources.findings import SourceFinding
from zigong.behavior.sources.identifiers import NUMBER_STAND_INS, STAND_INS, filled_key

LARGE_SHARE, MANY_KEYS = 0.05, 20  # a key that holds more of the rows, where there are at least so many keys
SHARED_PERSON, FEW_CLIENTS = 1 / 3, 3  # a person of more of the clients, where there are fewer than MANY_KEYS


def stand_in_findings(cells: DataFrame, file: SourceFile, section: str) -> list[SourceFinding]:
    """Fields of identifier columns that stand for a missing value; a number only if more than one row has it.

    Args:
        cells: the raw fields of the file.
        section: of the findings.
    """
    fields = [
        F.struct(F.lit(column.name).alias("column"), F.col(f"`{column.name}`").cast("string").alias("cell"))
        for column in file.columns
        if column.identifier
    ]
    if not fields:
        return []
    found = cells.select(F.explode(F.array(*fields)).alias("field")).select("field.*")
    known = found.where(F.lower("cell").isin(*STAND_INS, *NUMBER_STAND_INS))
    counted = known.groupBy("column", "cell").agg(F.count("*").alias("rows")).orderBy("column", "cell").collect()
    return [
        SourceFinding(
            section=section,
            column=row["column"],
            problem=f"holds `{row['cell']}`, a placeholder and not an id: all its rows would share one key",
            rows=row["rows"],
            action=f'add "{row["cell"]}" to null_values of the file; nothing if it is the id of one client',
            blocking=False,
        )
        for row in counted
        if row["rows"] > 1 or row["cell"] not in NUMBER_STAND_INS
    ]


def empty_key_findings(stated: DataFrame, section: str) -> list[SourceFinding]:
    """Keys that the SQL yields and that identify nobody: ``{}``, separators, blanks, or a digest of these.

    Args:
        stated: the rows of the section as the SQL yields them.
    """
    keys = [name for name in stated.columns if name.endswith("_key")]
    empty = {name: F.col(name).isNotNull() & filled_key(F.col(name)).isNull() for name in keys}
    counts = [F.count_if(mark).alias(name) for name, mark in empty.items()]
    if "person_key" in empty:
        counts.append(F.count_distinct(F.when(empty["person_key"], F.col("user_key"))).alias("clients"))
    row = stated.agg(F.count_distinct("user_key").alias("users"), *counts).collect()[0]
    findings = []
    for name in (name for name in keys if row[name]):
        problem = "identifies nobody (`{}`, separators, blanks, or a digest of these) and counts as null"
        if name == "person_key":
            problem = f"one person_key holds {row['clients'] / max(row['users'], 1):.0%} of the clients: it {problem}"
        findings.append(
            SourceFinding(
                section=section,
                column=name,
                problem=problem,
                rows=row[name],
                action=f"let the SQL yield null where all parts of {name} are empty: nullif(to_json(...), '{{}}')",
                blocking=False,
            )
        )
    return findings


def shared_key_findings(events: DataFrame, profiles: DataFrame) -> Iterator[SourceFinding]:
    """Keys that hold a large share of the rows, by their share and never by their value.

    Args:
        events: rows of behavior_events.
        profiles: rows of user_profiles.
    """
    for column, name in (("user_id", "user_key"), ("loan_id", "loan_key")):
        sizes = events.where(F.col(column).isNotNull()).groupBy(column).agg(F.count("*").alias("size"))
        largest, keys, large = _shares(sizes, sizes.agg(F.sum("size").alias("total")))
        if keys >= MANY_KEYS and large:
            yield _shared("events", name, largest, large, "rows")
    users = profiles.agg(F.count_distinct("user_id").alias("total"))
    persons = profiles.where("person_id IS NOT NULL").groupBy("person_id")
    largest, _, large = _shares(persons.agg(F.count_distinct("user_id").alias("size")), users)
    clients = users.collect()[0]["total"]
    if large and (clients >= MANY_KEYS or (largest > SHARED_PERSON and largest * clients >= FEW_CLIENTS)):
        yield _shared("profiles", "person_key", largest, large, "clients")


def _shares(sizes: DataFrame, total: DataFrame) -> tuple[float, int, int]:
    """The largest share of one key, the number of keys, and how many hold more than ``LARGE_SHARE``.

    Args:
        sizes: the size of each key.
        total: one row, what the sizes are shares of.
    """
    found = sizes.crossJoin(F.broadcast(total)).agg(
        F.coalesce(F.max(F.col("size") / F.col("total")), F.lit(0.0)).alias("largest"),
        F.count("*").alias("keys"),
        F.count_if(F.col("size") > LARGE_SHARE * F.col("total")).alias("large"),
    )
    row = found.collect()[0]
    return row["largest"], row["keys"], row["large"]


def _shared(section: str, key: str, share: float, keys: int, of: str) -> SourceFinding:
    others = f"; {keys} hold more than {LARGE_SHARE:.0%} each" if keys > 1 else ""
    return SourceFinding(
        section=section,
        column=key,
        problem=f"one {key} holds {share:.0%} of the {of}{others}",
        action="look for a word that means nobody and add it to null_values, or for ids that a spreadsheet rounded",
        blocking=False,
    )
