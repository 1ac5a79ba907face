"""One erasure from the request to the record; repeated with the same users, it resumes where it stopped."""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas.mappings import load_mapping
from zigong.dataset.samples import UNLABELLED
from zigong.erasure import files as erase_files
from zigong.erasure import tables as erase_tables
from zigong.erasure.traces import Traces
from zigong.erasure.trained import trained_models
from zigong.files.atomic import write_json, write_text
from zigong.lakehouse.audit_chain import Fact
from zigong.lakehouse.audit_log import append_facts
from zigong.lakehouse.erasures import AffectedModel, Erasure, erasures, erasures_folder
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import latest_version, open_pinned, published_tables
from zigong.runs.run import Run


@dataclass(frozen=True, kw_only=True)
class Request:
    """Who is to be erased.

    Attributes:
        user_ids: pseudonyms, without duplicates.
        raw_ids: the raw ids they were computed from; empty if pseudonyms were given.
        digest: maps a raw id to its pseudonym under the key of the lakehouse.
        retrain_days: number of days within which models trained on them have to be replaced.
    """

    user_ids: tuple[str, ...]
    digest: Callable[[str], str] = field(repr=False)
    raw_ids: tuple[str, ...] = field(default=(), repr=False)
    retrain_days: int


def request_for(ids: Sequence[str], *, key: bytes, pseudonyms: bool, retrain_days: int) -> Request:
    """A request for raw ids, or for pseudonyms if ``pseudonyms`` is true."""

    def digest(raw_id: str) -> str:
        return hmac.digest(key, raw_id.encode(), "sha256").hex()

    given = tuple(dict.fromkeys(ids))
    return Request(
        user_ids=given if pseudonyms else tuple(digest(raw_id) for raw_id in given),
        raw_ids=() if pseudonyms else given,
        digest=digest,
        retrain_days=retrain_days,
    )


def erase_users(
    spark: SparkSession, paths: LakehousePaths, request: Request, runs: Sequence[Run]
) -> tuple[Erasure, Traces]:
    """Erases the users of a request from the complete lakehouse.

    Jobs may run at the same time. From the record on they publish nothing that they read before, and commits that have
    begun fail; they end in a conflict, and their runs go on once the erasure has ended.

    Args:
        spark: the session.
        paths: the lakehouse.
        request: the users.
        runs: all runs of the lakehouse, of any version.

    Returns:
        The record, and all keys that identify the users, for the verification.
    """
    users = erase_tables.erased_users(spark, request.user_ids)
    record = _opened(spark, paths, request, users, runs)
    erase_tables.write_tombstones(paths, request.user_ids, record)
    erase_tables.stop_writers(paths, record.erasure_id)
    traces = _traces(spark, paths, request, users, record)
    for table, rows in erase_tables.erase_tables(spark, paths, users, sorted(traces.pseudonyms), record.erasure_id):
        record = _saved(paths, replace(record, rows={**record.rows, table: record.rows.get(table, 0) + rows}))
    if not record.completed_at:  # otherwise the users have not reappeared, and later versions may be kept
        record = _saved(paths, replace(record, versions=erase_tables.vacuum_tables(paths)))
    files = erase_files.erase_staging(paths)
    files += erase_files.erase_landing(paths, request.user_ids, identifiers=_identifiers(), digest=request.digest)
    files += erase_files.erase_artefacts(paths, traces)
    _keys_file(paths, record).unlink(missing_ok=True)
    ended = record.completed_at or _now()
    done = _saved(paths, replace(record, completed_at=ended, files=dict(Counter(record.files) + files)))
    append_facts(paths, [_fact(done)])
    return done, traces


def _fact(record: Erasure) -> Fact:
    return Fact(
        action="erased",
        run_id=record.erasure_id,
        step="erase",
        table_name="erasure_requests",
        cells=f"erasure_id = '{record.erasure_id}'",
        rows_dropped=sum(record.rows.values()),
    )


