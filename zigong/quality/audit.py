"""Validates a table against its contract before it is published: row rules first, then the suite on measured values."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from schemas.contracts import TableContract
from zigong.files.atomic import write_json
from zigong.lakehouse.publish import Rules
from zigong.quality.measures import AuditContext, measured
from zigong.quality.published_suite import published_suite
from zigong.quality.reference import made_reference
from zigong.quality.rows import REASONS, audited_columns, conform
from zigong.quality.suite import evaluated, open_context
from zigong.quality.verdict import Verdict, pending_results


def contract_rules(run_folder: Path, context: AuditContext) -> Rules:
    """The rules of the contracts; suites, results, verdicts and Data Docs are kept in the run's folder.

    A drift rule without a pinned reference is not evaluated; the first rows that pass become its reference.
    """

    def audit(rows: DataFrame, contract: TableContract, *, rejected: int, dropped: int) -> Verdict:
        verdict = audit_table(rows, contract, context, run_folder, rejected=rejected, dropped=dropped)
        if verdict.passed:
            pin_missing_references(rows.where(F.size(REASONS) == 0), contract, context)
        return verdict

    return Rules(conform=conform, audit=audit, reasons=REASONS)


def audit_table(
    rows: DataFrame,
    contract: TableContract,
    context: AuditContext,
    run_folder: Path,
    *,
    rejected: int = 0,
    dropped: int = 0,
) -> Verdict:
    """Measures and evaluates conformed rows; writes verdict, Data Docs and a suite that other tools can evaluate.

    Args:
        rows: conformed rows, cheap to read more than once.
        rejected: input rows that were rejected earlier.
        dropped: input rows that were omitted earlier.
    """
    found = measured(rows, contract, context, rejected=rejected, dropped=dropped)
    results = pending_results((*contract.row_rules, *contract.table_rules), found.of_rules)
    gx_context = open_context(run_folder / "quality")
    gx_context.suites.add_or_update(published_suite(contract))
    verdict = Verdict(
        kept=found.kept,
        refused=found.refused,
        results=evaluated(gx_context, contract.name, results, run_id=context.run_id),
    )
    write_verdict(run_folder, contract.name, verdict, run_id=context.run_id, rules_version=contract.rules_version)
    return verdict


def audit_published(rows: DataFrame, contract: TableContract, context: AuditContext, run_folder: Path) -> Verdict:
    """Evaluates rows that are not conformed yet, such as those of a published table; they are read once.

    Spark caches what several measurements need: broken rules, keys, and the columns of table rules.
    """
    conformed = conform(rows, contract).select(*audited_columns(contract), REASONS).persist()
    try:
        return audit_table(conformed, contract, context, run_folder)
    finally:
        conformed.unpersist()


def write_verdict(run_folder: Path, name: str, verdict: Verdict, *, run_id: str, rules_version: str) -> None:
    """Writes ``quality/verdicts/NAME.json`` in the run's folder."""
    content: Mapping[str, Any] = {
        "table": name,
        "run_id": run_id,
        "verdict": "passed" if verdict.passed else "blocked",
        "rules_version": rules_version,
        "versions": {name: version(name) for name in ("great-expectations", "pyspark", "zigong")},
        "rows_kept": verdict.kept,
        "rows_refused": verdict.refused,
        "failures": verdict.failures,
        "warnings": verdict.warnings,
        "results": verdict.rows(),
    }
    write_json(run_folder / "quality" / "verdicts" / f"{name}.json", content)


def pin_missing_references(rows: DataFrame, contract: TableContract, context: AuditContext) -> None:
    """Makes these rows the reference of every drift rule that has none."""
    if context.references is None:
        return
    for rule in contract.table_rules:
        if rule.measure == "psi" and context.references.of(contract.name, rule) is None:
            made = made_reference(rows, rule, context.run_id)
            if made is not None:
                context.references.pin(contract.name, rule, made)
