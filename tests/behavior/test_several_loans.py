"""Clients with several loans: arrears are those of each loan, and a client's state is that of the open loans."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from tests.support import naive_history as naive
from tests.support.drawn_logs import MAPPING, TIMEZONE, as_events
from zigong.behavior.labels import performance_labels
from zigong.behavior.observation import observation_points
from zigong.behavior.timeline import user_timelines
from zigong.recipe import Cohort, Horizon

T, AS_OF = date(2023, 6, 1), date(2023, 12, 1)


def event(user: str, day: date, loan: str | None, dpd: int | None, kind: str = "statement") -> naive.Version:
    at = naive.midnight(day)
    return naive.Version(
        source="core",
        event_id=f"{user}-{day}-{loan}-{kind}",
        known_at=at,
        op="upsert",
        user_id=user,
        event_type=kind,
        event_at=at,
        days_past_due=dpd,
        word=None,
        loan_id=loan,
    )


def day(month: int, number: int) -> date:
    return date(2023, month, number)


PAST: dict[str, list[tuple[date, str | None, int | None, str]]] = {
    "one_loan_is_late": [(day(5, 20), "a", 60, "statement"), (day(5, 21), "b", 0, "statement")],
    "another_loan_closed": [(day(5, 20), "a", 0, "statement"), (day(5, 21), "b", 0, "closed")],
    "the_late_loan_closed": [(day(5, 20), "a", 0, "statement"), (day(5, 21), "b", 90, "closed")],
    "every_loan_closed": [(day(5, 20), "a", 0, "closed"), (day(5, 21), "b", 5, "closed")],
    "reopened": [(day(5, 20), "a", 0, "closed"), (day(5, 21), "a", 7, "statement")],
    "both_are_late": [(day(5, 20), "a", 12, "statement"), (day(5, 21), "b", 9, "statement")],
    "no_loan_named": [(day(5, 20), None, 60, "statement"), (day(5, 21), None, 0, "statement")],
}


@dataclass(frozen=True, kw_only=True)
class Built:
    """What became of the clients, by name."""

    points: dict[str, Any]
    labels: dict[str, Any]


def log_of(past: dict[str, list[tuple[date, str | None, int | None, str]]]) -> list[naive.Version]:
    """The histories, each followed by a punctual month of loan_a."""
    future = [event(user, day(6, 15), None if user == "no_loan_named" else "a", 0) for user in past]
    return [
        event(user, when, loan, dpd, kind) for user, rows in past.items() for when, loan, dpd, kind in rows
    ] + future


def timelines_of(spark: SparkSession) -> DataFrame:
    return user_timelines(as_events(spark, log_of(PAST)), TIMEZONE)


@pytest.fixture(scope="module")
def built(spark: SparkSession) -> Built:
    timelines = timelines_of(spark).localCheckpoint()
    points = observation_points(
        timelines, dates=[T], timezone=TIMEZONE, cohort=Cohort(max_days_past_due=29), mapping=MAPPING, population="c1"
    )
    everybody = observation_points(
        timelines, dates=[T], timezone=TIMEZONE, cohort=Cohort(open_loan=False), mapping=MAPPING, population="c1"
    )
    labels = performance_labels(
        timelines,
        everybody,
        horizons=[Horizon(window_months=1, dpd_threshold=30)],
        reporting_lag_days=0,
        as_of_date=AS_OF,
        timezone=TIMEZONE,
        mapping=MAPPING,
        label_settings="h1",
    )
    return Built(
        points={row["user_id"]: row for row in points.collect()},
        labels={row["user_id"]: row for row in labels.collect()},
    )


@pytest.mark.parametrize(
    ("user", "reason", "days_past_due", "loan_open"),
    [
        ("one_loan_is_late", "in_arrears", 60, True),
        ("another_loan_closed", None, 0, True),
        ("the_late_loan_closed", None, 0, True),
        ("every_loan_closed", "loan_closed", 0, False),
        ("reopened", None, 7, True),
        ("both_are_late", None, 12, True),
        ("no_loan_named", None, 0, True),
    ],
)
def test_a_client_is_in_the_state_of_the_worst_open_loan(
    built: Built, user: str, reason: str | None, days_past_due: int, loan_open: bool
) -> None:
    point = built.points[user]
    assert (point["reason"], point["days_past_due"], point["loan_open"]) == (reason, days_past_due, loan_open)


@pytest.mark.parametrize(
    ("user", "largest", "outcome"),
    [
        ("one_loan_is_late", 60, "bad"),
        ("another_loan_closed", 0, "good"),
        ("the_late_loan_closed", 0, "good"),
        ("both_are_late", 12, "good"),
        ("no_loan_named", 0, "good"),
    ],
)
def test_arrears_of_an_open_loan_are_carried_into_the_window_whatever_other_loans_report(
    built: Built, user: str, largest: int, outcome: str
) -> None:
    label = built.labels[user]
    assert (label["max_days_past_due"], label["outcome"]) == (largest, outcome)
