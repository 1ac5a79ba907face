"""The commands that run steps under a scheduler, from a compiled plan. Standard library only: DAGs import this."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from zigong.pipeline import SCHEDULES

REFUSED = (2, 3)  # exit codes of configuration and data errors (zigong.errors): the same call fails again


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The output of ``zigong compile`` for schedulers: everything needed to start each step as a command.

    Attributes:
        root: absolute root of the lakehouse; jobs start in other working directories.
        timezone: the recipe's business time zone; schedules and dates are in it.
    """

    recipe: str
    overrides: tuple[str, ...]
    name: str
    digest: str
    delta_package: str
    steps: tuple[str, ...]
    root: str = ""
    timezone: str = "UTC"

    def outcome_file(self, run_id: str, step: str) -> Path:
        """The file in which a step of a run writes its outcome."""
        return Path(self.root, "_runs", run_id, "steps", step, "outcome.json")


def scheduled_steps(plan: Plan, schedule: str) -> tuple[str, ...]:
    """The steps a schedule runs for a recipe: no base is trained if it names one, and score sets its own date."""
    return tuple(step for step in SCHEDULES[schedule] if step in plan.steps or step == "score_users")


def job_arguments(plan: Plan, *, run_id: str, schedule: str | None = None, retry: bool = False) -> list[str]:
    """The arguments that every job of a run needs.

    Args:
        plan: the compiled recipe.
        run_id: the run to join.
        schedule: the schedule that starts it; see ``SCHEDULES``.
        retry: whether it is a retry, which skips a finished step. The first try of a task, also after it was
            cleared, runs it again.
    """
    overrides = [*plan.overrides, f"lakehouse.root={plan.root}"]
    scheduled = ["--schedule", schedule] if schedule else []
    named = ["--recipe", plan.recipe, "--run-id", run_id, *_settings(overrides)]
    return [*named, *scheduled, *(["--retry"] if retry else [])]


def is_retry(*, try_number: int, max_tries: int, retries: int) -> bool:
    """Whether a try of an Airflow task repeats one that failed; clearing a task allows ``retries`` further tries."""
    return try_number > max_tries - retries + 1


def submission_name(run_id: str, step: str, try_number: int) -> str:
    """The id of a Ray job."""
    return f"{run_id}-{step}-{try_number}"


def interval_arguments(schedule: str, step: str, first: date | None, end: date | None) -> list[str]:
    """The arguments that limit a scheduled step to its data interval [first, end), dates of the business time zone.

    - daily: nothing known from ``end`` on exists (``as_of``), so that labels mature night by night. Only
      ``ingest_events`` is limited to the known dates of the interval: a day's events change the labels of every
      open window, so labels and sequences are built for all observation dates of the recipe.
    - score: ``end`` is the observation date T that is scored, and nothing else is built.
    - retrain, and any run without an interval: the unchanged recipe.
    """
    if first is None or end is None:
        return []
    if schedule == "daily":
        known = ["--from-date", first.isoformat(), "--to-date", end.isoformat()]
        return [*_settings([f"as_of={end}"]), *(known if step == "ingest_events" else [])]
    if schedule == "score":
        observed = ["--from-date", end.isoformat(), "--to-date", (end + timedelta(days=1)).isoformat()]
        return [*_settings([f"as_of={end}", f"observations.score={end}"]), *observed]
    return []


def run_name(dag_id: str, dag_run_id: str) -> str:
    """The ZiGong run id of a scheduler's run: deterministic, unique, and valid for ``zigong.runs.run``."""
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{dag_id}-{dag_run_id}")[:64]
    return f"{readable}-{hashlib.sha256(f'{dag_id} {dag_run_id}'.encode()).hexdigest()[:12]}"


def spark_command(
    plan: Plan, step: str, arguments: Sequence[str], *, home: str, spark_submit: Sequence[str], jars: str | None = None
) -> list[str]:
    """The spark-submit command of a Spark job.

    Args:
        home: folder that holds jobs/ and dist/zigong.zip.
        spark_submit: the program, and arguments of the cluster such as ``--master yarn``.
        jars: folder of Delta's jars, for machines that cannot resolve the package.

    Raises:
        FileNotFoundError: the folder holds no jar.
    """
    delta = ["--jars", _jars_in(jars)] if jars else ["--packages", plan.delta_package]
    submit = [*spark_submit, *delta, "--conf", "spark.log.level=WARN", "--py-files", f"{home}/dist/zigong.zip"]
    return [*submit, f"{home}/jobs/{step}.py", *arguments]


def ray_command(
    step: str, arguments: Sequence[str], *, home: str, address: str, ray: str, submission: str
) -> list[str]:
    """The ``ray job submit`` command of a Ray job, known to the cluster as ``submission``; it ships dist/zigong.zip."""
    archive = f"{home}/dist/zigong.zip"
    submit = [ray, "job", "submit", "--address", address, "--submission-id", submission, "--working-dir", archive]
    return [*submit, "--", *local_command(step, arguments, python="python")]


def local_command(step: str, arguments: Sequence[str], *, python: str) -> list[str]:
    """The command of a job that runs on this machine."""
    return [python, "-m", f"jobs.{step}", *arguments]


def worth_retrying(exit_code: int, outcome: Mapping[str, Any] | None) -> bool:
    """Whether a failed command may succeed the next time.

    Args:
        exit_code: of the command; some launchers always return 1.
        outcome: what the job wrote to outcome.json; None when it ended before that. Where it is ok, another process of
            the run wrote it, and the next try finds the step finished.
    """
    if outcome is not None and outcome["kind"] == "ok":
        return True
    if outcome is not None:
        return bool(outcome["retryable"])
    return exit_code not in REFUSED


def write_plan(plan: Plan, path: str | Path) -> None:
    """Writes plan.json."""
    Path(path).write_text(json.dumps(asdict(plan), indent=2) + "\n", encoding="utf-8")


def read_plan(path: str | Path) -> Plan:
    """Reads plan.json.

    Raises:
        FileNotFoundError: the recipe was not compiled; the message shows the command.
        ValueError: the plan names no lakehouse.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist; make it with `zigong compile RECIPE --output {file}`")
    content = json.loads(file.read_text(encoding="utf-8"))
    plan = Plan(**{**content, "overrides": tuple(content["overrides"]), "steps": tuple(content["steps"])})
    if not plan.root:
        raise ValueError(f"{file} names no lakehouse root; write it again with `zigong compile RECIPE --output {file}`")
    return plan


def _settings(overrides: Sequence[str]) -> list[str]:
    return [argument for override in overrides for argument in ("--set", override)]


def _jars_in(folder: str) -> str:
    jars = sorted(str(jar) for jar in Path(folder).glob("*.jar"))
    if not jars:
        raise FileNotFoundError(f"{folder} holds no .jar; copy Delta's there (docs/operations.md, Air-gapped clusters)")
    return ",".join(jars)
