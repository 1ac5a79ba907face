"""A naive loop that renders one sequence at a time, and random sequences to compare batches of prompts with it."""

from __future__ import annotations

import hashlib
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa

from tests.support.prompt_cases import SEQUENCE
from zigong.instructions.build import COPIED, RenderPlan, sample_batch
from zigong.instructions.computed import Computed, event_answer, profile_answer
from zigong.instructions.encode import LineEncoder
from zigong.instructions.numbers import NumberWords
from zigong.instructions.render import Event, local_date, render_branch, render_history
from zigong.instructions.template_files import EventAnswer, ProfileAnswer
from zigong.instructions.templates import Question
from zigong.recipe import Horizon, Instructions

HORIZON = Horizon(window_months=6, dpd_threshold=30)


def plan(zone: str, context_length: int, *, numbers: NumberWords | None = None, **settings: Any) -> RenderPlan:
    return RenderPlan(
        settings=Instructions.model_validate(settings),
        horizon=HORIZON,
        timezone=zone,
        tokenizer_folder="",
        context_length=context_length,
        numbers=numbers,
    )


def batch_of(rows: list[dict[str, Any]], wanted: RenderPlan) -> pa.RecordBatch:
    """The columns that a worker receives, as a slice of a longer batch, which Arrow may pass."""
    plain = [
        {
            **row,
            "profile": list(row["profile"].items()),
            "events": [
                {**event, "attributes": None if attributes is None else list(attributes.items())}
                for event in row["events"]
                for attributes in [event.get("attributes")]
            ],
        }
        for row in rows
    ]
    longer = [plain[-1], plain[0], *plain, plain[0]]
    sliced = pa.RecordBatch.from_pylist(longer, schema=SEQUENCE).slice(2, len(rows))
    events, names = sliced["events"], wanted.event_fields
    bounds = events.offsets
    fields = {name: pa.ListArray.from_arrays(bounds, events.values.field(name)) for name in names}
    columns = {name: sliced[name] for name in (*COPIED, "profile", "folded", "trains", "asked_loan")} | fields
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def in_batch(rows: list[dict[str, Any]], wanted: RenderPlan, encoder: LineEncoder) -> list[dict[str, Any]]:
    batch, zone = batch_of(rows, wanted), ZoneInfo(wanted.timezone)
    made = [part.to_pylist() for part in sample_batch(batch, wanted, encoder, zone)]
    return [row for part in made for row in part]


def naive_branch(row: dict[str, Any], question: Question, events: list[Event], folded: int, wanted: RenderPlan) -> Any:
    zone, hidden = ZoneInfo(wanted.timezone), getattr(question.answer, "field", None)
    last = local_date(events[-1]["event_at"], zone) if events else None
    profile = {name: value for name, value in naive_profile(row, wanted).items() if name != hidden}
    line = question.ask(HORIZON, question.phrasing_of(row["sequence_id"]))
    on = local_date(row["observation_at"], zone)
    settings, loan = wanted.settings, row["asked_loan"]
    recalled = [event for event in events if loan is not None and event.get("loan") == loan]
    return render_branch(
        last,
        on,
        folded,
        profile,
        line,
        template=wanted.template,
        settings=settings,
        loan=loan,
        recalled=recalled[len(recalled) - min(settings.recall, len(recalled)) :],
        numbers=wanted.numbers,
    )


def naive_profile(row: dict[str, Any], wanted: RenderPlan) -> Any:
    return row["profile"] if wanted.numbers is None else wanted.numbers.profile(row["profile"])


def naive_visible(row: dict[str, Any], wanted: RenderPlan, encoder: LineEncoder) -> Known:
    """Lines, events and number of folded events: renders everything again after each month that is folded."""
    zone, events, folded = ZoneInfo(wanted.timezone), list(row["events"]), row["folded"]
    answers = max(len(encoder.completion(choice)) for choice in wanted.template.choices)

    def month(event: dict[str, Any]) -> tuple[int, int]:
        day = local_date(event["event_at"], zone)
        return day.year, day.month

    while True:
        lines = render_history(
            events, template=wanted.template, settings=wanted.settings, zone=zone, numbers=wanted.numbers
        )
        branch = naive_branch(row, wanted.template, events, folded, wanted)
        younger = [event for event in events if month(event) != month(events[0])]
        tokens = len(encoder.history(lines)) + len(encoder.branch(branch))
        if tokens <= wanted.context_length - answers - 1 or not younger:
            return lines, events, folded
        events, folded = younger, folded + len(events) - len(younger)


Known = tuple[list[str], list[Event], int]


def naive(row: dict[str, Any], wanted: RenderPlan, encoder: LineEncoder) -> tuple[str, list[int], int]:
    """Prompt, ids and length of the history of the main question."""
    return naive_prompt(naive_visible(row, wanted, encoder), row, wanted.template, wanted, encoder)


def naive_prompt(
    known: Known, row: dict[str, Any], question: Question, wanted: RenderPlan, encoder: LineEncoder
) -> tuple[str, list[int], int]:
    lines, events, folded = known
    branch, history = naive_branch(row, question, events, folded, wanted), encoder.history(lines)
    return "\n".join((*lines, *branch)), history + encoder.branch(branch), len(history)


def naive_answer(known: Known, row: dict[str, Any], question: Question, wanted: RenderPlan) -> Computed:
    zone, (_, events, folded) = ZoneInfo(wanted.timezone), known
    match question.answer:
        case ProfileAnswer() as spec:
            return profile_answer(spec, naive_profile(row, wanted), wanted.template)
        case EventAnswer() as spec:
            on = local_date(row["observation_at"], zone)
            return event_answer(spec, events, folded, on, max_events=wanted.settings.max_events, zone=zone)
        case _:
            return Computed()


def naive_row(
    known: Known, row: dict[str, Any], question: Question, wanted: RenderPlan, encoder: LineEncoder
) -> dict[str, Any]:
    """Every column of the sample of one question."""
    text, ids, history_tokens = naive_prompt(known, row, question, wanted, encoder)
    computed, phrasing = naive_answer(known, row, question, wanted), question.phrasing_of(row["sequence_id"])
    named = [row["sequence_id"], question.task, question.name, question.language, HORIZON.name, encoder.digest]
    named += [f"phrasing {phrasing}"] * (len(question.phrasings) > 1)
    named += [f"numbers {wanted.numbers.digest}"] if wanted.numbers is not None else []
    answers = question.choices or ([] if computed.answer is None else [computed.answer])
    longest = max((len(encoder.completion(answer)) for answer in answers), default=0)
    return {
        **{name: row[name] for name in COPIED},
        "sample_id": hashlib.sha256("|".join(named).encode()).hexdigest(),
        **{name: getattr(question, name) for name in ("task", "language")},
        "template": question.name,
        "phrasing": phrasing,
        "horizon": HORIZON.name,
        "choices": list(question.choices),
        "answer": computed.answer,
        "answer_ids": None if computed.answer is None else encoder.completion(computed.answer),
        "unanswered": computed.unanswered,
        "max_tokens": wanted.context_length - 1 - longest,
        "prompt": text,
        "input_ids": ids,
        "history_tokens": history_tokens,
        "text_hash": hashlib.sha256(text.encode()).hexdigest(),
    }
