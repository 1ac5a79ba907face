"""Bins are the exact quantiles of train alone, and all their words are known to a tiny base."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from pyspark.sql import DataFrame, SparkSession

from schemas.contracts import table_contract
from tests.support.finished import TINY
from tests.support.number_words import QUANTILES, bins, expected_bounds
from tests.support.prompt_cases import single_event
from zigong.dataset.members import split_column
from zigong.dataset.train_numbers import train_numbers
from zigong.instructions.corpus import known_answers, vocabulary_lines
from zigong.instructions.encode import LineEncoder
from zigong.instructions.number_fit import fit_numbers
from zigong.instructions.render import render_branch, render_history
from zigong.instructions.templates import load_template
from zigong.recipe import Instructions, load_recipe
from zigong.training.tokenizer import train_tokenizer

TEMPLATE = load_template("behavior_card@1", "en")
TRAIN, VALIDATION = date(2023, 3, 1), date(2023, 5, 1)


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
    tied, fee = found.bins("amount", "tied"), found.bins("amount", "fee")
    assert tied is not None
    assert len(tied.above) < 7
    assert fee is not None
    assert [str(bound) for bound in fee.above] == ["5", "7.5"]
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
    later: Any = single_event(amount=Decimal("123456.78"), days_past_due=999, attributes={"ratio": "-44"})
    profile = numbers.profile({"age": "97", "income": "2600", "job": "clerk"})
    settings = recipe.instructions
    (line,) = render_history([later], template=TEMPLATE, settings=settings, zone=ZoneInfo("UTC"), numbers=numbers)
    branch = render_branch(None, TRAIN, 0, profile, "Question? Answer:", template=TEMPLATE, settings=settings)
    assert line.endswith("order dpdq1 q1 ratio=-q1")
    assert branch[1] == "profile age=q4 income=q1 job=clerk"
    assert all(letters.knows(word) for word in line.split()[2:])
    assert letters.knows(branch[1])
    assert letters.knows("q_ dpdq_ age=unknown")
    assert not letters.knows("age=97")
    assert not letters.knows("age=30")
