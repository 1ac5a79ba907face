"""Erases persons from every table; the contracts define which tables hold persons and how a row leads to one.

The order makes an interruption harmless: tombstones first, then tables that lead to a person through another table,
then those with user_id; so a second call finds what the first left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import reduce
from hashlib import sha256

import pyarrow as pa
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas.contracts import PersonLink, TableContract, table_contract, table_names
from zigong.errors import DataError
from zigong.lakehouse.commits import make_commit, replace_rows
from zigong.lakehouse.erasures import Erasure
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.replacing import delete_rows
from zigong.lakehouse.tables import latest_version, open_pinned, published_tables

_ORDER = ("text", "link", "user_id")
_KEY, _DIGEST = "key", "_digest"
_MARK = "zigong.erasure"  # property of a table: the newest erasure


def tombstone(user_id: str) -> str:
    """The SHA-256 of the pseudonym: all that is kept of an erased user."""
    return sha256(user_id.encode()).hexdigest()


def write_tombstones(paths: LakehousePaths, user_ids: Sequence[str], erasure: Erasure) -> None:
    """Writes the tombstones of an erasure; repeating it changes nothing."""
    requested_at = datetime.fromisoformat(erasure.requested_at)
    rows = [
        {"erasure_id": erasure.erasure_id, "tombstone": tombstone(user_id), "requested_at": requested_at}
        for user_id in sorted(user_ids)
    ]
    where = f"erasure_id = '{erasure.erasure_id}'"
    replace_rows(paths, "erasure_requests", rows, where=where, metadata={"erasure_id": erasure.erasure_id})


def person_tables(paths: LakehousePaths) -> tuple[TableContract, ...]:
    """The published tables that hold persons, in the order of erasure.

    Raises:
        DataError: a table has no contract, so it is unknown whether it holds persons.
    """
    published = published_tables(paths)
    unknown = sorted(set(published) - set(table_names()))
    if unknown:
        raise DataError(
            f"tables without a contract: {', '.join(unknown)}; expected one of {', '.join(table_names())}",
            action="write a contract that declares how its rows lead to a person, or remove the table",
        )
    held = [contract for name in published if (contract := table_contract(name)).person.kind != "nobody"]
    return tuple(sorted(held, key=lambda contract: (_ORDER.index(contract.person.kind), contract.name)))


def erased_users(spark: SparkSession, user_ids: Sequence[str]) -> DataFrame:
    """Pseudonyms as a frame with the column user_id."""
    return spark.createDataFrame(pa.table({"user_id": pa.array(sorted(user_ids), pa.string())}))


def held_users(spark: SparkSession, paths: LakehousePaths, erased: DataFrame) -> DataFrame:
    """Those of the users of whom a table or a text in quarantine holds a row; one column, ``key``."""
    wanted, found = F.broadcast(erased.select(F.col("user_id").alias(_KEY))), erased.limit(0).toDF(_KEY)
    for contract in person_tables(paths):
        rows = _newest(spark, paths, contract.name)
        if contract.person.kind == "user_id":
            found = found.unionByName(rows.select(F.col("user_id").alias(_KEY)).join(wanted, _KEY, "left_semi"))
        elif contract.person.kind == "text":
            found = found.unionByName(
                _keys_in(rows, contract.person.column).select(_KEY).join(wanted, _KEY, "left_semi")
            )
    return found.distinct()


def stop_writers(paths: LakehousePaths, erasure_id: str) -> None:
    """Makes every commit fail that has begun on a table of persons and not ended: its rows were read before.

    A commit of metadata conflicts with every other one. Writers try again, and then find the record of the erasure.
    """
    for contract in person_tables(paths):

        def mark(table: str = contract.name) -> None:
            opened = DeltaTable(paths.table(table))
            opened.alter.set_table_properties({_MARK: erasure_id}, raise_if_not_exists=False)

        if DeltaTable(paths.table(contract.name)).metadata().configuration.get(_MARK) != erasure_id:
            make_commit(mark, table=contract.name, cells=f"erasure {erasure_id}")


def are_held(spark: SparkSession, paths: LakehousePaths, erased: DataFrame) -> bool:
    """Whether a table with user_id holds any of the users."""
    return any(
        bool(_newest(spark, paths, contract.name).join(F.broadcast(erased), "user_id", "left_semi").head(1))
        for contract in person_tables(paths)
        if contract.person.kind == "user_id"
    )


def pseudonyms_of(spark: SparkSession, paths: LakehousePaths, erased: DataFrame) -> DataFrame:
    """Every pseudonym in rows of erased users that occurs in no other user's row; one column, ``key``.

    So a person with several accounts, or a loan of two clients, is kept if only one of the users is erased.
    """
    own, others = [erased.select(F.col("user_id").alias(_KEY))], []
    for contract in person_tables(paths):
        columns = [column.name for column in contract.columns if column.classification == "pseudonym"]
        if contract.person.kind == "user_id":
            rows = _newest(spark, paths, contract.name)
            own.append(_exploded(rows.join(F.broadcast(erased), "user_id", "left_semi"), columns))
            others.append(_exploded(rows.join(F.broadcast(erased), "user_id", "left_anti"), columns))
    mine = reduce(DataFrame.unionByName, own).distinct().localCheckpoint()
    if not others:
        return mine
    shared = reduce(DataFrame.unionByName, others).join(F.broadcast(mine), _KEY, "left_semi").distinct()
    return mine.join(shared, _KEY, "left_anti").localCheckpoint()


def erase_tables(
    spark: SparkSession, paths: LakehousePaths, erased: DataFrame, pseudonyms: Sequence[str], erasure_id: str
) -> Iterator[tuple[str, int]]:
    """Deletes the rows of erased users from the newest version of every table; yields each table and its deleted rows.

    Args:
        spark: the session.
        paths: the lakehouse.
        erased: column user_id.
        pseudonyms: those of the users and of their loans and samples, which may occur in texts.
        erasure_id: recorded in the commits.
    """
    keys = spark.createDataFrame(pa.table({_KEY: pa.array(pseudonyms, pa.string())}))
    for contract in person_tables(paths):
        condition, source = _rows_to_delete(spark, paths, contract, erased, keys)
        yield contract.name, _delete(spark, paths, contract.name, condition, source, erasure_id)


def vacuum_tables(paths: LakehousePaths) -> dict[str, int]:
    """Removes every file that the newest version of a table does not need; returns the versions that remain readable.

    Neither age nor a kept run protects a file: older versions contain erased users.
    """
    versions = {}
    for contract in person_tables(paths):
        opened = DeltaTable(paths.table(contract.name))
        opened.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False, full=True)
        versions[contract.name] = latest_version(paths, contract.name)
    return versions


def _rows_to_delete(
    spark: SparkSession, paths: LakehousePaths, contract: TableContract, erased: DataFrame, keys: DataFrame
) -> tuple[str, DataFrame]:
    """A merge condition between the table (t) and a source (s) without duplicates, and that source."""
    link: PersonLink = contract.person
    if link.kind == "user_id":
        return f"t.user_id = s.{_KEY}", erased.select(F.col("user_id").alias(_KEY))
    if link.kind == "link":
        members = _newest(spark, paths, link.table).join(F.broadcast(erased), "user_id", "left_semi")
        return f"t.`{link.column}` = s.{_KEY}", members.select(F.col(link.column).alias(_KEY)).distinct()
    words = _keys_in(_newest(spark, paths, contract.name), link.column)
    found = words.join(F.broadcast(keys), _KEY, "left_semi").select(F.col(_DIGEST).alias(_KEY)).distinct()
    return f"sha2(t.`{link.column}`, 256) = s.{_KEY}", found


def _keys_in(rows: DataFrame, column: str) -> DataFrame:
    """The words in a column of texts that have the form of a pseudonym, with the digest of their text."""
    words = F.regexp_extract_all(column, F.lit("[0-9a-f]{64}"), F.lit(0))
    return rows.select(F.sha2(column, 256).alias(_DIGEST), F.explode(words).alias(_KEY))


def _delete(
    spark: SparkSession, paths: LakehousePaths, table: str, condition: str, source: DataFrame, erasure_id: str
) -> int:
    """One commit, or none where nothing is to be deleted."""
    known, on = F.broadcast(source.localCheckpoint().alias("s")), F.expr(condition)
    return delete_rows(
        spark,
        paths,
        table,
        matching=lambda rows: rows.alias("t").join(known, on, "left_semi"),
        staying=lambda rows: rows.alias("t").join(known, on, "left_anti"),
        by=erasure_id,
        metadata={"erasure_id": erasure_id},
    )


def _exploded(rows: DataFrame, columns: Sequence[str]) -> DataFrame:
    return rows.select(F.explode(F.array(*columns)).alias(_KEY)).where(F.col(_KEY).isNotNull()).distinct()


def _newest(spark: SparkSession, paths: LakehousePaths, table: str) -> DataFrame:
    return open_pinned(spark, paths, table, latest_version(paths, table))
