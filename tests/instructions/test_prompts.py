"""Batches: every row equals, byte for byte, that of a naive loop over one user's events."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.prompt_cases import AROUND, encoder, random_events, random_sequences, single_event
from tests.support.prompt_oracle import batch_of, in_batch, naive, naive_row, naive_visible, plan
from tests.support.prompts import encoded_prompt
from zigong.errors import DataError
from zigong.instructions import prompts
from zigong.instructions.branches import Branch, VisibleHistory
from zigong.instructions.build import RenderPlan, sample_batch
from zigong.instructions.histories import Events, events_in
from zigong.instructions.prompts import Prompts, RenderContext, intervals
from zigong.instructions.render import Event

SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    {"time": "both", "season": "weekday"},
    {"time": "date", "gap_unit": "month", "event_fields": ("amount",), "repeat_time": False},
    {"currency": "CNY", "repeat_time": False},
    {"gap_unit": "month", "season": "month", "language": "zh", "recall": 3},
    {"season": "weekday", "event_fields": (), "profile": False},
)


@pytest.mark.parametrize(("zone", "around"), AROUND, ids=[zone for zone, _ in AROUND])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("context_length", [150, 700, 10**6])
def test_rows_of_a_batch_equal_those_of_a_naive_loop_over_the_events(
    zone: str, around: datetime, settings: dict[str, Any], context_length: int
) -> None:
    rows, wanted, letters = (
        random_sequences(context_length, 25, around),
        plan(zone, context_length, **settings),
        encoder(),
    )
    made = in_batch(rows, wanted, letters)
    assert [row["sequence_id"] for row in made] == [row["sequence_id"] for row in rows]
    for row, sample in zip(rows, made, strict=True):
        prompt, ids, history_tokens = naive(row, wanted, letters)
        assert sample["prompt"] == prompt
        assert (sample["input_ids"], sample["history_tokens"]) == (ids, history_tokens)
        assert sample["text_hash"] == hashlib.sha256(prompt.encode()).hexdigest()
        assert sample == naive_row(naive_visible(row, wanted, letters), row, wanted.template, wanted, letters)


AUXILIARY = (
    "sentiment@1",
    "income_band@1",
    "repaid_amount@1",
    {"template": "login_count@1", "share": 0.5},
    "largest_order@1",
)


@pytest.mark.parametrize(("zone", "around"), AROUND, ids=[zone for zone, _ in AROUND])
@pytest.mark.parametrize(
    ("context_length", "template"), [(150, "behavior_card@2"), (700, "behavior_card@1"), (10**6, "behavior_card@2")]
)
def test_rows_of_auxiliary_questions_equal_those_of_a_naive_loop_after_the_history_of_the_main_question(
    zone: str, around: datetime, context_length: int, template: str
) -> None:
    wanted, letters = plan(zone, context_length, auxiliary=AUXILIARY, template=template), encoder()
    rows = random_sequences(1, 25, around)
    made, expected = in_batch(rows, wanted, letters), []
    for row in rows:
        known = naive_visible(row, wanted, letters)
        auxiliary = wanted.tasks.auxiliary_of(row["sequence_id"]) if row["trains"] else []
        expected += [naive_row(known, row, question, wanted, letters) for question in (wanted.template, *auxiliary)]
    assert made == expected
    assert len(made) > 2 * len(rows)
    assert [sample for row in rows for sample in in_batch([row], wanted, letters)] == made  # as a service asks


def test_an_auxiliary_prompt_that_is_too_long_keeps_the_history_of_the_main_one() -> None:
    rows, letters = random_sequences(1, 1, AROUND[1][1]), encoder()
    rows[0] |= {"events": random_events(random.Random(1), 60, AROUND[1][1]), "trains": True}  # noqa: S311
    (complete,) = in_batch(rows, plan("UTC", 10**6), letters)
    tight = plan("UTC", len(complete["input_ids"]) + len(letters.completion("Yes")) + 1, auxiliary=["sentiment@1"])
    main, auxiliary = in_batch(rows, tight, letters)
    history = main["history_tokens"]
    assert main["input_ids"] == complete["input_ids"]
    assert len(main["input_ids"]) == main["max_tokens"]
    assert auxiliary["input_ids"][:history] == main["input_ids"][:history]
    assert auxiliary["history_tokens"] == history
    assert len(auxiliary["input_ids"]) > auxiliary["max_tokens"]


def test_rows_of_a_batch_contain_answers_and_reasons_of_every_kind() -> None:
    wanted = plan(AROUND[1][0], 10**6, auxiliary=AUXILIARY)
    made = in_batch(random_sequences(1, 200, AROUND[1][1]), wanted, encoder())
    assert {row["unanswered"] for row in made} == {
        None,
        "amount_is_unknown",
        "several_currencies",
        "profile_field_is_unknown",
        "window_reaches_into_folded_events",
    }
    assert {row["template"] for row in made if row["answer"]} == {
        "income_band@1", "repaid_amount@1", "login_count@1", "largest_order@1",
    }  # fmt: skip


def test_events_are_read_only_for_questions_that_are_answered_from_them(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    rows_of = Events.rows

    def counted(self: Events, start: int, end: int, fields: Any = None) -> list[Event]:
        read.append(start)
        return rows_of(self, start, end, fields)

    monkeypatch.setattr(Events, "rows", counted)
    rows = random_sequences(1, 40, AROUND[1][1])
    in_batch(rows, plan("UTC", 10**6, auxiliary=["sentiment@1", "income_band@1"]), encoder())
    assert read == []
    in_batch(rows, plan("UTC", 10**6, auxiliary=["repaid_amount@1", "largest_order@1"]), encoder())
    starts = [sum(len(before["events"]) for before in rows[:number]) for number in range(len(rows))]
    assert read == [start for start, row in zip(starts, rows, strict=True) if row["trains"]]


def context_of(wanted: RenderPlan) -> RenderContext:
    return RenderContext(template=wanted.template, settings=wanted.settings, zone=ZoneInfo(wanted.timezone))


def test_parts_of_a_batch_are_bounded_and_contain_every_row_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, wanted, letters = random_sequences(5, 30, AROUND[1][1]), plan("UTC", 500), encoder()
    complete = in_batch(rows, wanted, letters)
    monkeypatch.setattr(prompts, "BYTES_OF_A_BATCH", 3000)
    batch = batch_of(rows, wanted)
    parts = [part.to_pylist() for part in sample_batch(batch, wanted, letters, ZoneInfo("UTC"))]
    assert [row for part in parts for row in part] == complete
    assert len(parts) == 3
    assert all(len(part) == 1 or sum(len(row["prompt"].encode()) for row in part) <= 3000 for part in parts)


@given(st.lists(st.integers(0, 20), max_size=30), st.integers(1, 40))
def test_intervals_cover_all_items_in_order_and_only_a_single_item_exceeds_the_limit(
    weights: list[int], limit: int
) -> None:
    found = list(intervals(np.array(weights, dtype=np.int64), limit))
    assert [number for part in found for number in range(part.start, part.stop)] == list(range(len(weights)))
    assert all(part.stop - part.start == 1 or sum(weights[part]) <= limit for part in found)


def test_a_history_is_shared_by_several_questions_and_folded_only_for_the_first() -> None:
    (row,) = random_sequences(3, 1, AROUND[1][1])
    row["events"] = random_events(random.Random(1), 60, AROUND[1][1])  # noqa: S311
    wanted, letters = plan("UTC", 10**6, auxiliary=["login_count@1"]), encoder()
    histories = context_of(wanted).render(events_in(batch_of([row], wanted), wanted.event_fields))
    prompts_of_row = Prompts(histories, letters, context_of(wanted))

    def ask(question: str) -> Callable[[VisibleHistory], Branch]:
        return lambda visible: Branch(
            question=wanted.template,
            horizon=wanted.horizon,
            phrasing=0,
            lines=(f"{visible.last} {visible.folded}", question),
            computed=None,
        )

    main = prompts_of_row.add(0, ask("long? " * 100), 1600)
    for question in ("short?", "longer " * 300):
        prompts_of_row.add_branch(main, ask(question)(main.visible))
    (columns,) = prompts_of_row.columns()
    texts, ids = columns.texts.to_pylist(), columns.input_ids.to_pylist()
    histories_of = [of_prompt[:end] for of_prompt, end in zip(ids, columns.history_tokens.to_pylist(), strict=True)]
    assert columns.rows.to_pylist() == [0, 0, 0]
    assert histories_of[0] == histories_of[1] == histories_of[2]
    assert len(ids[0]) <= 1600 < len(ids[2])
    last = max(event["event_at"] for event in row["events"]).date()
    kept = [len(text.split("\n")) - 2 for text in texts]
    assert 0 < kept[0] < 60
    assert [text.split("\n")[-2] for text in texts] == [f"{last} {60 - kept[0]}"] * 3
    assert main.visible.events == [
        {name: event[name] for name in ("event_type", "event_at", "amount", "currency")}
        for event in row["events"][60 - kept[0] :]
    ]


def test_sequences_without_events_are_rendered_without_a_history() -> None:
    rows, wanted, letters = random_sequences(1, 3, AROUND[1][1]), plan("UTC", 500), encoder()
    for row in rows:
        row["events"] = []
    for row, sample in zip(rows, in_batch(rows, wanted, letters), strict=True):
        assert (sample["prompt"], sample["input_ids"], sample["history_tokens"]) == naive(row, wanted, letters)


def test_100_000_events_and_values_of_10_mb_are_rendered_as_any_others() -> None:
    rows, wanted, letters = random_sequences(2, 4, AROUND[1][1]), plan("UTC", 10**8), encoder()
    crowd = [
        single_event(event_at=AROUND[1][1] + timedelta(minutes=minute), event_type="login") for minute in range(100_000)
    ]
    huge = [single_event(attributes={"merchant": letter * 10_000_000, letter * 10_000_000: "a"}) for letter in "éb"]
    rows[1]["events"], rows[2]["events"] = crowd, huge
    first, crowded, *others = in_batch(rows, wanted, letters)
    days = ["+1d login" if minute and minute % 1440 == 0 else "+0d login" for minute in range(100_000)]
    assert crowded["prompt"].split("\n")[:100_000] == ["start login", *days[1:]]
    assert crowded["input_ids"] == encoded_prompt(letters, crowded["prompt"])
    for row, sample in zip((rows[0], *rows[2:]), (first, *others), strict=True):
        assert (sample["prompt"], sample["input_ids"], sample["history_tokens"]) == naive(row, wanted, letters)


@pytest.mark.parametrize("fields", [{"event_type": None}, {"event_at": None}])
def test_an_event_without_type_or_time_is_rejected(fields: dict[str, Any]) -> None:
    rows, wanted = random_sequences(1, 1, AROUND[1][1]), plan("UTC", 500)
    rows[0]["events"] = [single_event(**fields)]
    with pytest.raises(DataError, match=f"null found in {next(iter(fields))} of an event"):
        in_batch(rows, wanted, encoder())
