"""Rendered prompts are chronological, show gaps instead of dates, and have a structure that values cannot change."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Unpack
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.prompt_cases import ATTACKS
from tests.support.prompts import Rendered, encoded_prompt, render_prompt
from zigong.instructions.encode import LineEncoder
from zigong.instructions.render import Event, loan_word, render_branch, round_number, word
from zigong.instructions.templates import load_template
from zigong.recipe import Horizon, Instructions
from zigong.training.tokenizer import END, PAD, UNKNOWN, train_tokenizer

TEMPLATE = load_template("behavior_card@1", "en")
HORIZON = Horizon(window_months=6, dpd_threshold=30)


def event(kind: str, *when: int, **fields: Unpack[Event]) -> Event:
    year, month, day, hour, minute = (*when, 0, 0)[:5]
    return {**fields, "event_type": kind, "event_at": datetime(year, month, day, hour, minute, tzinfo=UTC)}


def rendered(
    events: list[Event], at: datetime, settings: Instructions, zone: str = "UTC", **changes: object
) -> Rendered:
    arguments: dict[str, object] = {"profile": {}, "folded": 0, **changes}
    return render_prompt(
        events,
        arguments["profile"],  # type: ignore[arg-type]
        arguments["folded"],  # type: ignore[arg-type]
        at,
        template=TEMPLATE,
        settings=settings,
        horizon=HORIZON,
        zone=ZoneInfo(zone),
    )


def test_a_prompt_shows_gaps_fields_summary_and_profile_and_ends_with_the_question() -> None:
    events = [
        event("login", 2024, 1, 1),
        event("statement", 2024, 1, 4, days_past_due=30, amount=Decimal("349.00"), attributes={"kind": "cash"}),
    ]
    prompt = rendered(events, datetime(2024, 2, 1, tzinfo=UTC), Instructions(), profile={"b": "2", "a": "1"}, folded=40)
    assert prompt.text.split("\n") == [
        "start login",
        "+3d statement dpd30 ~500 kind=cash",
        "+28d",
        "earlier ~50",
        "profile a=1 b=2",
        "Question: will this client be 30 or more days past due within 6 months? Answer:",
    ]


def test_an_event_names_its_loan_by_number_and_a_currency_other_than_the_main_one() -> None:
    settings, t = Instructions(currency="CNY"), datetime(2024, 2, 1, tzinfo=UTC)
    events = [
        event("statement", 2024, 1, 1, days_past_due=30, amount=Decimal("349.00"), currency="USD", loan=27),
        event("order", 2024, 1, 1, amount=Decimal("5"), currency="CNY", loan=None),
    ]
    lines = rendered(events, t, settings).text.split("\n")
    assert lines[:2] == ["start statement loan_aa dpd30 ~500 USD", "+0d order ~5"]
    assert [loan_word(number) for number in (1, 2, 26, 27, 52, 53, 702, 703)] == [
        f"loan_{letters}" for letters in ("a", "b", "z", "aa", "az", "ba", "zz", "aaa")
    ]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Instructions(), ["start login", "order", "+20d login", "+29d"]),
        (Instructions(gap_unit="month"), ["start login", "order", "login", "+1mo"]),
        (Instructions(time="date", gap_unit="month"), ["20 2 4 jan login", "order", "login", "20 2 4 feb"]),
        (Instructions(season="month"), ["start jan login", "order", "+20d jan login", "+29d feb"]),
    ],
)
def test_an_event_without_a_gap_does_not_repeat_the_time(settings: Instructions, expected: list[str]) -> None:
    events = [event("login", 2024, 1, 1), event("order", 2024, 1, 1, 5), event("login", 2024, 1, 21)]
    brief = settings.model_copy(update={"repeat_time": False})
    found = rendered(events, datetime(2024, 2, 19, tzinfo=UTC), brief)
    assert found.lines[:4] == tuple(expected)
    assert "repeat_time" not in settings.model_dump()  # so that digests made before the setting stay


def test_the_line_of_the_asked_loan_repeats_its_newest_events_without_times() -> None:
    settings = Instructions(event_fields=("loan", "days_past_due"), recall=2, profile=False)
    recalled = [event("late", 2024, 1, 1, days_past_due=30, loan=2), event("paid", 2024, 2, 1, loan=2)]
    branch = render_branch(
        None, date(2024, 3, 1), 0, {}, "Question?", template=TEMPLATE, settings=settings, loan=2, recalled=recalled
    )
    assert branch[-2:] == ("asked loan_b late dpd30 paid", "Question?")
    with pytest.raises(ValueError, match="add loan to event_fields"):
        Instructions(event_fields=("amount",), recall=2)
    assert "recall" not in Instructions().model_dump()


def test_the_gap_to_t_is_written_as_the_next_event_would_begin() -> None:
    months = Instructions(gap_unit="month", event_fields=())
    last = datetime(2024, 1, 31, 23, 59, 59, 999999, tzinfo=UTC)
    first = Event(event_type="on_time", event_at=last)
    later = Event(event_type="on_time", event_at=datetime(2024, 2, 29, 23, 59, 59, 999999, tzinfo=UTC))
    at_february = rendered([first], datetime(2024, 2, 1, tzinfo=UTC), months)
    grown = rendered([first, later], datetime(2024, 3, 1, tzinfo=UTC), months)
    assert at_february.branch[0] == "+1mo"
    assert grown.history == ("start on_time", "+1mo on_time")


def test_samples_of_one_user_share_the_history_as_a_prefix() -> None:
    events = [event("login", 2024, 1, day) for day in (1, 5, 9)]
    early = rendered(events[:2], datetime(2024, 1, 6, tzinfo=UTC), Instructions())
    late = rendered(events, datetime(2024, 1, 10, tzinfo=UTC), Instructions())
    assert late.history[: len(early.history)] == early.history


def test_gaps_are_counted_in_business_dates_not_in_utc() -> None:
    events = [event("login", 2024, 1, 1, 15), event("login", 2024, 1, 1, 17)]
    at = datetime(2024, 1, 1, 18, tzinfo=UTC)
    assert rendered(events, at, Instructions()).history[1] == "+0d login"
    assert rendered(events, at, Instructions(), "Asia/Shanghai").history[1] == "+1d login"


def test_long_gaps_are_written_in_months_and_seasons_by_calendar() -> None:
    events = [event("login", 2024, 1, 31), event("login", 2024, 7, 1)]
    assert rendered(events, datetime(2024, 7, 2, tzinfo=UTC), Instructions(season="month")).history == (
        "start jan login",
        "+6mo jul login",
    )


@given(st.text(max_size=200))
def test_no_value_can_add_lines_spaces_or_special_tokens(value: str) -> None:
    escaped = word(value, TEMPLATE)
    assert escaped.split() == [escaped]
    assert not set(escaped) & set("[]{}<>:\n\r\t\x00")
    prompt = rendered(
        [event("order", 2024, 1, 1, attributes={"merchant": value})], datetime(2024, 1, 2), Instructions()
    )
    assert len(prompt.lines) == 3
    assert len(prompt.history[0].split()) == 3


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: ascii(attack[:20]))
def test_event_text_is_one_word_whatever_it_contains(attack: str, language: str) -> None:
    template = load_template("behavior_card@1", language)
    question = template.ask(HORIZON)

    def prompt(value: str) -> Rendered:
        events = [event(value, 2024, 1, 1), event("order", 2024, 1, 2, attributes={value: value})]
        at = datetime(2024, 1, 3, tzinfo=UTC)
        profile = {value: value}
        return render_prompt(
            events, profile, 0, at, template=template, settings=Instructions(), horizon=HORIZON, zone=ZoneInfo("UTC")
        )

    attacked, calm = prompt(attack), prompt("shop")
    assert [len(line.split()) for line in attacked.lines] == [len(line.split()) for line in calm.lines]
    assert attacked.lines[-1] == question
    assert attacked.text.count("\n") == calm.text.count("\n")
    assert len(attacked.text) < 1000
    tokenizer = train_tokenizer([*attacked.lines, *calm.lines], [question, *template.choices])
    encoder = LineEncoder(tokenizer.backend_tokenizer)
    ids = encoded_prompt(encoder, attacked.text)
    assert ids.count(tokenizer.convert_tokens_to_ids(question)) == 1
    never = {tokenizer.convert_tokens_to_ids(token) for token in (*template.choices, PAD, UNKNOWN, END)}
    assert not never & set(ids)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "~0"),
        (1, "~1"),
        (349, "~500"),
        (120, "~100"),
        (999, "~1k"),
        (-1234, "-~1k"),
        (2.4e6, "~2m"),
        (0.07, "~0.05"),
    ],
)
def test_numbers_are_rounded_to_the_1_2_5_series(number: float, text: str) -> None:
    assert round_number(number) == text
