"""Prompts of the benchmark: instruction, one example, the record after ``Text:``, and ``Answer:``.

Numbers are written as in the raw file, or as bands: a tokenizer of complete words has no word for a number that it has
not seen, while every number falls into a band.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from zigong.calm.records import Record
from zigong.calm.task_files import Task

Numbers = Literal["written", "bands"]
TEXT, ANSWER, EXAMPLE = "Text:", "Answer:", "Example:"
BANDS = 8


@dataclass(frozen=True, kw_only=True)
class Bands:
    """Words for the numbers of one column.

    Attributes:
        exact: numbers with a word of their own, ascending; each makes up at least a band's share of the training rows.
        edges: edges between the bands of all other numbers, ascending.
    """

    exact: tuple[float, ...]
    edges: tuple[float, ...]

    @classmethod
    def fitted(cls, numbers: Sequence[float], bands: int = BANDS) -> Bands:
        """Bands with about equal numbers of training rows; columns of few numbers keep them as they are."""
        counts = Counter(numbers)
        if len(counts) <= bands:
            return cls(exact=tuple(sorted(counts)), edges=())
        exact = tuple(sorted(number for number, count in counts.items() if count * bands >= len(numbers)))
        rest = [number for number in numbers if number not in exact]
        if not rest:
            return cls(exact=exact, edges=())
        shares = np.linspace(0, 1, max(2, round(bands * len(rest) / len(numbers)) + 1))[1:-1]
        edges = np.unique(np.quantile(rest, shares, method="inverted_cdf"))
        return cls(exact=exact, edges=tuple(float(edge) for edge in edges))

    def word(self, number: float) -> str:
        """The number itself, or its band; without bands, the nearest number that has a word."""
        if number in self.exact:
            return f"{number:g}"
        if not self.edges:
            return f"{min(self.exact, key=lambda known: abs(known - number)):g}" if self.exact else "any"
        place = int(np.searchsorted(self.edges, number, side="right"))
        if place == 0:
            return f"below {self.edges[0]:g}"
        if place == len(self.edges):
            return f"{self.edges[-1]:g} or more"
        return f"{self.edges[place - 1]:g} to {self.edges[place]:g}"


@dataclass(frozen=True, kw_only=True)
class PromptForm:
    """How the records of a task become prompts.

    Attributes:
        task: the task.
        bands: bands of each numeric column; None: numbers as in the raw file.
        example: whether the prompt contains the task's example.
    """

    task: Task
    bands: dict[str, Bands] | None
    example: bool

    @classmethod
    def fitted(cls, task: Task, train: Sequence[Record], *, numbers: Numbers, example: bool) -> PromptForm:
        """The form whose bands are fitted on training records."""
        columns = [(place, column) for place, column in enumerate(task.features) if column.kind == "number"]
        bands = {
            column.column: Bands.fitted([float(record.values[place]) for record in train]) for place, column in columns
        }
        return cls(task=task, bands=bands if numbers == "bands" else None, example=example)

    def fields(self, values: Sequence[str]) -> list[str]:
        """One line of the record per feature."""
        return [
            f"{column.shown}: {self._value(column.column, column.codes.get(value, value))}"
            for column, value in zip(self.task.features, values, strict=True)
        ]

    def prompt(self, values: Sequence[str]) -> str:
        """The complete prompt; the answer follows after a space."""
        lines = [self.task.instruction]
        if self.example:
            shown = self.task.example
            lines += [EXAMPLE, *self.fields(shown.values), f"{ANSWER} {shown.answer}"]
        first, *rest = self.fields(values)
        return "\n".join([*lines, f"{TEXT} {first}", *rest, ANSWER])

    def _value(self, column: str, value: str) -> str:
        banded = self.bands is not None and column in self.bands
        return self.bands[column].word(float(value)) if banded and self.bands is not None else value
