"""Computed answers equal those of a naive pass over the complete history, whatever part of it the prompt shows."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zigong.instructions.branches import Observed, VisibleHistory, branch_of
from zigong.instructions.computed import Computed, event_answer, months_before, profile_answer
from zigong.instructions.render import Event, round_number
from zigong.instructions.template_files import EventAnswer, ProfileAnswer
from zigong.instructions.templates import load_question, load_template
from zigong.recipe import Horizon, Instructions

SHANGHAI = ZoneInfo("Asia/Shanghai")
ON = date(2024, 5, 1)
T = datetime(2024, 5, 1, tzinfo=SHANGHAI)
WINDOWS = {1: {"2024-04"}, 3: {"2024-02", "2024-03", "2024-04"}, 4: {"2024-01", "2024-02", "2024-03", "2024-04"}}
FORM = re.compile(r"-?~[0-9]+([.][0-9]+)?[kmg]?|[0-9]+")

amounts = st.decimals(min_value=0, max_value=5000, places=2)
moments = st.one_of(
    st.integers(1, 300 * 86_400).map(lambda seconds: T - timedelta(seconds=seconds)),
    # the instants around local and UTC month borders
    st.sampled_from(
        [
            datetime(2024, m, d, h, tzinfo=UTC) - timedelta(microseconds=1)
            for m in (2, 3)
            for d in (1, 29)
            for h in (0, 16)
        ]
    ),
    st.sampled_from([datetime(2024, 1, 31, 16, tzinfo=UTC), datetime(2024, 3, 31, 16, tzinfo=UTC)]),
)
histories = st.lists(st.tuples(moments, st.sampled_from(["login", "order", "repayment"]), amounts), max_size=25)


def events_of(history: list[tuple[datetime, str, Decimal]]) -> list[Event]:
    return [
        Event(event_type=kind, event_at=at.astimezone(UTC).replace(tzinfo=None), amount=amount, currency="CNY")
        for at, kind, amount in sorted(history)
    ]


def local_month(event: Event) -> str:
    return f"{event['event_at'].replace(tzinfo=UTC).astimezone(SHANGHAI):%Y-%m}"


def newest_complete_months(events: list[Event], most: int) -> list[Event]:
    """A naive version of the history policy of user_sequences."""
    if len(events) <= most:
        return events
    left_out = local_month(events[-most - 1])
    return [event for event in events if local_month(event) > left_out] or events[-most:]


def naive_answer(events: list[Event], kind: str, measure: str, months: set[str]) -> str:
    count, total, largest = 0, Decimal(0), Decimal(0)
    for event in events:
        if event["event_type"] == kind and local_month(event) in months:
            amount = event["amount"] or Decimal(0)
            count, total, largest = count + 1, total + amount, max(largest, amount)
    return {"count": str(count), "sum": round_number(float(total)), "largest": round_number(float(largest))}[measure]


@settings(max_examples=300)
@given(
    history=histories,
    most=st.integers(1, 12),
    months=st.sampled_from(sorted(WINDOWS)),
    kind=st.sampled_from(["login", "order", "repayment"]),
    measure=st.sampled_from(["count", "sum", "largest"]),
)
def test_an_answer_equals_that_of_the_complete_history_or_is_absent(
    history: list[tuple[datetime, str, Decimal]], most: int, months: int, kind: str, measure: Any
) -> None:
    events = events_of(history)
    kept = newest_complete_months(events, most)
    folded = events[: len(events) - len(kept)]
    spec = EventAnswer(measure=measure, event_type=kind, window_months=months)
    found = event_answer(spec, kept, len(folded), ON, max_events=most, zone=SHANGHAI)
    if found.answer is None:
        assert found.unanswered == "window_reaches_into_folded_events"
        assert folded
        return
    assert not [event for event in folded if local_month(event) in WINDOWS[months]]
    assert found.answer == naive_answer(events, kind, measure, WINDOWS[months])
    assert FORM.fullmatch(found.answer)


@settings(max_examples=300)
@given(history=histories, months=st.sampled_from(sorted(WINDOWS)), visible_from=st.sampled_from(sorted(WINDOWS[4])))
def test_folding_keeps_every_answer_whose_window_is_completely_visible(
    history: list[tuple[datetime, str, Decimal]], months: int, visible_from: str
) -> None:
    """Months fold completely, so if an event of the window's first month is visible, the complete window is."""
    events = events_of(history)
    kept = [event for event in events if local_month(event) >= visible_from]
    spec = EventAnswer(measure="count", event_type="login", window_months=months)
    found = event_answer(spec, kept, len(events) - len(kept) + 1, ON, max_events=100, zone=SHANGHAI)
    visible = bool(kept) and local_month(kept[0]) <= min(WINDOWS[months])
    assert found.answer == (naive_answer(events, "login", "count", WINDOWS[months]) if visible else None)


def test_a_sum_of_unknown_amounts_or_of_several_currencies_is_absent() -> None:
    spec = EventAnswer(measure="sum", event_type="repayment", window_months=3)
    first, second = events_of([(T - timedelta(days=days), "repayment", Decimal(100)) for days in (5, 9)])

    def answer(*events: Event) -> Computed:
        return event_answer(spec, events, 0, ON, max_events=50, zone=SHANGHAI)

    assert answer(first, second) == Computed(answer="~200")
    assert answer(first, Event(**{**second, "amount": None})) == Computed(unanswered="amount_is_unknown")
    assert answer(first, Event(**{**second, "currency": "USD"})) == Computed(unanswered="several_currencies")
    assert answer() == Computed(answer="~0")


@pytest.mark.parametrize(
    ("day", "months", "expected"),
    [
        (date(2024, 5, 1), 3, date(2024, 2, 1)),
        (date(2024, 1, 1), 1, date(2023, 12, 1)),
        (date(2024, 3, 1), 15, date(2022, 12, 1)),
        (date(2024, 12, 1), 12, date(2023, 12, 1)),
    ],
)
def test_windows_are_calendar_months(day: date, months: int, expected: date) -> None:
    assert months_before(day, months) == expected


def test_a_profile_answer_is_formatted_as_in_a_profile_line() -> None:
    template = load_template("behavior_card@1", "en")
    spec = ProfileAnswer(field="income")
    assert profile_answer(spec, {"income": "50k - 100k"}, template) == Computed(answer="50k_-_100k")
    for profile in ({}, {"income": ""}, {"job": "high"}):
        assert profile_answer(spec, profile, template) == Computed(unanswered="profile_field_is_unknown")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_only_the_prompt_that_asks_about_a_profile_field_omits_it(language: str) -> None:
    template = load_template("behavior_card@1", language)
    visible = VisibleHistory(last=date(2024, 4, 28), folded=0, read=list, recall=lambda *_: [])
    profile = {"income": "middling", "job": "baker"}

    def lines(name: str, given: dict[str, str] = profile) -> tuple[str, ...]:
        branch = branch_of(
            load_question(name, language),
            visible,
            Observed(sequence_id="s1", on=ON, profile=given, folded=0),
            template=template,
            settings=Instructions(),
            horizon=Horizon(),
            zone=SHANGHAI,
        )
        return branch.lines

    assert "income=middling job=baker" in lines("sentiment@1")[1]
    assert lines("income_band@1")[1].endswith(" job=baker")
    assert not any("middling" in line or "income=" in line for line in lines("income_band@1"))
    assert len(lines("income_band@1", {"income": "middling"})) == 2  # no empty profile line
