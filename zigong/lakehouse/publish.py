"""Stage, audit, promote: the only way rows enter a table.

Rows are written once, below the folder of their table; the audit reads them there, and ONE commit adds the files and
takes away those they replace. Its userMetadata names run, step and verdict. That commit is the only record of progress:
a rerun that finds its own commit changes nothing, and everything before the commit is repeatable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from hashlib import sha256
from typing import Any, Protocol

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas.contracts import TableContract, table_contract
from zigong.errors import DataError
from zigong.lakehouse.attempts import Attempt
from zigong.lakehouse.audit_log import log_publish
from zigong.lakehouse.commits import create_if_missing, own_commits
from zigong.lakehouse.committer import require_no_nulls, rows_of
from zigong.lakehouse.counting import CountedRows, RowsRead, require_all_accounted
from zigong.lakehouse.fence import Basis
from zigong.lakehouse.lineage import Lineage
from zigong.lakehouse.lost_files import require_written
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.published import Published
from zigong.lakehouse.quarantining import Refusing
from zigong.lakehouse.replacing import matches, replace_cells
from zigong.lakehouse.row_text import EXACT
from zigong.lakehouse.staged_files import StagedFile
from zigong.lakehouse.staging import KEPT_ROWS, REFUSED_ROWS, Stage, staged
from zigong.lakehouse.tables import latest_version
from zigong.lakehouse.verdicts import BLOCKED, PASSED, TableVerdict, record_verdict

_ROWS, _STRAY = "rows", "stray"
KEPT, BROKEN = f"{_ROWS}/{KEPT_ROWS}", f"{_ROWS}/{REFUSED_ROWS}"


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
    own = own_commits(paths, table, run_id)
    done = None if again else _finished(own, wanted=(step, cells, attempt.rerun))
    if done is not None:
        return _logged(paths, done, own)
    refusing = Refusing(spark, paths, table=table, run_id=run_id, step=step, attempt=attempt)
    with staged(paths, table, run_id=run_id, token=attempt.token) as stage, refusing:
        computed = _stage(stage, rules.conform(frame, contract), rules, cells)
        kept, broken = stage.files(KEPT), stage.files(BROKEN)
        rows_rejected, losses = 0 if rejected is None else refusing.add(rejected), dict(dropped or {})
        demanded = contract.when_empty() if may_be_empty else contract
        # Rows carried over were not read, so that the share of refused rows must not be taken from them.
        others = sum(losses.values()) - (read.carried if read else 0)
        rows = _staged_rows(spark, stage, rules, has_broken=bool(broken))
        verdict = rules.audit(rows, demanded, rejected=rows_rejected, dropped=others)
        refused = rows_of(broken) + rows_rejected
        read = read or RowsRead(rows=computed.rows + rows_rejected + sum(losses.values()))
        require_all_accounted(table, read, kept=rows_of(kept), quarantined=refused, dropped=losses)
        _require_audited(table, verdict, kept=rows_of(kept), refused=rows_of(broken))
        attempt.require_held()
        if broken:
            refusing.add(_with_payload(rows, contract, rules))
        refusing.commit()
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
            _logged(paths, outcome, own)
            raise DataError(
                f"table {table}: the audit blocked {verdict.kept} rows of {cells}: {'; '.join(verdict.failures)}",
                action=f"the published version is unchanged; read the Data Docs of run {run_id}, fix the input, rerun",
            )
        _require_within(table, cells, computed.count(_STRAY))
        require_no_nulls(contract, kept)
        return _logged(paths, _promote(spark, stage, kept, outcome, basis, attempt), own)


def _stage(stage: Stage, conformed: DataFrame, rules: Rules, cells: str) -> CountedRows:
    """Writes the rows; those that break a rule apart from the others."""
    broken = F.size(rules.reasons) > 0
    counted = CountedRows(conformed, **{_STRAY: ~broken & ~matches(cells)})
    stage.write(counted.frame, _ROWS, refused=broken)
    return counted


def _staged_rows(spark: SparkSession, stage: Stage, rules: Rules, *, has_broken: bool) -> DataFrame:
    """The staged rows with the rules that each one breaks."""
    kept = stage.read(spark, KEPT).withColumn(rules.reasons, F.array().cast("array<string>"))
    return kept.unionByName(rules.conform(stage.read(spark, BROKEN), stage.contract)) if has_broken else kept


def _with_payload(rows: DataFrame, contract: TableContract, rules: Rules) -> DataFrame:
    """Rows that break a rule, with their payload."""
    return rows.where(F.size(rules.reasons) > 0).select(
        F.col(rules.reasons).alias("reasons"), F.to_json(F.struct(*contract.column_names), EXACT).alias("payload")
    )


def _require_audited(table: str, verdict: TableVerdict, *, kept: int, refused: int) -> None:
    if (verdict.kept, verdict.refused) != (kept, refused):
        raise DataError(
            f"table {table}: {kept:,} and {refused:,} rows are staged as good and broken ones, but the audit has read "
            f"{verdict.kept:,} and {verdict.refused:,}",
            action="nothing was published; run the step again, and report this with the log of the run if it recurs",
        )


def _require_within(table: str, cells: str, stray: int) -> None:
    if stray:
        raise DataError(
            f"table {table}: {stray:,} rows are not among {cells}, which they would replace",
            action="nothing was published; report this with the log of the run",
        )


def _logged(paths: LakehousePaths, outcome: Published, own: Sequence[Mapping[str, Any]]) -> Published:
    """Adds the outcome to the audit log and returns it."""
    log_publish(paths, asdict(outcome), own)
    return outcome


def _promote(
    spark: SparkSession,
    stage: Stage,
    kept: Sequence[StagedFile],
    outcome: Published,
    basis: Basis | None,
    attempt: Attempt,
) -> Published:
    """The outcome with its version, after the commit; what is staged and not committed is removed."""
    version = replace_cells(
        spark,
        stage,
        kept,
        cells=outcome.cells,
        metadata=asdict(outcome),
        basis=basis,
        attempt=attempt,
        token_of=f"{outcome.run_id}/{outcome.step}/{sha256(outcome.cells.encode()).hexdigest()[:16]}",
    )
    if version is None:
        return replace(outcome, version=latest_version(stage.paths, outcome.table))
    stage.discard(BROKEN)
    require_written(stage.paths, outcome.table, version)
    return replace(outcome, version=version)


def _finished(own: Sequence[Mapping[str, Any]], *, wanted: tuple[str, str, int]) -> Published | None:
    """The outcome that an earlier attempt of the same run committed for the same ``cells``, None if there is none.

    Args:
        own: the commits of the run in the table.
        wanted: step, cells, and how often the step was requested again after it had finished.
    """
    known = {item.name for item in fields(Published)}
    for commit in own:
        if (commit.get("step"), commit.get("cells"), commit.get("rerun", 0)) == wanted:
            return Published(**{key: value for key, value in commit.items() if key in known})
    return None
