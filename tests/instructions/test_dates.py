"""Dates in the text are made of words that every year repeats, so that a tiny base knows those of later years."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from tests.support.finished import TINY
from tests.support.prompt_cases import single_event
from zigong.instructions.corpus import known_answers, vocabulary_lines
from zigong.instructions.encode import LineEncoder
from zigong.instructions.render import render_history, render_time, words_of_dates
from zigong.instructions.templates import load_template
from zigong.recipe import Instructions, load_recipe
from zigong.training.tokenizer import train_tokenizer

TEMPLATE = load_template("behavior_card@1", "en")


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"time": "date"}, "20 0 5 mar 09"),
        ({"time": "date", "gap_unit": "month"}, "20 0 5 mar"),
        ({"time": "both"}, "+3d 20 0 5 mar 09"),
        ({"time": "both", "season": "month"}, "+3d 20 0 5 mar 09"),
        ({"time": "date", "season": "weekday"}, "20 0 5 mar 09 wed"),
        ({"time": "gap", "season": "month"}, "+3d mar"),
    ],
    ids=str,
)
def test_a_date_is_century_two_digits_month_and_day(settings: dict[str, str], text: str) -> None:
    chosen = Instructions.model_validate(settings)
    assert render_time(date(2005, 3, 6), date(2005, 3, 9), template=TEMPLATE, settings=chosen) == text


@given(st.lists(st.dates(date(1900, 1, 1), date(2099, 12, 31)), min_size=2, max_size=2, unique=True))
def test_different_dates_are_different_texts_of_known_words(days: list[date]) -> None:
    chosen = Instructions(time="date")
    first, second = (render_time(None, day, template=TEMPLATE, settings=chosen) for day in days)
    assert first != second
    assert {*first.split(), *second.split()} <= set(words_of_dates(chosen))


@pytest.mark.parametrize("time", ["date", "both"])
@pytest.mark.parametrize("gap_unit", ["day", "month"])
def test_dates_after_the_base_text_have_known_and_different_tokens(
    spark: SparkSession, time: str, gap_unit: str
) -> None:
    settings = [f"instructions.time={time}", f"instructions.gap_unit={gap_unit}", "instructions.season=none"]
    recipe = load_recipe(TINY, settings)
    zone = ZoneInfo("UTC")
    start = datetime(2023, 1, 5, tzinfo=UTC)
    seen: Any = [single_event(event_at=start + timedelta(days=31 * number)) for number in range(2)]
    base = render_history(seen, template=TEMPLATE, settings=recipe.instructions, zone=zone)
    profiles = spark.createDataFrame([], "known_at timestamp, attributes map<string,string>")
    lines = vocabulary_lines([base], profiles, recipe, known_answers(profiles, recipe))
    letters = LineEncoder(train_tokenizer(lines, ["Question? Answer:", "Yes", "No"]).backend_tokenizer)
    much_later = start.replace(year=2031, month=8, day=30)
    later: Any = [single_event(event_at=much_later + timedelta(days=31 * number)) for number in (0, 1)]
    first, second = render_history(later, template=TEMPLATE, settings=recipe.instructions, zone=zone)
    assert letters.knows(first)
    assert letters.knows(second)
    assert letters.line(first)[-4:] != letters.line(second)[-4:]
    assert not letters.knows("2031-08-30")


def test_a_text_without_dates_has_no_words_for_them() -> None:
    assert words_of_dates(Instructions()) == []
