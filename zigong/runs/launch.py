"""The entry point of every job: one argument style, one outcome.

A job module passes its step's name and a function of :class:`Job`; everything visible to a scheduler happens here.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime

from zigong.console import LOG, say_error, set_up_logging
from zigong.errors import ZigongError, full_disk
from zigong.lakehouse.paths import LakehousePaths
from zigong.recipe import load_recipe
from zigong.runs.dates import Dates
from zigong.runs.job import Job, runs_folder
from zigong.runs.run import Outcome, Run, open_run

Body = Callable[[Job], None]


def parse_arguments(arguments: Sequence[str] | None, *, step: str) -> argparse.Namespace:
    """Parses the one argument style all jobs share."""
    parser = argparse.ArgumentParser(prog=step, description=f"ZiGong job {step}")
    parser.add_argument("--recipe", required=True, help="recipe file")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help="override a field of the recipe")
    parser.add_argument("--run-id", help="run to join or resume; by default a new one")
    parser.add_argument("--from-date", type=date.fromisoformat, help="first date (known_date or T), included")
    parser.add_argument("--to-date", type=date.fromisoformat, help="end of the dates, excluded")
    return parser.parse_args(arguments)


def main(step: str, body: Body, arguments: Sequence[str] | None = None) -> None:
    """Runs a job as a program: exit code and outcome.json report how it ended."""
    given = parse_arguments(arguments, step=step)
    try:
        recipe = load_recipe(given.recipe, given.set)
        dates = Dates(first=given.from_date, end=given.to_date)
        run = open_run(recipe, runs_folder(recipe), given.run_id)
    except ZigongError as error:
        say_error(error.kind, error.message, error.action)
        raise SystemExit(error.exit_code) from error
    set_up_logging(run.run_id)
    outcome = run_step(step, body, run, dates)
    if outcome.code:
        say_error(outcome.kind, outcome.message, outcome.action, outcome=run.folder / "outcome.json")
        raise SystemExit(outcome.code)


def run_step(step: str, body: Body, run: Run, dates: Dates | None = None) -> Outcome:
    """Runs one step in this process and records its outcome; errors of ZiGong end here, others are re-raised."""
    job = Job(step=step, run=run, paths=LakehousePaths.at(run.recipe.lakehouse.root), dates=dates or Dates())
    started, clock = datetime.now(UTC), time.monotonic()
    LOG.info("step started", extra={"fields": {"step": step}})
    error: ZigongError | None = None
    unexpected: Exception | None = None
    try:
        body(job)
    except ZigongError as caught:
        error = caught
    except Exception as caught:  # recorded for launchers, then raised again below, unless the disk is full
        error = full_disk(caught)
        unexpected = None if error else caught
    outcome = Outcome(
        step=step,
        kind="internal" if unexpected else error.kind if error else "ok",
        code=1 if unexpected else error.exit_code if error else 0,
        retryable=error.retryable if error else False,
        message=f"{type(unexpected).__name__}: {unexpected}" if unexpected else error.message if error else "",
        action="report this with the log of the run" if unexpected else error.action if error else "",
        started_at=started.isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - clock, 3),
        arguments={
            "from_date": job.dates.first.isoformat() if job.dates.first else None,
            "to_date": job.dates.end.isoformat() if job.dates.end else None,
        },
        tables=job.tables,
        takes=sorted(job.taken),
        leaves=sorted(job.left),
    )
    outcome = _recorded(run, outcome)
    LOG.info("step ended", extra={"fields": {"step": step, "kind": outcome.kind, "seconds": outcome.seconds}})
    if unexpected:
        raise unexpected
    return outcome


def _recorded(run: Run, outcome: Outcome) -> Outcome:
    """Writes the outcome; if the disk is too full even for that, the exit code and the log still report it."""
    try:
        run.write_outcome(outcome)
        run.add_metrics({f"seconds.{outcome.step}": outcome.seconds})
    except OSError as lost:
        error = full_disk(lost)
        if error is None:
            raise
        LOG.error(error.message, extra={"fields": {"step": outcome.step, "next": error.action}})
        if outcome.code:
            return outcome
        return replace(
            outcome,
            kind=error.kind,
            code=error.exit_code,
            retryable=error.retryable,
            message=error.message,
            action=error.action,
        )
    return outcome
