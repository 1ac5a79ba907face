"""``zigong audit-leakage``: checks of published tables for leakage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zigong.cli.shared import OnlyRecipe, Root, named_errors, named_run
from zigong.console import say
from zigong.errors import DataError
from zigong.lakehouse.paths import LakehousePaths
from zigong.runs.job import Job

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def audit_leakage(run_id: str, recipe: OnlyRecipe = None, root: Root = None) -> None:
    """Check the certificates of a run's user_sequences against its behavior_events."""
    from zigong.incremental.known import source_events
    from zigong.quality.leakage import RULES, leakage_violations

    with named_errors():
        run = named_run(run_id, recipe, root)
        job = Job(step="audit_leakage", run=run, paths=LakehousePaths.at(run.recipe.lakehouse.root))
        sequences = job.read("user_sequences").where(f"population = '{job.population}'")
        violations = leakage_violations(sequences, source_events(job)).cache()
        counts = {row["rule"]: row["count"] for row in violations.groupBy("rule").count().collect()}
        if counts:
            broken = ", ".join(f"{rule}: {counts[rule]:,} rows" for rule in RULES if rule in counts)
            raise DataError(
                f"user_sequences version {job.version('user_sequences')} of run {run_id} breaks {broken}; "
                f"{_first(violations)}",
                action="do not train on it: find what changed in the log or the build, then rebuild those dates",
            )
        say(f"{sequences.count():,} certificates hold: nothing in them depends on anything at or after T")


def _first(violations: DataFrame) -> str:
    """The first violating row, by time and user."""
    row = violations.orderBy("observation_at", "user_id", "loan_id", "rule").first()
    if row is None:
        return ""
    loan = f", loan_id {row['loan_id']}" if row["loan_id"] else ""
    return (
        f"first {row['rule']}: user_id {row['user_id']}{loan}, observation_at {row['observation_at']}: "
        f"expected {row['expected']}, found {row['found']}"
    )
