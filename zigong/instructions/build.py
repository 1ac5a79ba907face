"""Sequences to instruction samples, in Arrow batches on the Spark workers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from schemas.contracts import table_contract
from zigong.instructions.encode import LineEncoder
from zigong.instructions.folding import fold_steps, folded_to_fit
from zigong.instructions.histories import EPOCH, event_columns, events_in, local_date_of, months_of
from zigong.instructions.prompts import Prompts, Voice, intervals, lists_of
from zigong.instructions.render import Rendered, local_date, render_branch, render_prompt, render_time
from zigong.instructions.templates import Template, load_template
from zigong.recipe import Horizon, Instructions, Recipe

EVENTS_OF_A_BATCH = 500_000
NAMED_TYPES = {"choices": pa.list_(pa.string()), "max_tokens": pa.int32()}  # others are strings
Row = dict[str, Any]
InBatches = Callable[[pa.RecordBatch], Iterator[pa.RecordBatch]]
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
    wanted = sequences.select(*COPIED, "profile", "counts.folded", *_event_lists(plan.settings))
    return wanted.mapInArrow(_in_batches(_Sampler(plan, list(contract.column_names))), contract.ddl)


def history_lines(timelines: DataFrame, settings: Instructions, *, cutoff: date, timezone: str) -> DataFrame:
    """Renders whole timelines for pre-training.

    Args:
        timelines: columns ``user_id`` and ``events``, known before ``cutoff``.

    Returns:
        Columns ``user_id`` and ``lines array<string>``; the last line is the gap to the cut-off, as before a question.
    """
    wanted = timelines.where(F.size("events") > 0).select("user_id", *_event_lists(settings))
    historian = _Historian(settings, cutoff, timezone)
    return wanted.mapInArrow(_in_batches(historian), "user_id string, lines array<string>")


def _event_lists(settings: Instructions) -> list[Column]:
    """A list per field of the events that a line depends on: no other is read or sent to a worker."""
    return [F.col(f"events.{name}").alias(name) for name in event_columns(settings)]


@dataclass(frozen=True)
class _Historian:
    settings: Instructions
    cutoff: date
    timezone: str

    def __call__(self) -> InBatches:
        voice = Voice(
            template=load_template(self.settings.template, self.settings.language),
            settings=self.settings,
            zone=ZoneInfo(self.timezone),
        )

        def lines(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
            told = voice.told(events_in(batch, self.settings))
            bounds = told.events.bounds
            last = [local_date_of(day) for day in told.days[bounds[1:] - 1].tolist()]
            gaps = [render_time(day, self.cutoff, template=voice.template, settings=voice.settings) for day in last]
            text = lists_of(pa.array(told.lines, pa.string()), told.codes, np.diff(bounds), gaps)
            yield pa.RecordBatch.from_arrays([batch["user_id"], text], names=["user_id", "lines"])

        return lines


@dataclass(frozen=True)
class _Sampler:
    plan: RenderPlan
    columns: list[str]

    def __call__(self) -> InBatches:
        """Opened once a task on a worker: the tokenizer is read there, never shipped."""
        encoder, zone = LineEncoder.of(self.plan.tokenizer_folder), ZoneInfo(self.plan.timezone)
        return lambda batch: (part.select(self.columns) for part in sample_batch(batch, self.plan, encoder, zone))


def sample_batch(
    batch: pa.RecordBatch, plan: RenderPlan, encoder: LineEncoder, zone: ZoneInfo
) -> Iterator[pa.RecordBatch]:
    """Sequences as rows of instruction_samples, each the row that ``sample_row`` makes.

    Args:
        batch: the columns COPIED, profile, folded, and one list column per field of the events.
    """
    voice = Voice(template=plan.template, settings=plan.settings, zone=zone)
    prompts = Prompts(voice.told(events_in(batch, plan.settings)), encoder, voice)
    max_tokens = _max_tokens(plan, encoder)
    for number, row in enumerate(batch.select(["observation_at", "profile", "folded"]).to_pylist()):
        prompts.add(number, partial(_branch, row, plan, zone), max_tokens)
    for columns in prompts.columns():
        rows = batch.select(list(COPIED)).take(columns.rows)
        named = [_named(sequence_id, plan, encoder) for sequence_id in rows["sequence_id"].to_pylist()]
        made = {
            **{name: rows[name] for name in COPIED},
            **{name: pa.array([row[name] for row in named], NAMED_TYPES.get(name, pa.string())) for name in named[0]},
            "prompt": columns.texts,
            "input_ids": columns.input_ids,
            "history_tokens": columns.history_tokens,
            "text_hash": pa.array([hashlib.sha256(text.as_buffer()).hexdigest() for text in columns.texts]),
        }
        yield pa.RecordBatch.from_pydict(made)


def sample_row(row: Mapping[str, Any], plan: RenderPlan, encoder: LineEncoder, zone: ZoneInfo) -> Row:
    """One sequence as one row of instruction_samples, for a service that asks about one user."""
    prompt = _rendered_within(_max_tokens(plan, encoder), row, plan, encoder, zone)
    return {
        **{name: row[name] for name in COPIED},
        **_named(row["sequence_id"], plan, encoder),
        "prompt": prompt.rendered.text,
        "input_ids": prompt.history + prompt.branch,
        "history_tokens": len(prompt.history),
        "text_hash": _digest(prompt.rendered.text),
    }


def _named(sequence_id: str, plan: RenderPlan, encoder: LineEncoder) -> Row:
    """What a sample is asked, and its name."""
    template, horizon = plan.template, plan.horizon
    identity = (sequence_id, template.task, template.name, template.language, horizon.name, encoder.digest)
    return {
        "sample_id": _digest("|".join(identity)),
        "task": template.task,
        "template": template.name,
        "language": template.language,
        "horizon": horizon.name,
        "choices": list(template.choices),
        "max_tokens": _max_tokens(plan, encoder),
    }


def _max_tokens(plan: RenderPlan, encoder: LineEncoder) -> int:
    # One token stays free for the end token, which counts where a recipe asks for it.
    return plan.context_length - 1 - max(len(encoder.completion(choice)) for choice in plan.template.choices)


def _branch(row: Row, plan: RenderPlan, zone: ZoneInfo, last: date | None, folded: int) -> tuple[str, ...]:
    return render_branch(
        last,
        dict(row["profile"] or {}),
        row["folded"] + folded,
        row["observation_at"],
        template=plan.template,
        settings=plan.settings,
        horizon=plan.horizon,
        zone=zone,
    )


@dataclass(frozen=True, kw_only=True)
class _Encoded:
    rendered: Rendered
    history: list[int]
    branch: list[int]

    @property
    def tokens(self) -> int:
        return len(self.history) + len(self.branch)


def _rendered_within(
    max_tokens: int, row: Mapping[str, Any], plan: RenderPlan, encoder: LineEncoder, zone: ZoneInfo
) -> _Encoded:
    """The prompt with the oldest calendar months folded until it fits, and the ids of its history and of its branch.

    The newest month never folds. What does not fit even then is returned as it is: the contract sends it to quarantine,
    and nothing is cut.
    """
    events = list(row["events"])
    days = [local_date(event["event_at"], zone).toordinal() - EPOCH for event in events]
    steps = fold_steps(months_of(np.array(days, dtype=np.int64)))

    def told(step: int) -> _Encoded:
        kept = [event for event, folds in zip(events, steps, strict=True) if folds >= step]
        rendered = render_prompt(
            kept,
            dict(row["profile"] or {}),
            row["counts"]["folded"] + len(events) - len(kept),
            row["observation_at"],
            template=plan.template,
            settings=plan.settings,
            horizon=plan.horizon,
            zone=zone,
        )
        return _Encoded(
            rendered=rendered, history=encoder.history(rendered.history), branch=encoder.branch(rendered.branch)
        )

    return folded_to_fit(steps, told, max_tokens)


def _in_batches(opened: Callable[[], InBatches]) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Batches of Spark in parts of bounded numbers of events, through what ``opened`` returns on the worker."""

    def transform(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        render = opened()
        for batch in batches:
            events = pc.list_value_length(batch["event_at"]).fill_null(0).to_numpy(zero_copy_only=False)
            for part in intervals(events, EVENTS_OF_A_BATCH):
                yield from render(batch.slice(part.start, part.stop - part.start))

    return transform


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
