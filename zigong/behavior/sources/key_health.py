"""Whether keys identify: findings on placeholders, on rounded numbers, and on keys that many rows share."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from zigong.behavior.sources.findings import SourceFinding
from zigong.behavior.sources.identifiers import filled_key

LARGE_SHARE, MANY_KEYS = 0.05, 20  # a key that holds more of the rows, where there are at least so many keys
SHARED_PERSON, FEW_CLIENTS = 1 / 3, 3  # a person of more of the clients, where there are fewer than MANY_KEYS
_OF_EVENTS = {"user_id": "user_key", "loan_id": "loan_key"}


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


def shared_key_findings(events: DataFrame, profiles: DataFrame) -> list[SourceFinding]:
    """Keys that hold a large share of the rows, by their share and never by their value; one query.

    Args:
        events: rows of behavior_events.
        profiles: rows of user_profiles.
    """
    keys = F.array(*(F.struct(F.lit(key).alias("key"), F.col(name).alias("id")) for name, key in _OF_EVENTS.items()))
    of_events = events.select(F.explode(keys).alias("keyed")).select("keyed.*").where("id IS NOT NULL")
    persons = profiles.select(
        F.lit("person_key").alias("key"), F.coalesce("person_id", "user_id").alias("id"), "user_id"
    )
    sizes = (
        of_events.unionByName(persons.distinct().drop("user_id")).groupBy("key", "id").agg(F.count("*").alias("size"))
    )
    totals = sizes.groupBy("key").agg(F.sum("size").alias("total"))
    found = (
        sizes.join(F.broadcast(totals), "key")
        .groupBy("key", "total")
        .agg(
            F.max(F.col("size") / F.col("total")).alias("largest"),
            F.count("*").alias("keys"),
            F.count_if(F.col("size") > LARGE_SHARE * F.col("total")).alias("large"),
        )
    )
    return [finding for row in found.orderBy("key").collect() if (finding := _shared_key(**row.asDict())) is not None]


def _shared_key(*, key: str, total: int, largest: float, keys: int, large: int) -> SourceFinding | None:
    if key == "person_key":
        many = total >= MANY_KEYS or (largest > SHARED_PERSON and largest * total >= FEW_CLIENTS)
        return _shared("profiles", key, largest, large, "clients") if large and many else None
    return _shared("events", key, largest, large, "rows") if large and keys >= MANY_KEYS else None


def _shared(section: str, key: str, share: float, keys: int, of: str) -> SourceFinding:
    others = f"; {keys} hold more than {LARGE_SHARE:.0%} each" if keys > 1 else ""
    return SourceFinding(
        section=section,
        column=key,
        problem=f"one {key} holds {share:.0%} of the {of}{others}",
        action="look for a word that means nobody and add it to null_values, or for ids that a spreadsheet rounded",
        blocking=False,
    )
