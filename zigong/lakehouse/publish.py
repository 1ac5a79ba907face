"""Stage, audit, promote: the only way rows enter a table.

A table changes by ONE replaceWhere commit whose userMetadata names run, step and verdict. That commit is the only
record of progress: a rerun that finds its own commit changes nothing, and everything before the commit is repeatable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from hashlib import sha256
from typing import Protocol

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas.contracts import TableContract, table_contract
from zigong.errors import ConflictError, DataError
from zigong.lakehouse.attempts import Attempt
from zigong.lakehouse.audit_log import log_publish
from zigong.lakehouse.commits import create_if_missing, make_commit, metadata_text, own_commits
from zigong.lakehouse.counting import CountedRows, RowsRead, require_all_accounted
from zigong.lakehouse.fence import Basis, fenced, make_fenced_commit
from zigong.lakehouse.few_files import gathered
from zigong.lakehouse.lineage import Lineage
from zigong.lakehouse.lost_files import require_written
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.published import Published
from zigong.lakehouse.replayed import with_former_replays
from zigong.lakehouse.row_text import EXACT
from zigong.lakehouse.staging import staged_files, staging_name
from zigong.lakehouse.tables import latest_version
from zigong.lakehouse.verdicts import BLOCKED, PASSED, TableVerdict, record_verdict


class Audit(Protocol):
    """Audits staged rows against a contract; rows rejected or dropped earlier are part of rows in."""

    def __call__(self, rows: DataFrame, contract: TableContract, *, rejected: int, dropped: int) -> TableVerdict:
        """The verdict."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How a table is audited: ``conform`` adds the column ``reasons``, ``audit`` gives the verdict on its result."""

    conform: Callable[[DataFrame, TableContract], DataFrame]
    audit: Audit
    reasons: str


