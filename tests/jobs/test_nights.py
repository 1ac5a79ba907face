"""Nightly ingests add versions to what is published; no night rewrites what was known before it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import pytest
from pyspark.sql import SparkSession

from tests.support.bank import MAPPING, Bank
from zigong.runs.run import Outcome

pytestmark = pytest.mark.usefixtures("spark")
LOAD = ["anna,e1,2023-03-05 10:00:00,order,10,", "bert,e2,2023-03-08 10:00:00,payment,20,"]
CLIENTS = ["anna,2023-03-01 00:00:00,Rome", "bert,2023-03-01 00:00:00,Oslo"]
TENTH = [
    "anna,e3,2023-03-10 09:00:00,order,30,",
    "anna,e4,2023-03-07 09:00:00,order,40,",  # late
    "anna,e1,2023-03-05 10:00:00,order,11,",  # changed, under the same key and time
    LOAD[1],
    LOAD[1],
    "anna,e5,2023-03-12 09:00:00,order,50,",  # of a later night
    "anna,e6,,order,60,",
]


@pytest.fixture(scope="module")
def bank(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Bank:
    bank = Bank(home=tmp_path_factory.mktemp("bank"))
    assert bank.ingest("load", LOAD, CLIENTS).kind == "ok"
    return bank


@dataclass(frozen=True, kw_only=True)
class Night:
    """The night of March 10, and what was known before it by date."""

    before: dict[int, list[str]]
    outcome: Outcome


@pytest.fixture(scope="module")
def tenth(bank: Bank) -> Night:
    before = {day: bank.amounts_before(date(2023, 3, day)) for day in range(5, 11)}
    return Night(before=before, outcome=bank.ingest("tenth", TENTH, night=date(2023, 3, 10)))


def test_every_row_of_a_night_is_accounted_for_and_the_past_stays_as_it_was(bank: Bank, tenth: Night) -> None:
    before, outcome = tenth.before, tenth.outcome
    counts = outcome.tables["behavior_events"]
    assert (outcome.kind, {name: value for name, value in counts.items() if name != "version"}) == (
        "ok",
        {
            "rows_in": 7,
            "published": 3,
            "quarantined": 1,
            "dropped": {"duplicate": 1, "repetition": 1},
            "outside": 1,
            "found": {"late": 1, "changed": 1, "retracted": 0},
        },
    )
    assert bank.amounts() == [
        ("03-05 10:00", "10.00"),
        ("03-08 10:00", "20.00"),
        ("03-10 00:00", "11.00"),
        ("03-10 00:00", "40.00"),
        ("03-10 09:00", "30.00"),
    ]
    assert {day: bank.amounts_before(date(2023, 3, day)) for day in before} == before
    assert bank.cities() == [("03-01 00:00", "Oslo"), ("03-01 00:00", "Rome")]


@pytest.mark.soak
@pytest.mark.usefixtures("tenth")
def test_a_night_ingested_again_adds_what_changed_after_all_that_is_published(bank: Bank) -> None:
    before = bank.amounts_before(date(2023, 3, 11))
    again = [*TENTH[:4], "anna,e3,2023-03-10 09:00:00,order,31,"]
    some_clients = ["anna,2023-03-01 00:00:00,Paris", "cleo,2023-03-02 00:00:00,Bern"]

    outcome = bank.ingest("tenth-again", again, some_clients, night=date(2023, 3, 10))

    counts = outcome.tables["behavior_events"]
    assert (counts["rows_in"], counts["published"], counts["dropped"]) == (5, 1, {"repetition": 4})
    assert bank.amounts_before(date(2023, 3, 11)) == before
    assert ("03-11 00:00", "31.00") in bank.amounts()
    assert bank.cities() == [
        ("03-01 00:00", "Oslo"),
        ("03-01 00:00", "Rome"),
        ("03-10 00:00", "Bern"),
        ("03-11 00:00", "Paris"),
    ]
    nights = {row["run_id"]: row for row in bank.rows("deliveries") if row["run_id"].startswith("tenth")}
    assert {name: (row["events_late"], row["events_changed"]) for name, row in nights.items()} == {
        "tenth": (1, 1),
        "tenth-again": (0, 1),
    }


@pytest.mark.soak
@pytest.mark.usefixtures("tenth")
def test_only_a_full_delivery_withdraws_and_an_empty_one_is_blocked(bank: Bank) -> None:
    full = Bank(home=bank.home, mapping=MAPPING + "deliveries: {events: full, profiles: full}\n")
    before = {day: bank.amounts_before(date(2023, 3, day)) for day in range(5, 13)}

    empty = full.ingest("empty", [], CLIENTS, night=date(2023, 3, 12))
    assert (empty.kind, "would withdraw every published one" in empty.message) == ("data", True)
    outcome = full.ingest("full", [LOAD[1], TENTH[0]], [CLIENTS[0]], night=date(2023, 3, 12))

    assert outcome.kind == "ok", outcome.message
    assert {day: bank.amounts_before(date(2023, 3, day)) for day in before} == before
    assert bank.amounts_before(date(2023, 3, 13)) == ["20.00", "30.00"]
    assert bank.cities()[-3:] == [("03-12 00:00", "-"), ("03-12 00:00", "-"), ("03-12 00:00", "Rome")]
