"""Numbers as quantile words: equal bins in Spark and numpy, from train alone, and one text for every reader."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession

from schemas.contracts import table_contract
from tests.support.finished import TINY
from tests.support.number_words import FITTED, QUANTILES, bins, with_numbers
from tests.support.prompt_oracle import (
    AROUND,
    batch_of,
    encoder,
    in_batch,
    naive_row,
    naive_visible,
    plan,
    random_sequences,
    single_event,
)
from zigong.dataset.members import split_column
from zigong.dataset.train_numbers import train_numbers
from zigong.errors import ConfigError, DataError
from zigong.instructions.corpus import known_answers, vocabulary_lines
from zigong.instructions.encode import LineEncoder
from zigong.instructions.histories import events_in, render_histories
from zigong.instructions.number_fit import fit_numbers
from zigong.instructions.numbers import FieldBins, words_as_text, words_from_text
from zigong.instructions.prompt_spec import PromptSpec
from zigong.instructions.render import render_branch, render_history
from zigong.instructions.templates import load_template
from zigong.recipe import Horizon, Instructions, load_recipe
from zigong.training.tokenizer import train_tokenizer

TEMPLATE = load_template("behavior_card@1", "en")
TRAIN, VALIDATION = date(2023, 3, 1), date(2023, 5, 1)
UTC_ZONE = ZoneInfo("UTC")


def frame(spark: SparkSession, rows: list[dict[str, Any]]) -> DataFrame:
    """Rows of user_sequences, each with the given events and profile."""
    columns = {column.name: column.type for column in table_contract("user_sequences").columns}
    order = ("user_id", "person_id", "observation_date", "profile", "events")
    plain = [
        (
            row.get("user_id", "u1"),
            row.get("person_id", "p1"),
            row.get("observation_date", TRAIN),
            row.get("profile", {}),
            [
                (
                    event["event_type"],
                    event["event_at"],
                    event["event_at"],
                    event["amount"],
                    event["currency"],
                    event["days_past_due"],
                    event["attributes"],
                )
                for event in row["events"]
            ],
        )
        for row in rows
    ]
    return spark.createDataFrame(plain, ", ".join(f"{name} {columns[name]}" for name in order))


def expected_bounds(values: np.ndarray[Any, Any], quantiles: int) -> list[float]:
    """Upper bounds of the bins, the last one open, by numpy."""
    distinct = np.unique(values)
    if len(distinct) <= quantiles:
        return distinct[:-1].tolist()
    shares = np.arange(1, quantiles) / quantiles
    bounds = np.unique(np.quantile(values, shares, method="inverted_cdf"))
    return bounds[bounds < distinct[-1]].tolist()


def test_bounds_are_the_exact_quantiles_of_each_field_and_independent_of_partitions(spark: SparkSession) -> None:
    rng = np.random.default_rng(3)
    orders = np.round(rng.lognormal(5, 2, 700), 2) * rng.choice([1, 1, 1, -1, 0], 700)
    columns = {
        "order": np.round(orders, 2),
        "fee": rng.choice([5.0, 7.5, 20.0], 700),
        "tied": rng.choice([1.0, 2.0, *range(3, 60)], 700, p=[0.5, 0.3, *[0.2 / 57] * 57]),
    }
    ratios, days = np.round(rng.normal(0, 3, 700), 6), rng.choice([0, 0, 0, *range(1, 90)], 700)
    events = [
        single_event(
            event_type=kind,
            amount=Decimal(f"{amount:.2f}"),
            days_past_due=int(late),
            attributes={"ratio": f"{ratio:.6f}", "code": f"0{late}", "mostly": "n/a" if late > 60 else str(late)},
        )
        for kind, amounts in columns.items()
        for amount, late, ratio in zip(amounts, days, ratios, strict=True)
    ]
    some = frame(spark, [{"events": events[start::7], "profile": {"age": str(20 + start)}} for start in range(7)])
    found = fit_numbers(some.repartition(5), Instructions(), 8)
    assert found == fit_numbers(some.coalesce(1), Instructions(), 8)
    wanted = {("amount", kind): amounts for kind, amounts in columns.items()}
    wanted |= {("attribute", "ratio"): ratios, ("days_past_due", ""): days, ("profile", "age"): np.arange(20, 27)}
    wanted["attribute", "mostly"] = days[days <= 60]
    assert [(field.kind, field.name) for field in found.fields] == sorted(wanted)
    for field in found.fields:
        values = wanted[field.kind, field.name]
        assert [float(bound) for bound in field.above] == expected_bounds(values[values > 0], 8)
        assert [float(bound) for bound in field.below] == expected_bounds(-values[values < 0], 8)
    assert len(found.bins("amount", "tied").above) < 7  # type: ignore[union-attr]
    assert [str(bound) for bound in found.bins("amount", "fee").above] == ["5", "7.5"]  # type: ignore[union-attr]
    assert found.bins("attribute", "code") is None


def test_amounts_in_another_currency_have_bins_of_their_own(spark: SparkSession) -> None:
    events = [single_event(amount=Decimal(number), currency="CNY") for number in (1, 2)]
    events += [single_event(amount=Decimal(number), currency="USD") for number in (100, 200)]
    some = frame(spark, [{"events": events}])
    apart = fit_numbers(some, Instructions(currency="CNY"), 4)
    assert apart.fields == (bins("amount", "order", "1"), bins("amount", "order", "100", currency="USD"))
    assert fit_numbers(some, Instructions(), 4).fields == (bins("amount", "order", "1", "2", "100"),)
    assert fit_numbers(some, Instructions(event_fields=("days_past_due",)), 4).fields == ()


def test_neither_held_out_persons_nor_later_dates_change_the_bins(spark: SparkSession) -> None:
    recipe = load_recipe(TINY, ["split.test_share=0.5", "split.unit=person_id"])

    def rows(factor: int) -> list[dict[str, Any]]:
        """A train date and a later one of 20 persons; ``factor`` changes what train must not see."""
        clients = [(person, day) for person in range(20) for day in (TRAIN, VALIDATION)]
        return [
            {
                "person_id": f"p{person}",
                "observation_date": day,
                "events": [single_event(amount=Decimal(person + 1) * (1 if seen(person, day) else factor))],
                "profile": {"age": str((person + 1) * (1 if seen(person, day) else factor))},
            }
            for person, day in clients
        ]

    def seen(person: int, day: date) -> bool:
        return day == TRAIN and f"p{person}" in train

    train: set[str] = set()
    split = frame(spark, rows(1)).select(
        "person_id", "observation_date", (split_column(recipe) == "train").alias("train")
    )
    train |= {row[0] for row in split.where("train").collect()}
    assert 5 < len(train) < 15
    plain = train_numbers(frame(spark, rows(1)), recipe, QUANTILES)
    assert train_numbers(frame(spark, rows(1000)), recipe, QUANTILES) == plain
    seen_amounts = np.array([int(person[1:]) + 1 for person in train])
    expected = expected_bounds(seen_amounts, QUANTILES)
    assert [float(bound) for bound in plain.fields[0].above] == expected
    train.clear()
    assert train_numbers(frame(spark, rows(1000)), recipe, QUANTILES) != plain


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
    events = [
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
    events = [single_event(amount=Decimal(text)) for text in texts]
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


def test_every_number_of_a_later_sequence_is_a_known_word(spark: SparkSession) -> None:
    recipe = load_recipe(TINY, [f"instructions.quantiles={QUANTILES}", "instructions.auxiliary=[income_band@1]"])
    seen = [{"age": str(age), "income": str(100 * age), "job": "clerk"} for age in range(20, 60)]
    event = single_event(amount=Decimal(7), days_past_due=3, attributes={"ratio": "0.5"})
    numbers = train_numbers(frame(spark, [{"events": [event], "profile": profile} for profile in seen]), recipe, 4)
    known = datetime(2023, 1, 1, tzinfo=UTC)
    profiles = spark.createDataFrame(
        [(known, {**profile, "age": "unknown"} if profile["age"] == "20" else profile) for profile in seen],
        "known_at timestamp, attributes map<string,string>",
    )
    answers = known_answers(profiles, recipe, numbers)
    assert sorted(answers["income_band@1"]) == ["-q1", "q0", "q1", "q2", "q3", "q4"]
    lines = ["start order", *vocabulary_lines([["start order"]], profiles, recipe, answers, numbers)]
    letters = LineEncoder(train_tokenizer(lines, ["Question? Answer:", "Yes", "No"]).backend_tokenizer)
    later = single_event(amount=Decimal("123456.78"), days_past_due=999, attributes={"ratio": "-44"})
    profile = numbers.profile({"age": "97", "income": "2600", "job": "clerk"})
    settings = recipe.instructions
    (line,) = render_history([later], template=TEMPLATE, settings=settings, zone=UTC_ZONE, numbers=numbers)
    branch = render_branch(None, TRAIN, 0, profile, "Question? Answer:", template=TEMPLATE, settings=settings)
    assert line.endswith("order dpdq1 q1 ratio=-q1")
    assert branch[1] == "profile age=q4 income=q1 job=clerk"
    assert all(letters.knows(word) for word in line.split()[2:])
    assert letters.knows(branch[1])
    assert letters.knows("q_ dpdq_ age=unknown")
    assert not letters.knows("age=97")
    assert not letters.knows("age=30")


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
