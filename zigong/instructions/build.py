"""Sequences to instruction samples, in Arrow batches on the Spark workers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
from pyspark.sql import DataFrame

from schemas.contracts import table_contract
from zigong.instructions.encode import LineEncoder
from zigong.instructions.render import Event, Rendered, local_date, render_history, render_prompt, render_time
from zigong.instructions.templates import Template, load_template
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

    @property
    def template(self) -> Template:
        """The template named by the recipe."""
        return load_template(self.settings.template, self.settings.language)


def instruction_samples(sequences: DataFrame, plan: RenderPlan) -> DataFrame:
    """Renders and encodes every sequence.

    Args:
        sequences: rows of user_sequences.
        plan: template, horizon, time zone and tokenizer.

    Returns:
        Rows of the contract instruction_samples, one per sequence.
    """
    contract = table_contract("instruction_samples")
    wanted = sequences.select(*COPIED, "profile", "counts", "events")
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

    def __call__(self) -> Callable[[Row], Row]:
        template = load_template(self.settings.template, self.settings.language)
        zone = ZoneInfo(self.timezone)

        def lines(row: Row) -> Row:
            told = render_history(row["events"], template=template, settings=self.settings, zone=zone)
            last = local_date(row["events"][-1]["event_at"], zone)
            gap = render_time(last, self.cutoff, template=template, settings=self.settings)
            return {"user_id": row["user_id"], "lines": [*told, gap]}

        return lines


@dataclass(frozen=True)
class _Sampler:
    plan: RenderPlan

    def __call__(self) -> Callable[[Row], Row]:
        """Opened once a worker: the tokenizer is read there, never shipped."""
        plan = self.plan
        encoder = LineEncoder.of(plan.tokenizer_folder)
        zone = ZoneInfo(plan.timezone)
        return lambda row: sample_row(row, plan, encoder, zone)


def sample_row(row: Mapping[str, Any], plan: RenderPlan, encoder: LineEncoder, zone: ZoneInfo) -> Row:
    """One sequence as one row of instruction_samples; Spark and the service call the same function."""
    template, horizon = plan.template, plan.horizon
    # One token stays free for the end token, which counts where a recipe asks for it.
    answer_tokens = 1 + max(len(encoder.completion(choice)) for choice in template.choices)
    max_tokens = plan.context_length - answer_tokens
    rendered, history, branch = _rendered_within(max_tokens, row, plan, encoder, zone)
    identity = (row["sequence_id"], template.task, template.name, template.language, horizon.name, encoder.digest)
    return {
        **{name: row[name] for name in COPIED},
        "sample_id": _digest("|".join(identity)),
        "task": template.task,
        "template": template.name,
        "language": template.language,
        "horizon": horizon.name,
        "prompt": rendered.text,
        "choices": list(template.choices),
        "input_ids": history + branch,
        "history_tokens": len(history),
        "max_tokens": max_tokens,
        "text_hash": _digest(rendered.text),
    }


def _rendered_within(
    max_tokens: int, row: Mapping[str, Any], plan: RenderPlan, encoder: LineEncoder, zone: ZoneInfo
) -> tuple[Rendered, list[int], list[int]]:
    """The prompt with the oldest calendar months folded until it fits, and the ids of its history and of its branch.

    The newest month never folds. What does not fit even then is returned as it is: the contract sends it to quarantine,
    and nothing is cut.
    """
    template, events, folded = plan.template, list(row["events"]), row["counts"]["folded"]
    while True:
        rendered = render_prompt(
            events,
            dict(row["profile"] or {}),
            folded,
            row["observation_at"],
            template=template,
            settings=plan.settings,
            horizon=plan.horizon,
            zone=zone,
        )
        history, branch = encoder.history(rendered.history), encoder.branch(rendered.branch)
        if len(history) + len(branch) <= max_tokens or not (younger := _without_oldest_month(events, zone)):
            return rendered, history, branch
        events, folded = younger, folded + len(events) - len(younger)


def _without_oldest_month(events: Sequence[Event], zone: ZoneInfo) -> list[Event]:
    """The events after the calendar month of the first one; empty when it is the only month."""
    months = [local_date(event["event_at"], zone).replace(day=1) for event in events]
    return [event for event, month in zip(events, months, strict=True) if month != months[0]]


def _rows_in_batches(
    opened: Callable[[], Callable[[Row], Row]], columns: tuple[str, ...]
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def transform(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        render, schema = opened(), _schema(columns)
        for batch in batches:
            rows = [render(row) for row in batch.to_pylist()]
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
        "input_ids": pa.list_(pa.int32()),
        "choices": pa.list_(pa.string()),
        "lines": pa.list_(pa.string()),
    }
    return pa.schema([(name, known.get(name, pa.string())) for name in columns])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
