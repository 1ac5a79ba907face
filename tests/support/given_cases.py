"""The cases under shared/cases: deliveries and situations that once went wrong, which the project does not ship."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from jobs.ingest_events import ingest_events
from schemas.mappings import SourceMapping, parse_mapping
from tests.support.finished import REPOSITORY, TINY
from zigong.behavior.sources.check import check_source
from zigong.behavior.sources.findings import SourceCheck, SourceFinding
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import arrow_pinned, latest_version
from zigong.recipe import load_recipe
from zigong.runs.dates import Dates
from zigong.runs.job import runs_folder
from zigong.runs.launch import run_step
from zigong.runs.run import Outcome, Run, open_run

CASES = Path(os.environ.get("ZIGONG_CASES", REPOSITORY.parent / "shared" / "cases"))
MARKS = [
    pytest.mark.realdata,
    pytest.mark.soak,
    pytest.mark.skipif(not CASES.is_dir(), reason=f"{CASES} is absent: set ZIGONG_CASES to the folder of the cases"),
]


@dataclass(frozen=True, kw_only=True)
class Ingested:
    """One ingest of a case, in a lakehouse of its own."""

    outcome: Outcome
    run: Run

    def rows(self, table: str = "behavior_events") -> list[dict[str, Any]]:
        paths = LakehousePaths.at(self.run.recipe.lakehouse.root)
        rows: list[dict[str, Any]] = arrow_pinned(paths, table, latest_version(paths, table)).to_pylist()
        return rows


@dataclass(frozen=True)
class Case:
    """One mapping of a case.

    Attributes:
        name: ``FOLDER/MAPPING.yaml``, with ``@ZONE`` for a business time zone other than UTC.
    """

    name: str

    @property
    def file(self) -> Path:
        return CASES / self.name.partition("@")[0]

    @property
    def zone(self) -> str:
        return self.name.partition("@")[2] or "UTC"

    def mapping(self, **changes: str) -> SourceMapping:
        """The mapping, with texts replaced."""
        text = self.file.read_text(encoding="utf-8")
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new)
        return parse_mapping(text, origin=str(self.file))

    def checked(self, spark: SparkSession, mapping: SourceMapping | None = None) -> SourceCheck:
        return check_source(spark, mapping or self.mapping(), str(self.file.parent), timezone=self.zone)

    def ingested(
        self,
        root: Path,
        *,
        run_id: str = "case",
        folder: Path | None = None,
        dates: Dates | None = None,
        mapping: Path | None = None,
    ) -> Ingested:
        settings = [
            f"lakehouse.root={root}",
            f"source.path={folder or self.file.parent}",
            "source.simulation=null",
            f"source.mapping={mapping or self.file}",
            f"business_timezone={self.zone}",
            f"lakehouse.key={'published' if self.mapping().data == 'public' else 'env'}",
        ]
        recipe = load_recipe(TINY, settings)
        run = open_run(recipe, runs_folder(recipe), run_id)
        return Ingested(outcome=run_step("ingest_events", ingest_events, run, dates), run=run)


def told(finding: SourceFinding) -> tuple[str, str]:
    """Its colour, and rows, column, problem and action as one text."""
    text = f"{finding.rows} {finding.column}: {finding.problem} -> {finding.action}"
    return "red" if finding.blocking else "yellow", text
