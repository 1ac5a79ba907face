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
    """Check events and profiles of a run's user_sequences against its behavior_events and user_profiles."""
    from zigong.dataset.audit import STATIC_PROFILES
    from zigong.incremental.known import source_events
    from zigong.quality.leakage import RULES, leakage_violations, profile_violations, static_profile_share

    with named_errors():
        run = named_run(run_id, recipe, root)
        job = Job(step="audit_leakage", run=run, paths=LakehousePaths.at(run.recipe.lakehouse.root))
        sequences = job.read("user_sequences").where(f"population = '{job.population}'")
        events, profiles = source_events(job), job.read("user_profiles")
        found = leakage_violations(sequences, events).unionByName(profile_violations(sequences, profiles))
        violations = found.cache()
        counts = {row["rule"]: row["count"] for row in violations.groupBy("rule").count().collect()}
        if counts:
            broken = ", ".join(f"{rule}: {counts[rule]:,} rows" for rule in RULES if rule in counts)
            raise DataError(
                f"user_sequences version {job.version('user_sequences')} of run {run_id} breaks {broken}; "
                f"{_first(violations)}",
                action="do not train on it: find what changed in the log or the build, then rebuild those dates",
            )
        say(
            f"{sequences.count():,} certificates hold: events and profiles of the sequences are those known before T "
            "by the known_at of the source"
        )
        say("not proven: that the source's known_at is true; an event or a profile dated too early leaks unseen")
        if static_profile_share(profiles, events) == 1.0:
            say(f"[yellow]{STATIC_PROFILES}[/]")


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
