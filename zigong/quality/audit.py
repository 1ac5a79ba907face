"""How the contracts judge a table on its way in: row rules first, then the GX suite on what is left."""

from __future__ import annotations

from pathlib import Path

from pyspark.sql import DataFrame

from schemas.contracts import TableContract
from zigong.lakehouse.publish import Rules
from zigong.quality.rows import REASONS, conform
from zigong.quality.suite import Audit, audit_frame, open_context, table_expectations


def contract_rules(run_folder: Path) -> Rules:
    """The rules of the contracts; suites, results and Data Docs are kept in the run's folder."""

    def audit(frame: DataFrame, contract: TableContract) -> Audit:
        return audit_frame(open_context(run_folder / "quality"), contract.name, frame, table_expectations(contract))

    return Rules(conform=conform, audit=audit, reasons=REASONS)
