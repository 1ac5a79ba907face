"""One erasure from the request to the record; repeated with the same users, it resumes where it stopped."""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from zigong.erasure import files as erase_files
from zigong.erasure import tables as erase_tables
from zigong.erasure.traces import Traces
from zigong.files.atomic import write_json, write_text
from zigong.lakehouse.audit_chain import Fact
from zigong.lakehouse.audit_log import append_facts
from zigong.lakehouse.erasures import AffectedModel, Erasure, erasures, erasures_folder
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import latest_version, open_pinned
from zigong.recipe.source import source_mapping
from zigong.runs.handover import Dataset, FinalModel
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

    No other job may run at the same time: old files are removed at any age.

    Returns:
        The record, and all keys that identify the users, for the verification.
    """
    users = erase_tables.erased_users(spark, request.user_ids)
    record = _opened(spark, paths, request, users, runs)
    erase_tables.write_tombstones(paths, request.user_ids, record)
    traces = _traces(spark, paths, request, users, record)
    for table, rows in erase_tables.erase_tables(spark, paths, users, sorted(traces.pseudonyms), record.erasure_id):
        record = _saved(paths, replace(record, rows={**record.rows, table: record.rows.get(table, 0) + rows}))
    if not record.completed_at:  # otherwise the users have not reappeared, and later versions may be kept
        record = _saved(paths, replace(record, versions=erase_tables.vacuum_tables(paths)))
    files = erase_files.erase_staging(paths)
    files += erase_files.erase_landing(paths, request.user_ids, identifiers=_identifiers(runs), digest=request.digest)
    files += erase_files.erase_artefacts(paths, traces)
    _keys_file(paths, record).unlink()
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
        models=_affected(
            spark, paths, users, runs, (requested + timedelta(days=request.retrain_days)).date().isoformat()
        ),
    )
    return _saved(paths, record)


def _affected(
    spark: SparkSession, paths: LakehousePaths, users: DataFrame, runs: Sequence[Run], retrain_by: str
) -> tuple[AffectedModel, ...]:
    """Models whose data contained an erased user; determined before anything is deleted."""
    found = []
    for run in runs:
        final, dataset = run.find(FinalModel), run.find(Dataset)
        if final is None or dataset is None:
            continue
        trained = (F.col("dataset_id") == dataset.dataset_id) & (F.col("split") == "train")
        read = F.col("known_date") < F.lit(run.recipe.observations.train.last)
        model = AffectedModel(
            run_id=run.run_id,
            model_id=final.model_id,
            trained_on=_users_among(_newest(spark, paths, "dataset_members").where(trained), users),
            pretrained_on=_users_among(_newest(spark, paths, "behavior_events").where(read), users)
            if run.recipe.base.tiny is not None
            else 0,
            retrain_by=retrain_by,
        )
        if model.trained_on or model.pretrained_on:
            found.append(model)
    return tuple(found)


def _users_among(rows: DataFrame, users: DataFrame) -> int:
    found: int = rows.join(F.broadcast(users), "user_id", "left_semi").select("user_id").distinct().count()
    return found


def _newest(spark: SparkSession, paths: LakehousePaths, table: str) -> DataFrame:
    return open_pinned(spark, paths, table, latest_version(paths, table))


def _identifiers(runs: Sequence[Run]) -> set[str]:
    """Names of the raw id columns in the files that ZiGong generated for its runs."""
    mappings = [source_mapping(run.recipe) for run in runs if run.recipe.source.simulation is not None]
    return {
        column.name for mapping in mappings for file in mapping.files for column in file.columns if column.identifier
    }


def _saved(paths: LakehousePaths, record: Erasure) -> Erasure:
    write_json(erasures_folder(paths.local()) / f"{record.erasure_id}.json", asdict(record))
    return record


def _keys_file(paths: LakehousePaths, record: Erasure) -> Path:
    return erasures_folder(paths.local()) / f"{record.erasure_id}.keys"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
