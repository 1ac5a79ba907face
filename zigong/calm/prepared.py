"""A task ready for models: its splits as records, and the form of its prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zigong.calm.prompts import Numbers, PromptForm
from zigong.calm.records import Record, read_raw
from zigong.calm.splits import balanced, split_rows
from zigong.calm.task_files import Task


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A task with its splits.

    Attributes:
        task: the task.
        form: form of its prompts, fitted on the training records.
        train: training records; with ``balance``, some occur several times.
        validation: validation records; nothing is fitted on them.
        test: test records.
    """

    task: Task
    form: PromptForm
    train: Sequence[Record]
    validation: Sequence[Record]
    test: Sequence[Record]


def prepared(task: Task, folder: Path, *, numbers: Numbers, example: bool) -> Prepared:
    """Reads the raw file of a task and divides it.

    Raises:
        ConfigError: the raw file is absent.
        DataError: it is not the task's.
    """
    raw = read_raw(task, folder)
    split = split_rows(raw.truths, subsample=task.subsample)
    drawn = raw.records(split.train)
    return Prepared(
        task=task,
        form=PromptForm.fitted(task, drawn, numbers=numbers, example=example),
        train=raw.records(balanced(split.train, raw.truths)) if task.balance else drawn,
        validation=raw.records(split.validation),
        test=raw.records(split.test),
    )
