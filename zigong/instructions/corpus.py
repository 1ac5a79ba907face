"""The pre-training text of a base: rendered timelines, and the words a tiny base's tokenizer must contain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from zigong.instructions.batches import InBatches, event_lists, in_batches
from zigong.instructions.encode import LineEncoder
from zigong.instructions.histories import event_columns, events_in, local_date_of
from zigong.instructions.numbers import NUMBER, UNFITTED, NumberWords
from zigong.instructions.prompts import RenderContext, lists_of
from zigong.instructions.render import LETTERS, asked_line, render_time, round_number, word, words_of_dates
from zigong.instructions.tasks import load_tasks
from zigong.instructions.template_files import EventAnswer, ProfileAnswer
from zigong.instructions.templates import Question, Template
from zigong.lakehouse.business_time import local_midnight
from zigong.recipe import Instructions, Recipe
from zigong.recipe.source import declared_event_types

Lines = list[list[str]]
TokenIds = npt.NDArray[np.int32]
Answers = Mapping[str, Sequence[str]]
AMOUNTS = [step * 10.0**power for power in range(-2, 12) for step in (1, 2, 5)]


def history_lines(
    timelines: DataFrame,
    settings: Instructions,
    *,
    cutoff: date,
    timezone: str,
    numbers: NumberWords | None = None,
) -> DataFrame:
    """Renders complete timelines for pre-training.

    Args:
        timelines: columns ``user_id``, ``events``, ``event_loans`` and ``loans``, known before ``cutoff``.
        numbers: bins of numbers; None: numbers are rounded.

    Returns:
        Columns ``user_id`` and ``lines array<string>``; the last line is the gap to the cut-off, as before a question.
    """
    needed = timelines.where(F.size("events") > 0).select("user_id", *event_lists(event_columns(settings)))
    historian = _Historian(settings, cutoff, timezone, numbers)
    return needed.mapInArrow(in_batches(historian), "user_id string, lines array<string>")


@dataclass(frozen=True)
class _Historian:
    settings: Instructions
    cutoff: date
    timezone: str
    numbers: NumberWords | None

    def __call__(self) -> InBatches:
        context = RenderContext(
            template=load_tasks(self.settings).main,
            settings=self.settings,
            zone=ZoneInfo(self.timezone),
            numbers=self.numbers,
        )

        def lines(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
            histories = context.render(events_in(batch, event_columns(self.settings)))
            bounds = histories.events.bounds
            last = [local_date_of(day) for day in histories.days[bounds[1:] - 1].tolist()]
            gaps = [render_time(day, self.cutoff, template=context.template, settings=context.settings) for day in last]
            text = lists_of(pa.array(histories.lines, pa.string()), histories.codes, np.diff(bounds), gaps)
            yield pa.RecordBatch.from_arrays([batch["user_id"], text], names=["user_id", "lines"])

        return lines


def write_lines(lines: DataFrame, folder: Path) -> None:
    """Writes columns ``user_id`` and ``lines`` as Parquet."""
    lines.write.mode("overwrite").parquet(str(folder))


def read_lines(folder: Path) -> Lines:
    """The lines of each user, in order of user_id, so that the training does not depend on partitions."""
    table = pq.read_table(folder, columns=["user_id", "lines"]).sort_by("user_id")
    lines: Lines = table["lines"].to_pylist()
    return lines


def fixed_lines(recipe: Recipe) -> list[str]:
    """The constant texts of the prompts, each of which is one token."""
    tasks = load_tasks(recipe.instructions)
    questions = [
        question.ask(horizon, phrasing)
        for question in tasks.questions
        for horizon in recipe.labels.horizons
        for phrasing in range(len(question.phrasings))
    ]
    return [*questions, *tasks.choices]


def known_answers(profiles: DataFrame, recipe: Recipe, numbers: NumberWords | None = None) -> Answers:
    """The possible answers of each question, by question name: choices, words of a profile field, or numbers.

    Args:
        profiles: rows of user_profiles; only rows known before the train cut-off are used.
    """
    tasks = load_tasks(recipe.instructions)
    known = _profile_values(profiles, recipe, numbers)

    def answers(question: Question) -> list[str]:
        match question.answer:
            case ProfileAnswer(field=field):
                return sorted({word(value, tasks.main) for name, value in known if name == field})
            case EventAnswer(measure="count"):
                return [str(count) for count in range(recipe.instructions.max_events + 1)]
            case EventAnswer():
                return [round_number(sign * number) for number in (0.0, *AMOUNTS) for sign in (1, -1)]
            case _:
                return list(question.choices)

    return {question.name: answers(question) for question in tasks.questions}


def vocabulary_lines(
    lines: Lines, profiles: DataFrame, recipe: Recipe, answers: Answers, numbers: NumberWords | None = None
) -> list[str]:
    """Every distinct line the tokenizer must encode without unknown words.

    The event types that the mapping declares are among them, even if none of these events has happened yet.

    Args:
        profiles: rows of user_profiles; only rows known before the train cut-off are used.
        answers: from ``known_answers``; the choices among them are fixed lines.
    """
    tasks = load_tasks(recipe.instructions)
    template = tasks.main
    distinct = {line for timeline in lines for line in timeline}
    distinct |= {word(event_type, template) for event_type in declared_event_types(recipe)}
    distinct |= {
        template.summary.format(folded=round_number(step * 10**power)) for step in (1, 2, 5) for power in range(6)
    }
    if recipe.instructions.profile:
        pairs = [
            f"{word(name, template)}={word(value, template)}"
            for name, value in _profile_values(profiles, recipe, numbers)
        ]
        distinct |= {template.profile.format(words=pair) for pair in pairs}
    if "loan" in recipe.instructions.event_fields:
        distinct |= {asked_line(number) for number in range(1, len(LETTERS) + 1)}
    distinct |= {*words_of_dates(recipe.instructions), *(_number_words(numbers, template) if numbers else ())}
    distinct |= {answer for question in tasks.questions if not question.choices for answer in answers[question.name]}
    return sorted(distinct)


def encoded(lines: Lines, encoder: LineEncoder, recipe: Recipe, answers: Answers) -> list[list[int]]:
    """Token ids of each timeline followed by a question and an arbitrary answer.

    Questions and answers alternate over users in the order of their pseudonyms and carry no label: the base learns
    which words answer a question, and nothing about any user. Timelines are complete; the last one is the first that
    reaches ``base.tiny.max_tokens``.
    """
    endings = _endings(encoder, recipe, answers)
    limit = recipe.base.tiny.max_tokens if recipe.base.tiny else None
    timelines: list[list[int]] = []
    total = 0
    for number, timeline in enumerate(lines):
        if limit is not None and total >= limit:
            break
        turn, question = divmod(number, len(endings))
        timelines.append(encoder.history(timeline) + endings[question][turn % len(endings[question])])
        total += len(timelines[-1])
    return timelines


def encoded_events(lines: Lines, encoder: LineEncoder) -> list[TokenIds]:
    """Token ids of the events of each timeline, in the form of a prompt's history, without the gap to the cut-off."""
    return [np.array(encoder.history(events), dtype=np.int32) for *events, _ in lines]


