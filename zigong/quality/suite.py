"""The GX suite of a table, derived from its contract, and the audit of one staged table."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame

from schemas.contracts import TableContract

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")  # read when GX is imported

import great_expectations as gx
import great_expectations.expectations as gxe
from great_expectations.data_context import AbstractDataContext

logging.getLogger("great_expectations").setLevel(logging.ERROR)

DATASOURCE = "lakehouse"
# Aggregates only: no row value may reach a result or the Data Docs.
RESULT_FORMAT = {"result_format": "BASIC", "exclude_unexpected_values": True, "partial_unexpected_count": 0}


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What the suite said of one staged table."""

    passed: bool
    failures: tuple[str, ...]


def open_context(folder: Path) -> AbstractDataContext:
    """A GX file context whose suites, results and Data Docs lie in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    context = gx.get_context(mode="file", project_root_dir=folder)
    context.variables.progress_bars = {"globally": False}
    return context


def table_expectations(contract: TableContract) -> list[gxe.Expectation]:
    """Table-level promises of a contract: columns, row count, key. Row-level rules are judged by ``quality.rows``."""
    expectations: list[gxe.Expectation] = [
        *(
            gxe.ExpectTableRowCountToBeBetween(min_value=rule.low, max_value=rule.high)
            for rule in contract.table_rules
            if rule.measure == "rows"
        ),
        *(gxe.ExpectColumnToExist(column=name) for name in contract.column_names),
    ]
    if len(contract.key) == 1:
        expectations.append(gxe.ExpectColumnValuesToBeUnique(column=contract.key[0]))
    elif contract.key:
        expectations.append(gxe.ExpectCompoundColumnsToBeUnique(column_list=list(contract.key)))
    return expectations


def audit_frame(
    context: AbstractDataContext, name: str, frame: DataFrame, expectations: list[gxe.Expectation]
) -> Audit:
    """Runs a checkpoint of ``expectations`` over ``frame`` and keeps its result for the Data Docs."""
    asset = _asset(context, name)
    suite = context.suites.add_or_update(gx.ExpectationSuite(name=name, expectations=expectations))
    batch = (
        asset.add_batch_definition_whole_dataframe("whole")
        if not asset.batch_definitions
        else asset.batch_definitions[0]
    )
    definition = context.validation_definitions.add_or_update(
        gx.ValidationDefinition(name=name, data=batch, suite=suite)
    )
    checkpoint = context.checkpoints.add_or_update(
        gx.Checkpoint(name=name, validation_definitions=[definition], result_format=RESULT_FORMAT)
    )
    result = checkpoint.run(batch_parameters={"dataframe": frame})
    description = result.describe_dict()
    failures = tuple(
        _failure(item)
        for run in description["validation_results"]
        for item in run["expectations"]
        if not item["success"]
    )
    return Audit(passed=bool(result.success), failures=failures)


def build_docs(context: AbstractDataContext) -> Path | None:
    """Builds the Data Docs; returns the path of their index page."""
    addresses = [Path(address.removeprefix("file://")) for address in context.build_data_docs().values()]
    return addresses[0] if addresses else None


def _asset(context: AbstractDataContext, name: str) -> Any:
    if DATASOURCE not in context.data_sources.all():
        context.data_sources.add_spark(DATASOURCE)
    source = context.data_sources.get(DATASOURCE)
    if name in source.get_asset_names():
        return source.get_asset(name)
    return source.add_dataframe_asset(name)


def _failure(item: dict[str, Any]) -> str:
    arguments = {key: value for key, value in item["kwargs"].items() if key not in {"batch_id"}}
    observed = {key: value for key, value in item.get("result", {}).items() if not key.startswith("partial")}
    return f"{item['expectation_type']} expected {arguments}, observed {observed}"
