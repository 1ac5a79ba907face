"""The GX suite and checkpoint of a verdict.

Each rule measures one number, so GX evaluates a batch of one row of aggregates, with one column per rule: no row of a
client ever reaches a suite, a result or the Data Docs.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from zigong.quality.verdict import RuleResult

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")  # read when GX is imported

import great_expectations as gx
import great_expectations.expectations as gxe
from great_expectations.data_context import AbstractDataContext

logging.getLogger("great_expectations").setLevel(logging.ERROR)

DATASOURCE, BATCH = "lakehouse", "measures"
GX_SEVERITY = {"block": "critical", "warn": "warning", "quarantine": "info"}


def open_context(folder: Path) -> AbstractDataContext:
    """A GX file context whose suites, results and Data Docs are in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    context = gx.get_context(mode="file", project_root_dir=folder)
    context.variables.progress_bars = {"globally": False}
    return context


def evaluated(
    context: AbstractDataContext, name: str, results: Sequence[RuleResult], *, run_id: str
) -> tuple[RuleResult, ...]:
    """Runs the checkpoint of a table over the measurements of its rules, and stores its result for the Data Docs.

    A rule passes only if GX reports success, or if it has no observation and is excused. A rule without a result from
    GX is broken.

    Args:
        name: name of the table, used for suite, checkpoint and page.
        results: measured rules; those without an observation are not evaluated.
        run_id: run id shown on the page.
    """
    observed = [item for item in results if item.observed is not None]
    suite = context.suites.add_or_update(
        gx.ExpectationSuite(name=name, expectations=[_expectation(i) for i in observed])
    )
    asset = _asset(context, name)
    batch = asset.batch_definitions[0] if asset.batch_definitions else asset.add_batch_definition_whole_dataframe(BATCH)
    definition = context.validation_definitions.add_or_update(
        gx.ValidationDefinition(name=name, data=batch, suite=suite)
    )
    checkpoint = context.checkpoints.add_or_update(gx.Checkpoint(name=name, validation_definitions=[definition]))
    frame = pd.DataFrame([{item.rule: float(item.observed or 0) for item in observed}])
    named = gx.RunIdentifier(run_name=run_id, run_time=datetime.now(UTC))  # without a time GX reads one out of the name
    run = checkpoint.run(batch_parameters={"dataframe": frame}, run_id=named)
    (outcome,) = run.run_results.values()
    answers = {found.expectation_config.kwargs["column"]: found for found in outcome.results}
    return tuple(_with_answer(item, answers.get(item.rule)) for item in results)


def _with_answer(item: RuleResult, answer: gx.core.ExpectationValidationResult | None) -> RuleResult:
    if item.observed is None:
        return replace(item, passed=item.excused, note=item.note or "nothing was measured")
    if answer is None or answer.success is None or answer.result.get("observed_value") is None:
        return replace(item, passed=False, answered=False, note="Great Expectations gave no result for this rule")
    return replace(item, passed=bool(answer.success))


def _expectation(item: RuleResult) -> gxe.Expectation:
    return gxe.ExpectColumnMaxToBeBetween(
        column=item.rule,
        min_value=item.low,
        max_value=item.high,
        severity=GX_SEVERITY[item.severity],
        description=_sentence(item),
        meta={"fingerprint": item.fingerprint, "severity": item.severity},
    )


def _sentence(item: RuleResult) -> str:
    """The sentence on the page, in place of GX's own, which would describe the maximum of a column."""
    allowed = f"allowed: {item.expected()}"
    return f"{item.description} ({allowed})" if item.description else allowed


def _asset(context: AbstractDataContext, name: str) -> Any:
    if DATASOURCE not in context.data_sources.all():
        context.data_sources.add_pandas(DATASOURCE)
    source = context.data_sources.get(DATASOURCE)
    return source.get_asset(name) if name in source.get_asset_names() else source.add_dataframe_asset(name)
