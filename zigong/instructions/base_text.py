"""All text that a base is trained on: the lines of its users, its tokenizer's words, its questions' answers."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from pyspark.sql import DataFrame

from zigong.instructions.corpus import (
    Answers,
    Lines,
    fixed_lines,
    history_lines,
    known_answers,
    read_lines,
    vocabulary_lines,
    write_lines,
)
from zigong.instructions.numbers import NumberWords
from zigong.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class BaseText:
    """The text of a base, all of it known before the train cut-off.

    Attributes:
        lines: rendered timeline of each user, in order of user_id.
        vocabulary: distinct lines that the tokenizer must encode without unknown words.
        fixed: constant texts of the prompts, one token each.
        answers: possible answers by question name.
    """

    lines: Lines
    vocabulary: list[str]
    fixed: list[str]
    answers: Answers


def timeline_lines(timelines: DataFrame, recipe: Recipe, *, numbers: NumberWords | None, scratch: Path) -> Lines:
    """The rendered timeline of each user, in order of user_id; the last line is the gap to the cut-off.

    The arguments are those of :func:`base_text`.
    """
    cutoff = recipe.observations.train.last
    rendered = history_lines(
        timelines, recipe.instructions, cutoff=cutoff, timezone=recipe.business_timezone, numbers=numbers
    )
    write_lines(rendered, scratch)
    lines = read_lines(scratch)
    shutil.rmtree(scratch)
    return lines


def base_text(
    timelines: DataFrame, profiles: DataFrame, recipe: Recipe, *, numbers: NumberWords | None, scratch: Path
) -> BaseText:
    """Renders the timelines and collects the words and answers of their questions.

    Args:
        timelines: columns ``user_id``, ``events``, ``event_loans`` and ``loans``, complete up to the last training
            date.
        profiles: rows of user_profiles.
        numbers: bins of numbers; None: numbers are rounded.
        scratch: folder for the rendered lines; removed, since behaviour text must not be kept outside the tables.
    """
    lines = timeline_lines(timelines, recipe, numbers=numbers, scratch=scratch)
    answers = known_answers(profiles, recipe, numbers)
    return BaseText(
        lines=lines,
        vocabulary=vocabulary_lines(lines, profiles, recipe, answers, numbers),
        fixed=fixed_lines(recipe),
        answers=answers,
    )
