"""Invented raw files in the forms of the benchmark's data sets; the label depends on one feature, with noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from zigong.calm.task_files import Column, load_task

_SEPARATORS = {"space": " ", "comma": ","}


def write_raw(name: str, folder: Path, rows: int, *, seed: int = 0, bad_share: float = 0.4) -> Path:
    """Writes ``rows`` lines of a task; bad records have larger numbers, and other codes and words."""
    task, generator = load_task(name), np.random.default_rng(seed)
    labels = {choice: value for value, choice in task.answers.items()}
    choices = np.where(generator.random(rows) < bad_share, task.bad_first[0], task.bad_first[1])
    choices[:2] = task.bad_first
    lines = [[column.column for column in task.columns]] if task.header else []
    for choice in choices:
        bad = choice == task.bad
        lines.append([labels[choice] if c.kind == "label" else _cell(c, bad, generator) for c in task.columns])
    file = folder / task.file
    file.write_text("\n".join(_SEPARATORS[task.separator].join(line) for line in lines) + "\n", "utf-8")
    return file


def _cell(column: Column, bad: bool, generator: np.random.Generator) -> str:
    likely = bad == (generator.random() < 0.8)
    if column.kind == "number":
        return f"{generator.integers(1, 40) + 40 * likely}"
    if column.kind == "code":
        return list(column.codes)[-1 if likely else 0]
    return "" if column.kind == "unused" else f"{'right' if likely else 'left'}{generator.integers(3)}"