def publish(
    spark: SparkSession,
    paths: LakehousePaths,
    frame: DataFrame,
    *,
    table: str,
    cells: str,
    run_id: str,
    step: str,
    rules: Rules,
    rejected: DataFrame | None = None,
    dropped: Mapping[str, int] | None = None,
    may_be_empty: bool = False,
    lineage: Lineage | None = None,
    basis: Basis | None = None,
    again: bool = False,
    attempt: Attempt | None = None,
    read: RowsRead | None = None,
    found: Mapping[str, int] | None = None,
) -> Published:
    """Publishes ``frame`` as all rows of a table that match ``cells``.

    Args:
        frame: the new rows; columns of the contract, in any order.
        cells: SQL predicate that selects table partitions; all rows that match it are replaced.
        rejected: rows the transform already rejected (columns ``reasons`` and ``payload``); part of rows in.
        dropped: number of rows that the transform dropped, by reason; part of rows in.
        may_be_empty: whether no row is valid, such as a night without events.
        lineage: what the rows were built from; recorded in the commit.
        basis: published rows that ``frame`` depends on; the commit is made only if they are unchanged.
        again: publish even if this run has committed the same ``cells`` before, because others have committed since.
        attempt: the attempt of the run that publishes; it stages in a folder of its own.
        read: counts of the rows read; by default ``frame``, ``rejected`` and ``dropped`` are the input.
        found: further counts to record in the commit.

    Raises:
        DataError: the audit blocked the table, or rows were lost between the read and the commit.
        StaleRowsError: another writer changed the basis.
        ConflictError: every attempt lost to other writers of the same rows, or a later attempt of the run took over.
    """
    contract, attempt = table_contract(table), attempt or Attempt()
    create_if_missing(paths, contract)
    with staged_files(paths, staging_name(run_id, attempt.token), table) as stage:
        wanted = (step, cells, attempt.rerun)
        done = None if again else _finished(paths, table, run_id=run_id, wanted=wanted)
        if done is not None:
            return _logged(paths, done)
        computed = CountedRows(frame)
        staged = _stage(spark, paths, rules.conform(computed.frame, contract), f"{stage}/{table}")
        known = None if rejected is None else _stage(spark, paths, rejected, f"{stage}/{table}.no")
        rows_rejected, losses = 0 if known is None else known.count(), dict(dropped or {})
        demanded = contract.when_empty() if may_be_empty else contract
        # Rows carried over were not read, so that the share of refused rows must not be taken from them.
        others = sum(losses.values()) - (read.carried if read else 0)
        verdict = rules.audit(staged, demanded, rejected=rows_rejected, dropped=others)
        refused = verdict.refused + rows_rejected
        read = read or RowsRead(rows=computed.rows + rows_rejected + sum(losses.values()))
        require_all_accounted(table, read, kept=verdict.kept, quarantined=refused, dropped=losses)
        attempt.require_held()
        if refused:
            broken = _refused(staged, contract, rules, known)
            quarantine_rows(
                paths,
                broken,
                table=table,
                run_id=run_id,
                step=step,
                rules_version=contract.rules_version,
                attempt=attempt,
            )
        outcome = Published(
            run_id=run_id,
            step=step,
            table=table,
            cells=cells,
            verdict=PASSED if verdict.passed else BLOCKED,
            version=-1,
            rows_in=read.rows,
            published=verdict.kept - read.carried if verdict.passed else 0,
            quarantined=refused,
            dropped=losses,
            lineage=asdict(lineage) if lineage else None,
            rules_version=contract.rules_version,
            attempt=attempt.token,
            rerun=attempt.rerun,
            outside=read.outside,
            carried=read.carried,
            found=None if found is None else dict(found),
        )
        counts, version = outcome.counts(), contract.rules_version
        record_verdict(paths, verdict, run_id=run_id, table=table, counts=counts, rules_version=version)
        if not verdict.passed:
            _logged(paths, outcome)
            raise DataError(
                f"table {table}: the audit blocked {verdict.kept} rows of {cells}: {'; '.join(verdict.failures)}",
                action=f"the published version is unchanged; read the Data Docs of run {run_id}, fix the input, rerun",
            )
        good = staged.where(F.size(rules.reasons) == 0).select(*contract.column_names)
        return _logged(paths, _promote(paths, good, outcome, basis, attempt))


def _refused(staged: DataFrame, contract: TableContract, rules: Rules, known: DataFrame | None) -> DataFrame:
    """Rows that break a rule, with their payload, and the rows that the transform rejected."""
    broken = staged.where(F.size(rules.reasons) > 0).select(
        F.col(rules.reasons).alias("reasons"), F.to_json(F.struct(*contract.column_names), EXACT).alias("payload")
    )
    return broken if known is None else broken.unionByName(known)


def _logged(paths: LakehousePaths, outcome: Published) -> Published:
    """Adds the outcome to the audit log and returns it."""
    log_publish(paths, asdict(outcome))
    return outcome


def quarantine_rows(
    paths: LakehousePaths,
    rows: DataFrame,
    *,
    table: str,
    run_id: str,
    step: str,
    rules_version: str,
    attempt: Attempt | None = None,
) -> None:
    """Replaces a run's quarantined rows of one table.

    Args:
        rows: columns ``reasons array<string>`` and ``payload string`` (JSON without raw ids).
        attempt: the attempt of the run; its right to publish is checked again after each lost race.
    """
    frame = rows.select(
        F.lit(table).alias("table_name"),
        F.lit(run_id).alias("run_id"),
        "reasons",
        "payload",
        F.lit(rules_version).alias("rules_version"),
        F.current_timestamp().alias("quarantined_at"),
        F.lit(None).cast("string").alias("replayed_by"),
    )
    frame = with_former_replays(frame, paths, table)
    where = f"table_name = '{table}' AND run_id = '{run_id}'"
    held = replace(attempt, token=0) if attempt else None  # a step may quarantine rows of one table more than once
    _replace(paths, frame, "quarantine", where=where, metadata={"run_id": run_id, "step": step}, attempt=held)


