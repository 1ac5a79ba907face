"""Numbers as quantile words: equal bins in Spark and numpy, from train alone, and one text for every reader."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.number_words import FITTED, QUANTILES, expected_bounds, with_numbers
from tests.support.prompt_cases import AROUND, encoder, random_sequences, single_event
from tests.support.prompt_oracle import batch_of, in_batch, naive_row, naive_visible, plan
from zigong.errors import ConfigError, DataError
from zigong.instructions.histories import events_in, render_histories
from zigong.instructions.numbers import FieldBins, words_as_text, words_from_text
from zigong.instructions.prompt_spec import PromptSpec
from zigong.instructions.render import render_history
from zigong.instructions.templates import load_template
from zigong.recipe import Horizon, Instructions

TEMPLATE = load_template("behavior_card@1", "en")
TRAIN, VALIDATION = date(2023, 3, 1), date(2023, 5, 1)
UTC_ZONE = ZoneInfo("UTC")


@given(
    values=st.lists(st.integers(1, 40), min_size=1, max_size=60),
    negative=st.lists(st.integers(1, 40), max_size=20),
    asked=st.lists(st.integers(-60, 60), min_size=1, max_size=40),
)
def test_words_are_numbered_as_numpy_sorts_and_change_exactly_at_the_steps(
    values: list[int], negative: list[int], asked: list[int]
) -> None:
    above, below = (expected_bounds(np.array(side), QUANTILES) if side else [] for side in (values, negative))
    field = FieldBins(
        kind="amount",
        name="x",
        currency="",
        above=tuple(Decimal(int(bound)) / 100 for bound in above),
        below=tuple(Decimal(int(bound)) / 100 for bound in below),
    )
    words = [field.word(Decimal(number) / 100) for number in asked]
    for number, word in zip(asked, words, strict=True):
        if number == 0:
            assert word == "q0"
        elif number > 0:
            assert word == f"q{1 + int(np.searchsorted(above, number, side='left'))}"
        else:
            assert word == f"-q{1 + int(np.searchsorted(below, -number, side='left'))}"
    assert set(words) <= set(field.words())
    codes = np.searchsorted(field.steps(2), asked, side="right").tolist()
    assert len(set(zip(codes, words, strict=True))) == len(set(words)) == len(set(codes))
    assert {field.word(Decimal(number) / 100) for number in (*values, *(-size for size in negative))} | {
        "q0", "-q1",
    } == set(field.words())  # fmt: skip


def test_zero_negative_missing_and_unfitted_numbers_have_words_of_their_own() -> None:
    settings = Instructions(quantiles=QUANTILES, currency="CNY")
    events: Any = [
        single_event(amount=Decimal(0), days_past_due=0, attributes={"ratio": "0", "shop": "7"}),
        single_event(amount=Decimal("-250"), days_past_due=30, attributes={"ratio": "-0.5"}),
        single_event(amount=None, days_past_due=None, attributes=None),
        single_event(amount=Decimal(50), currency="USD", attributes={"ratio": "high"}),
        single_event(event_type="salary", amount=Decimal(50), currency="CNY"),
    ]
    assert render_history(events, template=TEMPLATE, settings=settings, zone=UTC_ZONE, numbers=FITTED) == [
        "start order dpdq0 q0 ratio=q0 shop=7",
        "+0d order dpdq3 -q2 ratio=-q1",
        "+0d order",
        "+0d order q2 USD ratio=high",
        "+0d salary q_",
    ]


@pytest.mark.parametrize(("zone", "around"), AROUND[:2], ids=[zone for zone, _ in AROUND[:2]])
@pytest.mark.parametrize("context_length", [150, 700, 10**6])
@pytest.mark.parametrize("settings", [{}, {"currency": "CNY", "time": "both"}], ids=str)
def test_rows_of_a_batch_equal_those_of_a_naive_loop(
    zone: str, around: datetime, context_length: int, settings: dict[str, Any]
) -> None:
    rows, letters = with_numbers(random_sequences(context_length, 25, around)), encoder()
    wanted = plan(zone, context_length, numbers=FITTED, quantiles=QUANTILES, **settings)
    made = in_batch(rows, wanted, letters)
    for row, sample in zip(rows, made, strict=True):
        assert sample == naive_row(naive_visible(row, wanted, letters), row, wanted.template, wanted, letters)
    assert any(" q2 " in sample["prompt"] for sample in made)
    assert any("age=q2" in sample["prompt"] for sample in made)


def test_events_share_a_line_exactly_when_their_words_are_equal() -> None:
    texts = ("0", "100", "100.01", "101", "250.50", "9000", "9001", "-0.01", "-0.02", "-300", "-999999")
    events: list[Any] = [single_event(amount=Decimal(text)) for text in texts]
    events += [single_event(days_past_due=days) for days in (None, 0, 1, 2, 29, 30, 400, -1, -90)]
    events += [single_event(attributes={"ratio": text}) for text in ("0", "0.1", "0.25", "0.26", "7", "8", "-1", "q1")]
    rows = [{**random_sequences(0, 1, AROUND[1][1])[0], "events": [event]} for event in events]
    wanted = plan("UTC", 500, numbers=FITTED, quantiles=QUANTILES)
    found = render_histories(
        events_in(batch_of(rows, wanted), wanted.event_fields),
        template=TEMPLATE,
        settings=wanted.settings,
        zone=UTC_ZONE,
        numbers=FITTED,
    )
    lines = [
        render_history([event], template=TEMPLATE, settings=wanted.settings, zone=UTC_ZONE, numbers=FITTED)[0]
        for event in events
    ]
    assert [found.lines[code] for code in found.codes] == lines
    assert len(found.lines) == len(set(lines)) + 1  # the text q1 looks like the word of a number


def test_bins_are_part_of_what_prompts_are_and_required_where_the_recipe_names_them() -> None:
    plain = PromptSpec(settings=Instructions(), horizon=Horizon(), timezone="UTC", context_length=64)
    fields = {**vars(plain), "settings": Instructions(quantiles=4)}
    spec = PromptSpec(**{**fields, "numbers": FITTED})
    other = PromptSpec(
        **{**fields, "numbers": words_from_text(words_as_text(FITTED).replace("9000", "9001"), origin="x")}
    )
    assert spec == PromptSpec(**{**fields, "numbers": words_from_text(words_as_text(FITTED), origin="x")})
    assert spec != other
    assert len({plain.digest, spec.digest, other.digest}) == 3
    with pytest.raises(ConfigError, match="quantiles is 4, and the bins of numbers are missing"):
        PromptSpec(**fields)
    with pytest.raises(ConfigError, match="quantiles is None, and the bins of numbers are given"):
        PromptSpec(**{**vars(plain), "numbers": FITTED})
    with pytest.raises(DataError, match="x: the bins of numbers cannot be read"):
        words_from_text('{"fields": [1]}', origin="x")


def test_a_recipe_that_rounds_its_numbers_keeps_its_digests() -> None:
    spec = PromptSpec(settings=Instructions(), horizon=Horizon(), timezone="UTC", context_length=64)
    assert "quantiles" not in spec.settings.model_dump(mode="json")
    assert spec.digest == "0c3cd9ece65984b8d6ac16063516ec4006392fad803f16490736d51f9ce21770"
    assert Instructions.model_validate(Instructions(quantiles=4).model_dump(mode="json")).quantiles == 4
