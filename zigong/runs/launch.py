"""The entry point of every job: one argument style, one outcome.

A job module passes its step's name and a function of :class:`Job`; everything visible to a scheduler happens here.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from zigong.console import LOG, say_error, set_up_logging
from zigong.errors import ConflictError, ZigongError, full_disk
from zigong.lakehouse.attempts import Attempt
from zigong.lakehouse.erasures import ended_erasures, refuse_overtaken
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.staging import remove_former_staging
from zigong.pipeline import SCHEDULES
from zigong.recipe import load_recipe
from zigong.runs.dates import Dates
from zigong.runs.job import Job, runs_folder
from zigong.runs.lease import take_lease
from zigong.runs.lineage_events import begun, emit, ended
from zigong.runs.run import Outcome, Run, open_run
from zigong.runs.set_back import go_on
from zigong.runs.step_metrics import publish_metrics

Body = Callable[[Job], None]
STALE_DAYS = 62  # of as_of at the start of a scheduled training: two months


def parse_arguments(arguments: Sequence[str] | None, *, step: str) -> argparse.Namespace:
    """Parses the one argument style all jobs share."""
    parser = argparse.ArgumentParser(prog=step, description=f"ZiGong job {step}")
    parser.add_argument("--recipe", required=True, help="recipe file")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help="override a field of the recipe")
    parser.add_argument("--run-id", help="run to join or resume; by default a new one")
    parser.add_argument("--from-date", type=date.fromisoformat, help="first date (known_date or T), included")
    parser.add_argument("--schedule", choices=sorted(SCHEDULES), help="the schedule that starts the job, if one does")
    parser.add_argument(
        "--retry", action="store_true", help="do not run a finished step; without this option it is run again"
    )
    parser.add_argument("--to-date", type=date.fromisoformat, help="end of the dates, excluded")
    return parser.parse_args(arguments)


def main(step: str, body: Body, arguments: Sequence[str] | None = None) -> None:
    """Runs a job as a program: exit code and outcome.json report how it ended."""
    given = parse_arguments(arguments, step=step)
    try:
        recipe = load_recipe(given.recipe, given.set)
        dates = Dates(first=given.from_date, end=given.to_date)
        run = open_run(recipe, runs_folder(recipe), given.run_id)
        set_up_logging(run.run_id)
        go_on(run, run.folder.parent.parent)
    except ZigongError as error:
        say_error(error.kind, error.message, error.action)
        raise SystemExit(error.exit_code) from error
    finished = run.outcome(step)
    if given.retry and finished is not None and finished.code == 0:
        LOG.info("step was finished before", extra={"fields": {"step": step}})
        return
    if given.schedule:
        run.ask(SCHEDULES[given.schedule][-1])
    outcome = run_step(step, body, run, dates, rerun=True, schedule=given.schedule, trains=given.schedule == "retrain")
    if outcome.code:
        recorded = run.folder / "outcome.json" if outcome.kind != ConflictError.kind else None
        say_error(outcome.kind, outcome.message, outcome.action, outcome=recorded)
        raise SystemExit(outcome.code)


def run_step(
    step: str,
    body: Body,
    run: Run,
    dates: Dates | None = None,
    *,
    rerun: bool = False,
    schedule: str | None = None,
    trains: bool = False,
) -> Outcome:
    """Runs one step in this process and records its outcome; errors of ZiGong end here, others are re-raised.

    The process holds the lease of the run meanwhile. Where another one holds it, or has taken it over, the outcome is a
    conflict that is not recorded: the files of the run belong to the other one. The same holds if users are erased
    meanwhile: nothing that was read before is published, and the run is set back when it is opened again.

    Args:
        step: name of the step, or of another use of a run such as a replay.
        body: what it does.
        run: the run it belongs to.
        dates: the dates it is limited to.
        schedule: the schedule that starts it.
        trains: whether the run goes on to train a model.
        rerun: whether a finished step is run again on request, so that it replaces what it has published.
    """
    began = _Began.now(step)
    job = Job(
        step=step,
        run=run,
        paths=LakehousePaths.at(run.recipe.lakehouse.root),
        dates=dates or Dates(),
        schedule=schedule,
        trains=trains,
    )
    root = run.folder.parent.parent
    try:
        known = ended_erasures(root)
        lease = take_lease(run.folder, step)
    except ConflictError as busy:
        LOG.warning("step refused", extra={"fields": {"step": step, "reason": busy.message}})
        return began.outcome(job, busy)
    with lease:
        finished = run.outcome(step)
        if rerun and finished is not None and finished.code == 0:
            run.supersede(step)

        def require_held() -> None:
            lease.require_held()
            refuse_overtaken(root, known)

        job.attempt = Attempt(token=lease.token, rerun=run.reruns(step), require_held=require_held)
        remove_former_staging(job.paths, run.run_id, lease.token)
        LOG.info("step started", extra={"fields": {"step": step, "attempt": lease.token}})
        emit(job, begun(job, began.at))
        _warn_of_stale_date(job)
        return _worked(job, body, began)


def _warn_of_stale_date(job: Job) -> None:
    """Warns where a schedule runs with a date that was right when somebody wrote it down."""
    age = (datetime.now(ZoneInfo(job.recipe.business_timezone)).date() - job.recipe.as_of).days
    if job.schedule == "retrain" and age > STALE_DAYS:
        job.warn(
            f"as_of {job.recipe.as_of} is {age} days old, and what became known since is not used: set as_of, compile "
            "the recipe again"
        )


def _worked(job: Job, body: Body, began: _Began) -> Outcome:
    """Runs the body under the lease and records how it ended."""
    error: ZigongError | None = None
    unexpected: Exception | None = None
    try:
        body(job)
        job.attempt.require_held()
    except ZigongError as caught:
        error = caught
    except Exception as caught:  # recorded for launchers, then raised again below, unless the disk is full
        error = full_disk(caught)
        unexpected = None if error else caught
    try:
        job.attempt.require_held()
    except ConflictError as lost:  # whatever went wrong, this is why
        return began.outcome(job, lost)
    ended_as = began.outcome(job, error, unexpected)
    _told(job, ended_as)
    outcome = _recorded(job.run, replace(ended_as, warnings=job.warnings))
    fields = {"step": outcome.step, "kind": outcome.kind, "seconds": outcome.seconds}
    LOG.info("step ended", extra={"fields": fields})
    if unexpected:
        raise unexpected
    return outcome


def _told(job: Job, outcome: Outcome) -> None:
    """Tells other systems how the step has ended; what fails here never changes how it has."""
    emit(job, ended(job, outcome))
    try:
        publish_metrics(job, outcome)
    except Exception as error:  # a full disk, or a table that cannot be opened: the outcome has its own error then
        job.warn(f"metrics were not written: {type(error).__name__}")


@dataclass(frozen=True, kw_only=True)
class _Began:
    """When a step was started."""

    step: str
    at: datetime
    clock: float

    @classmethod
    def now(cls, step: str) -> _Began:
        return cls(step=step, at=datetime.now(UTC), clock=time.monotonic())

    def outcome(self, job: Job, error: ZigongError | None, unexpected: Exception | None = None) -> Outcome:
        """How the step ended: with an error of ZiGong, an unexpected one, or without any."""
        return Outcome(
            step=self.step,
            kind="internal" if unexpected else error.kind if error else "ok",
            code=1 if unexpected else error.exit_code if error else 0,
            retryable=error.retryable if error else False,
            message=f"{type(unexpected).__name__}: {unexpected}" if unexpected else error.message if error else "",
            action="report this with the log of the run" if unexpected else error.action if error else "",
            started_at=self.at.isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - self.clock, 3),
            arguments={
                "from_date": job.dates.first.isoformat() if job.dates.first else None,
                "to_date": job.dates.end.isoformat() if job.dates.end else None,
            },
            tables=job.tables,
            takes=sorted(job.taken),
            leaves=sorted(job.left),
            attempt=job.attempt.token,
            warnings=job.warnings,
        )


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