def _traces(spark: SparkSession, paths: LakehousePaths, request: Request, users: DataFrame, record: Erasure) -> Traces:
    """All keys that identify the users; stored in a file until the erasure ends, since their rows are deleted first."""
    file = _keys_file(paths, record)
    known = set(file.read_text(encoding="utf-8").split()) if file.is_file() else set()
    found = {row[0] for row in erase_tables.pseudonyms_of(spark, paths, users).toLocalIterator()}
    keys = known | found | set(request.user_ids)
    for leftover in file.parent.glob(f".{file.name}.*"):
        leftover.unlink()  # left by a killed attempt: the verification would find the keys in it
    write_text(file, "\n".join(sorted(keys)))
    return Traces(pseudonyms=frozenset(keys), raw_ids=frozenset(request.raw_ids))


def _opened(
    spark: SparkSession, paths: LakehousePaths, request: Request, users: DataFrame, runs: Sequence[Run]
) -> Erasure:
    """The record of an earlier erasure of these users, or a new one, from which on older runs are refused."""
    digest = sha256("\n".join(sorted(map(erase_tables.tombstone, request.user_ids))).encode()).hexdigest()
    known = [item for item in erasures(paths.local()) if item.users_digest == digest]
    if known and not (known[-1].completed_at and erase_tables.are_held(spark, paths, users)):
        return known[-1]
    requested = datetime.now(UTC)
    record = Erasure(
        erasure_id=f"erase-{requested:%Y%m%dT%H%M%S}",
        requested_at=requested.isoformat(timespec="milliseconds"),
        users=len(request.user_ids),
        users_digest=digest,
        not_found=_not_found(spark, paths, request, users),
        models=_affected(
            spark, paths, users, runs, (requested + timedelta(days=request.retrain_days)).date().isoformat()
        ),
    )
    return _saved(paths, record)


def _not_found(spark: SparkSession, paths: LakehousePaths, request: Request, users: DataFrame) -> tuple[str, ...]:
    """Tombstones of the users of whom no table holds a row."""
    held = {row[0] for row in erase_tables.held_users(spark, paths, users).toLocalIterator()}
    return tuple(sorted(erase_tables.tombstone(user_id) for user_id in set(request.user_ids) - held))


def _affected(
    spark: SparkSession, paths: LakehousePaths, users: DataFrame, runs: Sequence[Run], retrain_by: str
) -> tuple[AffectedModel, ...]:
    """Models whose data contained an erased user; determined before anything is deleted."""
    published, found = published_tables(paths), list[AffectedModel]()

    def count(table: str, chosen: Column) -> int:
        return _users_among(_newest(spark, paths, table).where(chosen), users) if table in published else 0

    for models in filter(None, map(trained_models, runs)):
        first = models[0]  # models of one run have the same dataset and base
        ours = F.col("dataset_id") == first.dataset_id
        read = F.lit(True) if first.read_before is None else F.col("known_date") < F.lit(first.read_before)
        pretrained = count("behavior_events", read) if first.own_base else 0
        members = {False: ours & F.col("split").isin("train", UNLABELLED), True: ours}
        trained = {every: count("dataset_members", members[every]) for every in {one.every_split for one in models}}
        found += [
            AffectedModel(
                run_id=model.run_id,
                model_id=model.model_id,
                trained_on=trained[model.every_split],
                pretrained_on=pretrained,
                retrain_by=retrain_by,
            )
            for model in models
            if trained[model.every_split] or pretrained
        ]
    return tuple(found)


def _users_among(rows: DataFrame, users: DataFrame) -> int:
    found: int = rows.join(F.broadcast(users), "user_id", "left_semi").select("user_id").distinct().count()
    return found


def _newest(spark: SparkSession, paths: LakehousePaths, table: str) -> DataFrame:
    return open_pinned(spark, paths, table, latest_version(paths, table))


def _identifiers() -> set[str]:
    """Names of the raw id columns in the files that ZiGong itself generates."""
    mapping = load_mapping("simulated")
    return {column.name for file in mapping.files for column in file.columns if column.identifier}


def _saved(paths: LakehousePaths, record: Erasure) -> Erasure:
    write_json(erasures_folder(paths.local()) / f"{record.erasure_id}.json", asdict(record))
    return record


def _keys_file(paths: LakehousePaths, record: Erasure) -> Path:
    return erasures_folder(paths.local()) / f"{record.erasure_id}.keys"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
