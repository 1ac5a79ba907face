"""The benchmark: models and baselines on the test records of each task, with their figures and stored answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from zigong.calm.answers import Answers, write_answers
from zigong.calm.baselines import baseline_answers
from zigong.calm.measures import Outcome, figures_of_seeds
from zigong.calm.models import answers_of, tuned
from zigong.calm.prepared import Prepared, prepared
from zigong.calm.prompts import Numbers
from zigong.calm.task_files import TASKS, Task, load_task
from zigong.errors import ConfigError
from zigong.evaluation.bootstrap import Interval

FIRST_SEED = 20
MODES = ("per_task", "multi_task")

StoredAnswers = dict[tuple[str, str], list[Answers]]  # by task and model, one per seed


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table.

    Attributes:
        task: name of the task.
        model: name of the model.
        figures: its figures; published ones have no interval, their ends equal the value.
    """

    task: str
    model: str
    figures: dict[str, Interval]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the benchmark runs.

    Attributes:
        base: folder of a named base; None: the tiny one.
        modes: ``per_task``, one model per task, and ``multi_task``, one model for all of them.
        seeds: number of seeds of every model.
        example: whether prompts contain the task's example.
        torch_threads: threads of one operation.
    """

    base: Path | None
    modes: tuple[str, ...]
    seeds: int
    example: bool
    torch_threads: int


def tasks_at(folder: Path, named: Sequence[str]) -> list[str]:
    """The tasks to run: the named ones, or all whose raw file is in the folder.

    Raises:
        ConfigError: a task is unknown, or the folder has no raw file.
    """
    chosen = [load_task(name) for name in named or TASKS]
    found = [task.name for task in chosen if named or (folder / task.file).is_file()]
    if not found:
        expected = ", ".join(task.file for task in chosen)
        raise ConfigError(f"{folder} holds none of {expected}", action="give --data the folder of the raw files")
    return list(dict.fromkeys(found))


def run_benchmark(
    names: Sequence[str],
    data: Path,
    settings: Settings,
    *,
    folder: Path,
    advance: Callable[[int, int, str], None] = lambda *_: None,
) -> list[Row]:
    """Trains and evaluates everything; stores the answers as ``answers/TASK/MODEL-SEED.json``.

    Args:
        names: tasks.
        data: folder of the raw files.
        settings: what to run.
        folder: folder of answers and trained models.
        advance: called with finished trainings, all trainings, and the next one.
    """
    numbers: Numbers = "bands" if settings.base is None else "written"
    tasks = [prepared(load_task(name), data, numbers=numbers, example=settings.example) for name in names]
    answers: StoredAnswers = {}
    for task, seed in product(tasks, _seeds(settings)):
        for name, baseline in baseline_answers(task, seed=seed).items():
            answers.setdefault((task.task.name, name), []).append(baseline)
    groups = list(_groups(tasks, settings))
    for number, (mode, group, seed) in enumerate(groups):
        label = f"{mode}-{'-'.join(task.task.name for task in group)}-{seed}"
        advance(number, len(groups), label)
        place = folder / "models" / label
        model = tuned(group, settings.base, seed=seed, torch_threads=settings.torch_threads, folder=place)
        for task in group:
            for way, own in answers_of(model, task, task.test).items():
                answers.setdefault((task.task.name, f"{mode}.{way}"), []).append(own)
    for (owner, name), found in answers.items():
        for seed, one in zip(_seeds(settings), found, strict=True):
            write_answers(folder / "answers" / owner / f"{name}-{seed}.json", one)
    return [row for task in tasks for row in _rows(task.task, answers)]


def flat_figures(rows: Sequence[Row]) -> dict[str, float]:
    """Every figure by ``calm.TASK.MODEL.MEASURE``, with ``_low`` and ``_high`` of measured ones, and their count."""
    flat: dict[str, float] = {}
    for row in rows:
        for measure, interval in row.figures.items():
            name = f"calm.{row.task}.{row.model}.{measure}"
            flat[name] = interval.value
            if row.model != "paper":
                flat |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
    ours = [row for row in rows if row.model.startswith(MODES)]
    return {**flat, "calm_rows": len(ours)}


def _groups(tasks: Sequence[Prepared], settings: Settings) -> Iterator[tuple[str, list[Prepared], int]]:
    """Mode, tasks and seed of every model."""
    for mode in settings.modes:
        for group in [[task] for task in tasks] if mode == "per_task" else [list(tasks)]:
            for seed in _seeds(settings):
                yield mode, group, seed


def _seeds(settings: Settings) -> range:
    return range(FIRST_SEED, FIRST_SEED + settings.seeds)


def _rows(task: Task, answers: StoredAnswers) -> list[Row]:
    """The rows of one task: ours, the baselines, and the paper's."""
    measured = [
        Row(task=task.name, model=model, figures=_measured(found, task))
        for (owner, model), found in answers.items()
        if owner == task.name
    ]
    ours = [row for row in measured if row.model.startswith(MODES)]
    others = [row for row in measured if not row.model.startswith(MODES)]
    cited = {name: Interval(value=value, low=value, high=value) for name, value in task.published.model_dump().items()}
    return [*ours, *others, Row(task=task.name, model="paper", figures=cited)]


def _measured(found: Sequence[Answers], task: Task) -> dict[str, Interval]:
    return figures_of_seeds([Outcome.of(one, task) for one in found], seed=FIRST_SEED)
