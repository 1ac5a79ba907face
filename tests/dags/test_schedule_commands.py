"""The commands and arguments that schedules start steps with."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zigong.commands import (
    Plan,
    interval_arguments,
    is_retry,
    job_arguments,
    ray_command,
    read_plan,
    run_name,
    scheduled_steps,
    spark_command,
    worth_retrying,
    write_plan,
)
from zigong.errors import ConfigError, ConflictError, DataError, InfraError
from zigong.pipeline import SCHEDULES, STEPS
from zigong.recipe import load_recipe
from zigong.runs.launch import parse_arguments
from zigong.runs.run import RUN_ID

REPOSITORY = Path(__file__).resolve().parents[2]
PLAN = Plan(
    recipe=str(REPOSITORY / "recipes/demo.yaml"),
    overrides=("seed=9",),
    name="demo",
    digest="0" * 64,
    delta_package="io.delta:delta:1",
    steps=tuple(step.name for step in STEPS),
    root="/lake",
    timezone="UTC",
)


@given(st.text(max_size=200), st.text(max_size=200))
def test_every_dag_run_has_a_valid_zigong_run_id(first: str, second: str) -> None:
    names = {run_name("zigong_daily", first), run_name("zigong_daily", second), run_name("zigong_score", first)}
    assert all(RUN_ID.match(f"{name}-backfill") for name in names)
    assert len(names) == (2 if first == second else 3)


@pytest.mark.parametrize("schedule", list(SCHEDULES))
@settings(deadline=None, max_examples=10)
@given(first=st.dates(date(2020, 1, 1), date(2030, 1, 1)))
def test_the_arguments_of_every_scheduled_step_make_a_valid_recipe(schedule: str, first: date) -> None:
    end = (first.replace(day=1) + timedelta(days=32)).replace(day=1) if schedule == "score" else first + timedelta(1)
    for step in SCHEDULES[schedule]:
        arguments = [*job_arguments(PLAN, run_id="r"), *interval_arguments(schedule, step, first, end)]
        given_ = parse_arguments(arguments, step=step)
        recipe = load_recipe(given_.recipe, given_.set)
        assert (recipe.seed, recipe.lakehouse.root) == (9, "/lake")
        if schedule == "score":
            assert (given_.from_date, given_.to_date) == (end, end + timedelta(days=1))
            assert (recipe.observations.score, recipe.as_of) == (end, end)
        elif schedule == "daily":
            ranged = (first, end) if step == "ingest_events" else (None, None)
            assert ((given_.from_date, given_.to_date), recipe.as_of) == (ranged, end)
        else:
            assert (given_.from_date, given_.to_date, recipe.as_of) == (None, None, load_recipe(PLAN.recipe).as_of)


@pytest.mark.parametrize("schedule", list(SCHEDULES))
def test_a_run_without_an_interval_runs_the_unchanged_recipe(schedule: str) -> None:
    assert [interval_arguments(schedule, step, None, None) for step in SCHEDULES[schedule]] == [[]] * len(
        SCHEDULES[schedule]
    )


def test_schedules_keep_the_pipeline_order_and_skip_unneeded_steps() -> None:
    names = [step.name for step in STEPS]
    for steps in SCHEDULES.values():
        assert list(steps) == sorted(steps, key=names.index)
    small = Plan(**{**vars(PLAN), "steps": tuple(name for name in names if name not in {"build_base", "score_users"})})
    assert "build_base" not in scheduled_steps(small, "retrain")
    assert scheduled_steps(small, "score") == SCHEDULES["score"]


def test_spark_gets_delta_from_a_package_or_from_jars_on_disk(tmp_path: Path) -> None:
    for name in ("b.jar", "a.jar", "note.txt"):
        (tmp_path / name).touch()
    online = spark_command(PLAN, "build_labels", ["--x"], home="/h", spark_submit=["spark-submit", "--master", "yarn"])
    offline = spark_command(PLAN, "build_labels", ["--x"], home="/h", spark_submit=["s"], jars=str(tmp_path))
    assert online[:5] == ["spark-submit", "--master", "yarn", "--packages", "io.delta:delta:1"]
    assert offline[:3] == ["s", "--jars", f"{tmp_path}/a.jar,{tmp_path}/b.jar"]
    assert online[-2:] == offline[-2:] == ["/h/jobs/build_labels.py", "--x"]
    assert "--packages" not in offline


def test_a_jars_folder_without_jars_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no \.jar"):
        spark_command(PLAN, "build_labels", [], home="/h", spark_submit=["s"], jars=str(tmp_path))


def test_ray_jobs_have_their_id_and_the_archive() -> None:
    command = ray_command("train_agent", ["--x"], home="/h", address="http://a:1", ray="/b/ray", submission="id-1")
    assert command[:3] == ["/b/ray", "job", "submit"]
    assert command[command.index("--submission-id") + 1] == "id-1"
    assert command[command.index("--working-dir") + 1] == "/h/dist/zigong.zip"
    assert command[command.index("--") :] == ["--", "python", "-m", "jobs.train_agent", "--x"]


def test_the_first_try_of_a_task_and_the_first_after_it_was_cleared_are_no_retries() -> None:
    """Airflow counts tries on and raises ``max_tries`` by the number of tries that were made when a task is cleared."""
    never_cleared = [is_retry(try_number=number, max_tries=3, retries=3) for number in (1, 2, 3, 4)]
    cleared_after_two = [is_retry(try_number=number, max_tries=5, retries=3) for number in (3, 4)]
    assert never_cleared == [False, True, True, True]
    assert cleared_after_two == [False, True]
    assert parse_arguments(job_arguments(PLAN, run_id="r", schedule="daily", retry=True), step="x").retry


@pytest.mark.parametrize("error", [ConfigError, DataError, ConflictError, InfraError])
def test_without_an_outcome_the_exit_code_decides_as_the_error_would(error: type[ConfigError]) -> None:
    assert worth_retrying(error.exit_code, None) == error.retryable


def test_a_plan_is_read_back_unchanged(tmp_path: Path) -> None:
    write_plan(PLAN, tmp_path / "plan.json")
    assert read_plan(tmp_path / "plan.json") == PLAN
    assert PLAN.outcome_file("r", "build_base") == Path("/lake/_runs/r/steps/build_base/outcome.json")


def test_the_error_for_a_missing_plan_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="zigong compile"):
        read_plan(tmp_path / "plan.json")
