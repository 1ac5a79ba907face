"""Stored answers: a JSON list of objects with the texts ``truth`` and ``logit``, as CALM stores them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zigong.errors import ConfigError, DataError
from zigong.evaluation.generation import parsed_choice
from zigong.files.atomic import write_json

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The answers of one model to one split.

    Attributes:
        truth: expected text of each record.
        logit: text that the model gave.
        p_bad: probability of the bad choice; None where the model only gave texts.
    """

    truth: tuple[str, ...]
    logit: tuple[str, ...]
    p_bad: tuple[float, ...] | None = None

    def expected(self, choices: Sequence[str]) -> Numbers:
        """Index of the expected choice of each record: [N].

        Raises:
            DataError: an expected text is none of the choices.
        """
        places = {choice.lower(): index for index, choice in enumerate(choices)}
        others = sum(truth.strip().lower() not in places for truth in self.truth)
        if others:
            raise DataError(
                f"expected truths among {', '.join(choices)}; {others} of {len(self.truth)} are others",
                action="read the answers with the task that they belong to",
            )
        return np.array([places[truth.strip().lower()] for truth in self.truth], dtype=np.int64)

    def given(self, choices: Sequence[str]) -> Numbers:
        """Index of the choice that each text contains; the number of choices stands for a miss: [N]."""
        found = [parsed_choice(text, choices) for text in self.logit]
        return np.array([len(choices) if index is None else index for index in found], dtype=np.int64)


def write_answers(file: Path, answers: Answers) -> None:
    """Writes answers; probabilities become a third key, ``p_bad``."""
    rows: list[dict[str, str | float]] = [
        {"truth": truth, "logit": logit} for truth, logit in zip(answers.truth, answers.logit, strict=True)
    ]
    if answers.p_bad is not None:
        rows = [{**row, "p_bad": p_bad} for row, p_bad in zip(rows, answers.p_bad, strict=True)]
    write_json(file, rows)


def read_answers(file: Path) -> Answers:
    """Reads stored answers; keys other than ``truth``, ``logit`` and ``p_bad`` are ignored.

    Raises:
        ConfigError: the file is absent or is not a JSON list.
        DataError: an item lacks a text, or only some items have a probability.
    """
    if not file.is_file():
        raise ConfigError(f"{file} does not exist", action="name a file of stored answers")
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{file} is not JSON: {error}", action="store the answers as a JSON list") from error
    if not isinstance(rows, list) or not rows:
        raise ConfigError(f"{file}: expected a JSON list of answers", action="store the answers as a JSON list")
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("truth", "logit")):
            raise DataError(
                f"{file}: item {number}: expected the texts truth and logit", action="complete or remove the item"
            )
    with_p = ["p_bad" in row for row in rows]
    if any(with_p) and not all(with_p):
        raise DataError(
            f"{file}: {sum(with_p)} of {len(rows)} items have p_bad", action="store p_bad for all items or for none"
        )
    return Answers(
        truth=tuple(row["truth"] for row in rows),
        logit=tuple(row["logit"] for row in rows),
        p_bad=tuple(float(row["p_bad"]) for row in rows) if all(with_p) else None,
    )
