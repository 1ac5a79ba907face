"""Sequences to instruction samples, in Arrow batches on the Spark workers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from schemas.contracts import table_contract
from zigong.instructions.branches import Branch, Told, branch_of
from zigong.instructions.computed import Computed
from zigong.instructions.encode import LineEncoder
from zigong.instructions.render import Event, local_date, render_history, render_time
from zigong.instructions.tasks import Tasks, load_tasks
from zigong.instructions.templates import Question, Template
from zigong.recipe import Horizon, Instructions, Recipe

Row = dict[str, Any]
COPIED = ("sequence_id", "user_id", "person_id", "observation_at", "observation_date", "user_bucket")


@dataclass(frozen=True, kw_only=True)
class RenderPlan:
    """Everything a worker needs to turn rows into text and ids."""

    settings: Instructions
    horizon: Horizon
    timezone: str
    tokenizer_folder: str
    context_length: int

    @classmethod
    def of(cls, recipe: Recipe, tokenizer_folder: str) -> RenderPlan:
        """The plan of a recipe: the first horizon is the one that is asked."""
        return cls(
            settings=recipe.instructions,
            horizon=recipe.labels.horizons[0],
            timezone=recipe.business_timezone,
            tokenizer_folder=tokenizer_folder,
            context_length=min(recipe.agent.context_length, recipe.finetune.context_length),
        )

    @cached_property
    def tasks(self) -> Tasks:
        """The questions named by the recipe."""
        return load_tasks(self.settings)

    @property
    def template(self) -> Template:
        """The main question; it words the lines around every question."""
        return self.tasks.main


def instruction_samples(sequences: DataFrame, plan: RenderPlan, *, trains: Column | None = None) -> DataFrame:
    """Renders and encodes every sequence.

    Args:
        sequences: rows of user_sequences.
        plan: questions, horizon, time zone and tokenizer.
        trains: whether a sequence is in the train split, which alone is asked the auxiliary questions; None: nobody is.

    Returns:
        Rows of the contract instruction_samples: one per sequence and question.
    """
    contract = table_contract("instruction_samples")
    asked = F.lit(False) if trains is None else F.coalesce(trains, F.lit(False))
    wanted = sequences.select(*COPIED, "profile", "counts", "events", asked.alias("trains"))
    return wanted.mapInArrow(_rows_in_batches(_Sampler(plan), contract.column_names), contract.ddl)


def history_lines(timelines: DataFrame, settings: Instructions, *, cutoff: date, timezone: str) -> DataFrame:
    """Renders whole timelines for pre-training.

    Args:
        timelines: columns ``user_id`` and ``events``, known before ``cutoff``.

    Returns:
        Columns ``user_id`` and ``lines array<string>``; the last line is the gap to the cut-off, as before a question.
    """
    renderer = _Historian(settings, cutoff, timezone)
    wanted = timelines.select("user_id", "events")
    return wanted.mapInArrow(_rows_in_batches(renderer, ("user_id", "lines")), "user_id string, lines array<string>")


@dataclass(frozen=True)
class _Historian:
    settings: Instructions
    cutoff: date
    timezone: str

    def __call__(self) -> Callable[[Row], list[Row]]:
        template = load_tasks(self.settings).main
        zone = ZoneInfo(self.timezone)

        def lines(row: Row) -> list[Row]:
            told = render_history(row["events"], template=template, settings=self.settings, zone=zone)
            last = local_date(row["events"][-1]["event_at"], zone)
            gap = render_time(last, self.cutoff, template=template, settings=self.settings)
            return [{"user_id": row["user_id"], "lines": [*told, gap]}]

        return lines


@dataclass(frozen=True)
class _Sampler:
    plan: RenderPlan

    def __call__(self) -> Callable[[Row], list[Row]]:
        """Opened once a worker: the tokenizer is read there, never shipped."""
        plan = self.plan
        encoder = LineEncoder.of(plan.tokenizer_folder)
        zone = ZoneInfo(plan.timezone)
        return lambda row: sample_rows(row, plan, encoder, zone)


def sample_row(row: Mapping[str, Any], plan: RenderPlan, encoder: LineEncoder, zone: ZoneInfo) -> Row:
    """One sequence and the main question as one row of instruction_samples; Spark and the service make the same."""
    return _row_of(plan.tasks.main, row, _told_within(row, plan, encoder, zone), plan, encoder, zone)


def sample_rows(row: Mapping[str, Any], plan: RenderPlan, encoder: LineEncoder, zone: ZoneInfo) -> list[Row]:
    """One sequence as rows of instruction_samples: one per question, behind one history, the main one first."""
    auxiliary = plan.tasks.auxiliary_of(row["sequence_id"]) if row["trains"] else []
    told = _told_within(row, plan, encoder, zone)
    return [_row_of(question, row, told, plan, encoder, zone) for question in (plan.tasks.main, *auxiliary)]


def _row_of(
    question: Question, row: Mapping[str, Any], told: Told, plan: RenderPlan, encoder: LineEncoder, zone: ZoneInfo
) -> Row:
    branch = _branch(question, row, told, plan, zone)
    text = "\n".join((*told.history, *branch.lines))
    computed = branch.computed or Computed()
    answer_ids = None if computed.answer is None else encoder.completion(computed.answer)
    identity = [row["sequence_id"], question.task, question.name, question.language, plan.horizon.name, encoder.digest]
    if len(question.phrasings) > 1:
        identity.append(f"phrasing {branch.phrasing}")
    return {
        **{name: row[name] for name in COPIED},
        "sample_id": _digest("|".join(identity)),
        "task": question.task,
        "template": question.name,
        "language": question.language,
        "phrasing": branch.phrasing,
        "horizon": plan.horizon.name,
        "prompt": text,
        "choices": list(question.choices),
        "answer": computed.answer,
        "answer_ids": answer_ids,
        "unanswered": computed.unanswered,
        "input_ids": [*told.history_ids, *encoder.branch(branch.lines)],
        "history_tokens": len(told.history_ids),
        "max_tokens": _max_tokens(question, plan, encoder, answer_ids),
        "text_hash": _digest(text),
    }


def _max_tokens(question: Question, plan: RenderPlan, encoder: LineEncoder, answer_ids: list[int] | None) -> int:
    """What the context leaves for a prompt: its longest answer is set aside, and one end token, which may count."""
    answers = [encoder.completion(choice) for choice in question.choices] or [answer_ids or []]
    return plan.context_length - max(map(len, answers)) - 1


def _branch(question: Question, row: Mapping[str, Any], told: Told, plan: RenderPlan, zone: ZoneInfo) -> Branch:
    return branch_of(
        question,
        told,
        dict(row["profile"] or {}),
        row["sequence_id"],
        template=plan.template,
        settings=plan.settings,
        horizon=plan.horizon,
        zone=zone,
    )


def _told_within(row: Mapping[str, Any], plan: RenderPlan, encoder: LineEncoder, zone: ZoneInfo) -> Told:
    """The history with the oldest calendar months folded until the prompt of the main question fits.

    The newest month never folds. What does not fit even then is returned as it is: the contract sends it to quarantine,
    and nothing is cut. Auxiliary questions stand behind the same history; one whose prompt is too long there goes to
    quarantine too, so they never change what the main prompt tells.
    """
    max_tokens = _max_tokens(plan.template, plan, encoder, None)
    events, folded = list(row["events"]), row["counts"]["folded"]
    while True:
        told = _told(events, folded, row["observation_at"], plan, encoder, zone)
        branch = encoder.branch(_branch(plan.template, row, told, plan, zone).lines)
        if len(told.history_ids) + len(branch) <= max_tokens:
            return told
        if not (younger := _without_oldest_month(events, zone)):
            return told
        events, folded = younger, folded + len(events) - len(younger)


def _told(
    events: list[Event], folded: int, observation_at: datetime, plan: RenderPlan, encoder: LineEncoder, zone: ZoneInfo
) -> Told:
    template, settings = plan.template, plan.settings
    history = render_history(events, template=template, settings=settings, zone=zone)
    last = local_date(events[-1]["event_at"], zone) if events else None
    on = local_date(observation_at, zone)
    return Told(
        events=events,
        folded=folded,
        history=tuple(history),
        history_ids=encoder.history(history),
        gap=render_time(last, on, template=template, settings=settings),
        on=on,
    )


def _without_oldest_month(events: Sequence[Event], zone: ZoneInfo) -> list[Event]:
    """The events after the calendar month of the first one; empty when it is the only month."""
    months = [local_date(event["event_at"], zone).replace(day=1) for event in events]
    return [event for event, month in zip(events, months, strict=True) if month != months[0]]


def _rows_in_batches(
    opened: Callable[[], Callable[[Row], list[Row]]], columns: tuple[str, ...]
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def transform(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        render, schema = opened(), _schema(columns)
        for batch in batches:
            rows = [made for row in batch.to_pylist() for made in render(row)]
            if rows:
                yield pa.RecordBatch.from_pylist(rows, schema=schema)

    return transform


def _schema(columns: tuple[str, ...]) -> pa.Schema:
    """The Arrow types of our output columns; Spark checks them against the contract."""
    known = {
        "observation_at": pa.timestamp("us", tz="UTC"),
        "observation_date": pa.date32(),
        "user_bucket": pa.int32(),
        "history_tokens": pa.int32(),
        "max_tokens": pa.int32(),
        "phrasing": pa.int32(),
        "answer_ids": pa.list_(pa.int32()),
        "input_ids": pa.list_(pa.int32()),
        "choices": pa.list_(pa.string()),
        "lines": pa.list_(pa.string()),
    }
    return pa.schema([(name, known.get(name, pa.string())) for name in columns])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
