"""The three schedules of a lakehouse as Airflow DAGs; every step is a command of the jobs environment.

The schedulers' environment holds neither engines nor ZiGong: put ``dist/zigong.zip`` on its PYTHONPATH for
``zigong.commands``. Settings are environment variables of the workers, so that no DAG, XCom or connection contains any:

- ZIGONG_PLAN: the plan.json that ``zigong compile RECIPE --output plan.json`` wrote.
- ZIGONG_HOME: folder that holds ``jobs/`` and ``dist/zigong.zip``.
- ZIGONG_PYTHON: interpreter of the jobs environment.
- ZIGONG_RAY_ADDRESS: address for Ray jobs; without it, Ray steps start a local Ray.
- ZIGONG_SPARK_SUBMIT: program and cluster arguments; without it, spark-submit of the jobs environment.
- ZIGONG_DELTA_JARS: folder of Delta's jars, where packages cannot be resolved.
- ZIGONG_USER_KEY, or ZIGONG_USER_KEY_FILE: the key of the pseudonyms; passed only to the steps that read it.
- ZIGONG_PASS_ENV: further variables that the commands get, names or patterns separated by commas.

Of the worker's environment the commands get only what ``PASSED`` lists.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import Asset, AssetOrTimeSchedule, BaseOperator, Context, CronDataIntervalTimetable, chain, dag
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from zigong import commands, pipeline

# What a command inherits of the worker's environment, as patterns: it also holds connections and other secrets.
PASSED = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_*", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "JAVA_*", "SPARK_*",
    "HADOOP_*", "YARN_*", "KRB5*", "RAY_*", "ZIGONG_*", "CUDA_*", "NVIDIA_*", "OMP_*", "MKL_*", "SSL_CERT_*",
    "REQUESTS_CA_BUNDLE", "*_PROXY", "*_proxy",
)  # fmt: skip
MORE_PASSED = "ZIGONG_PASS_ENV"  # names or patterns that an operator adds, separated by commas
KEYS = ("ZIGONG_USER_KEY", "ZIGONG_USER_KEY_FILE")  # the secret of the pseudonyms, or the file that holds it
KEY_READERS = ("ingest_events",)

REQUEST = Asset(name="zigong_retrain_request", uri="zigong://retrain-request")
RELEASES = Asset(name="zigong_releases", uri="zigong://releases")
COMMON: dict[str, Any] = {
    "catchup": False,
    "max_active_runs": 1,
    "tags": ["zigong"],
    "default_args": {
        "retries": 3,
        "retry_delay": timedelta(minutes=2),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=30),
        "execution_timeout": timedelta(hours=24),
        "do_xcom_push": False,
    },
}


def setting(name: str) -> str:
    """A required setting.

    Raises:
        ValueError: it is missing; shown as the import error of the DAGs.
    """
    value = os.environ.get(name)
    if not value:
        raise ValueError(f"environment variable {name} is missing; docs/operations.md (Airflow) lists them all")
    return value


class StepOperator(BaseOperator):
    """Runs one step as a command; a failure that a retry cannot fix fails the task without retries."""

    def __init__(self, *, step: str, **options: Any) -> None:
        super().__init__(task_id=step, **options)
        self.step = step
        self.hook = SubprocessHook()
        self.stop: list[str] = []

    def execute(self, context: Context) -> None:
        """Runs the command of this step and reads its outcome."""
        plan = commands.read_plan(setting("ZIGONG_PLAN"))
        run_id = commands.run_name(self.dag_id, context["dag_run"].run_id)
        outcome_file = plan.outcome_file(run_id, self.step)
        before = written(outcome_file)
        command = self.command(plan, run_id, context)
        code = self.hook.run_command(command, env=jobs_environment(self.step), cwd=setting("ZIGONG_HOME")).exit_code
        if code == 0:
            return
        after = written(outcome_file)
        outcome = json.loads(after) if after and after != before else None  # not of an earlier try
        failure = AirflowException if commands.worth_retrying(code, outcome) else AirflowFailException
        reason = "no outcome of its own"
        if outcome and outcome["kind"] != "ok":
            reason = f"{outcome['kind']} error: {outcome['message']}\nnext: {outcome['action']}"
        raise failure(f"{self.step} of run {run_id} ended with exit code {code}; {reason}\noutcome: {outcome_file}")

    def command(self, plan: commands.Plan, run_id: str, context: Context) -> list[str]:
        """The command of this step for a DAG run."""
        home, python = setting("ZIGONG_HOME"), setting("ZIGONG_PYTHON")
        first, end = (context.get(f"data_interval_{edge}") for edge in ("start", "end"))
        days = [moment.in_timezone(plan.timezone).date() if moment else None for moment in (first, end)]
        schedule = self.dag_id.removeprefix("zigong_")
        retry = commands.is_retry(
            try_number=context["ti"].try_number, max_tries=context["ti"].max_tries, retries=self.retries
        )
        arguments = [
            *commands.job_arguments(plan, run_id=run_id, schedule=schedule, retry=retry),
            *commands.interval_arguments(schedule, self.step, *days),
        ]
        engine, address = pipeline.step_named(self.step).engine, os.environ.get("ZIGONG_RAY_ADDRESS")
        if engine == pipeline.SPARK:
            submit = shlex.split(os.environ.get("ZIGONG_SPARK_SUBMIT") or sibling_program(python, "spark-submit"))
            jars = os.environ.get("ZIGONG_DELTA_JARS")
            return commands.spark_command(plan, self.step, arguments, home=home, spark_submit=submit, jars=jars)
        if engine == pipeline.RAY and address:
            ray, tries = sibling_program(python, "ray"), context["ti"].try_number
            submission = commands.submission_name(run_id, self.step, tries)
            stop = [ray, "job", "stop", "--address", address]
            if tries > 1:  # the task of the try before may have died without its job
                stop_job([*stop, commands.submission_name(run_id, self.step, tries - 1)], self.step)
            self.stop = [*stop, submission]
            return commands.ray_command(
                self.step, arguments, home=home, address=address, ray=ray, submission=submission
            )
        return commands.local_command(self.step, arguments, python=python)

    def on_kill(self) -> None:
        """Stops the command, and the job it has submitted to a cluster."""
        process = self.hook.sub_process
        if process is not None and process.poll() is None:
            self.hook.send_sigterm()
        if self.stop:
            stop_job(self.stop, self.step)


def stop_job(command: list[str], step: str) -> None:
    """Stops a Ray job, if it still runs; one that ended or was never known is no error."""
    subprocess.run(command, check=False, env=jobs_environment(step), timeout=60)


def sibling_program(python: str, program: str) -> str:
    """A program of the environment that an interpreter belongs to."""
    return str(Path(python).with_name(program))


def jobs_environment(step: str) -> dict[str, str]:
    """What a step gets of the worker's environment, with the jobs' Python instead of the schedulers'."""
    python, home = setting("ZIGONG_PYTHON"), setting("ZIGONG_HOME")
    path = f"{Path(python).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    patterns = (*PASSED, *filter(None, os.environ.get(MORE_PASSED, "").replace(" ", "").split(",")))
    inherited = {name: text for name, text in os.environ.items() if any(fnmatchcase(name, part) for part in patterns)}
    if step not in KEY_READERS:
        inherited = {name: value for name, value in inherited.items() if name not in KEYS}
    return {**inherited, "PATH": path, "PYTHONPATH": f"{home}/dist/zigong.zip", "PYSPARK_PYTHON": python}