def _endings(encoder: LineEncoder, recipe: Recipe, answers: Answers) -> list[list[list[int]]]:
    """Token ids of every combination of phrasing and answer, for each question and horizon that has an answer."""
    tasks, (horizon, *further) = load_tasks(recipe.instructions), recipe.labels.horizons
    asked = [*((question, horizon) for question in tasks.questions), *((tasks.main, other) for other in further)]
    endings = [
        [
            encoder.branch([question.ask(about, phrasing)]) + encoder.completion(answer)
            for answer in answers[question.name]
            for phrasing in range(len(question.phrasings))
        ]
        for question, about in asked
    ]
    return [ways for ways in endings if ways]


def answer_tokens(encoder: LineEncoder, recipe: Recipe) -> list[list[int]]:
    """Token ids of the choices of each question that has choices; each choice is one token."""
    questions = load_tasks(recipe.instructions).questions
    return [
        [encoder.completion(choice)[0] for choice in question.choices] for question in questions if question.choices
    ]


def _number_words(numbers: NumberWords, template: Template) -> set[str]:
    """Every word of a number in an event line: an amount, days past due, or an attribute."""
    words = {UNFITTED, f"dpd{UNFITTED}"}
    for field in numbers.fields:
        start = {"days_past_due": "dpd", "attribute": f"{word(field.name, template)}="}.get(field.kind, "")
        words |= {start + number for number in field.words()}
    return words


def _profile_values(profiles: DataFrame, recipe: Recipe, numbers: NumberWords | None) -> list[tuple[str, str]]:
    """Names and values of profile fields that were known before the train cut-off, and all words of their numbers."""
    cutoff = local_midnight(F.lit(recipe.observations.train.last), recipe.business_timezone)
    pairs = profiles.where(F.col("known_at") < cutoff).select(F.explode("attributes").alias("key", "value"))
    if numbers is None:
        return [(row["key"], row["value"]) for row in pairs.distinct().collect()]
    fitted = [field for field in numbers.fields if field.kind == "profile"]
    binned = F.col("key").isin([field.name for field in fitted]) & F.col("value").rlike(rf"^(?:{NUMBER})\z")
    texts = [(row["key"], row["value"]) for row in pairs.where(~binned).distinct().collect()]
    return [*texts, *((field.name, number) for field in fitted for number in field.words())]