def _stage(spark: SparkSession, paths: LakehousePaths, frame: DataFrame, name: str) -> DataFrame:
    uri = paths.spark_uri(paths.staging(name))
    frame.write.mode("overwrite").parquet(uri)
    return spark.read.parquet(uri)


def _promote(
    paths: LakehousePaths, rows: DataFrame, outcome: Published, basis: Basis | None, attempt: Attempt
) -> Published:
    metadata = asdict(outcome)
    _replace(paths, rows, outcome.table, where=outcome.cells, metadata=metadata, basis=basis, attempt=attempt)
    return _verified(paths, outcome)


def _verified(paths: LakehousePaths, outcome: Published) -> Published:
    """The outcome with its version; the commit must have written exactly the rows that passed the audit."""
    commits = own_commits(paths, outcome.table, outcome.run_id)
    ours = [commit for commit in commits if (commit.get("step"), commit.get("cells")) == (outcome.step, outcome.cells)]
    later = [commit["attempt"] for commit in ours if commit.get("attempt", 0) > outcome.attempt]
    if later:  # Delta skips a commit whose token is below one it has seen
        raise ConflictError(
            f"table {outcome.table}, rows with {outcome.cells}: attempt {max(later)} of run {outcome.run_id} has taken "
            f"over from attempt {outcome.attempt}, whose commit was refused",
            action="wait for the other process to end; nothing of this attempt was published",
        )
    mine = [commit for commit in ours if commit.get("attempt", 0) == outcome.attempt]
    expected = outcome.published + outcome.carried
    if not mine and not expected:  # Delta makes no commit where no row is replaced by none
        return replace(outcome, version=latest_version(paths, outcome.table))
    written = mine[0]["rows_written"] if mine else None
    if written != expected:
        raise DataError(
            f"table {outcome.table}, rows with {outcome.cells}: {expected} rows passed the audit, "
            f"the commit wrote {written}",
            action="the storage lost rows; restore the previous version and rerun the step with a new run id",
        )
    require_written(paths, outcome.table, mine[0]["version"])
    return replace(outcome, version=mine[0]["version"])


def _replace(
    paths: LakehousePaths,
    rows: DataFrame,
    table: str,
    *,
    where: str,
    metadata: Mapping[str, object],
    basis: Basis | None = None,
    attempt: Attempt | None = None,
) -> None:
    contract = table_contract(table)
    create_if_missing(paths, contract)
    listed = rows.select(*contract.column_names)
    writer = (
        gathered(listed if basis is None else fenced(listed, paths, basis), contract)
        .write.format("delta")
        .mode("overwrite")
        .option("replaceWhere", where)
        .option("userMetadata", metadata_text(metadata))
    )
    target, token = paths.spark_uri(paths.table(table)), attempt.token if attempt else 0
    if token:
        cell = f"{metadata['run_id']}/{metadata['step']}/{sha256(where.encode()).hexdigest()[:16]}"
        writer = writer.option("txnAppId", cell).option("txnVersion", token)

    def write() -> None:
        if attempt is not None:
            attempt.require_held()
        writer.save(target)

    if basis is None:
        make_commit(write, table=table, cells=where)
    else:
        make_fenced_commit(write, basis, table=table, cells=where)


def _finished(paths: LakehousePaths, table: str, *, run_id: str, wanted: tuple[str, str, int]) -> Published | None:
    """The outcome that an earlier attempt of the same run committed for the same ``cells``, None if there is none.

    Args:
        wanted: step, cells, and how often the step was requested again after it had finished.
    """
    known = {item.name for item in fields(Published)}
    for commit in own_commits(paths, table, run_id):
        if (commit.get("step"), commit.get("cells"), commit.get("rerun", 0)) == wanted:
            return Published(**{key: value for key, value in commit.items() if key in known})
    return None