def written(file: Path) -> str | None:
    """The content of a file, None if it does not exist."""
    return file.read_text(encoding="utf-8") if file.is_file() else None


def chain_steps(schedule: str) -> None:
    """The steps of a schedule, one after the other; the last one that may change the champion announces it."""
    steps = commands.scheduled_steps(commands.read_plan(setting("ZIGONG_PLAN")), schedule)
    releasing = [step for step in steps if step in {"release_model", "refit_model"}][-1:]
    chain(*(StepOperator(step=step, outlets=[RELEASES] if step in releasing else []) for step in steps))


def local_time(cron: str) -> CronDataIntervalTimetable:
    """A schedule in the business time zone; an interval's dates are those of its two ends."""
    return CronDataIntervalTimetable(cron, timezone=commands.read_plan(setting("ZIGONG_PLAN")).timezone)


@dag(schedule=local_time("0 4 * * *"), **COMMON)
def zigong_daily() -> None:
    """Every night: the events that became known the day before, then the labels and sequences they touch."""
    chain_steps("daily")


@dag(schedule=AssetOrTimeSchedule(timetable=local_time("0 12 2 * *"), assets=[REQUEST]), **COMMON)
def zigong_retrain() -> None:
    """Every month, and on an event of the asset `zigong_retrain_request`: the compiled recipe, up to a release."""
    chain_steps("retrain")


@dag(schedule=local_time("0 8 1 * *"), **COMMON)
def zigong_score() -> None:
    """On the first of every month: the champion's Behavior Card scores at that observation date."""
    chain_steps("score")


zigong_daily()
zigong_retrain()
zigong_score()
