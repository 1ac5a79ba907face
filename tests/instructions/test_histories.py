"""Histories of a batch: local dates and lines of many events equal those of single events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.support.prompt_cases import AROUND, random_sequences, single_event
from tests.support.prompt_oracle import batch_of, plan
from zigong.errors import DataError, InfraError
from zigong.instructions.histories import events_in, local_date_of, local_days, render_histories
from zigong.instructions.render import local_date, round_number
from zigong.recipe import Instructions

ZONES = (
    "UTC",
    "America/St_Johns",
    "America/Sao_Paulo",
    "Africa/Casablanca",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Asia/Kathmandu",
)


@pytest.mark.parametrize("zone", ZONES)
@hypothesis_settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_local_dates_of_an_array_equal_those_of_single_moments(zone: str, data: st.DataObject) -> None:
    there, around = ZoneInfo(zone), data.draw(st.datetimes(datetime(1850, 1, 1), datetime(2037, 5, 1)))
    near = st.timedeltas(timedelta(days=-200), timedelta(days=200))
    moments = [around + step for step in data.draw(st.lists(near, max_size=20))]
    hours = [around + timedelta(minutes=20 * step) for step in range(data.draw(st.integers(0, 500)))]
    aware = [moment.replace(tzinfo=UTC) for moment in (*moments, *hours)]
    found = local_days(pa.array(aware, pa.timestamp("us", tz="UTC")), there)
    assert [local_date_of(day) for day in found.tolist()] == [local_date(moment, there) for moment in aware]
    naive_moments = pa.array([moment.replace(tzinfo=None) for moment in aware], pa.timestamp("us"))
    assert local_days(naive_moments, there).tolist() == found.tolist()


def lines_of(events: list[dict[str, Any]], settings: Instructions) -> tuple[list[str], list[int]]:
    """The distinct lines and the line of each event, for events at one moment, each in its own sequence."""
    rows = [{**random_sequences(0, 1, AROUND[1][1])[0], "events": [event]} for event in events]
    wanted = plan("UTC", 500, **settings.model_dump(include={"event_fields"}))
    histories = render_histories(
        events_in(batch_of(rows, wanted), wanted.event_fields),
        template=wanted.template,
        settings=settings,
        zone=ZoneInfo("UTC"),
    )
    return histories.lines, histories.codes.tolist()


def test_amounts_share_a_line_exactly_when_they_round_to_the_same_word() -> None:
    borders = [round(factor**0.5 * 10.0**power * 100) for factor in (2, 10, 50, 100) for power in range(-2, 15)]
    hundredths = sorted({sign * (border + step) for border in borders for step in (-1, 0, 1) for sign in (-1, 1)})
    amounts = [Decimal(number).scaleb(-2) for number in (*hundredths, 10**18 - 1, 1 - 10**18)]
    lines, codes = lines_of([single_event(amount=amount) for amount in amounts], Instructions(event_fields=("amount",)))
    words = [round_number(float(amount)) for amount in amounts]
    assert [lines[code].split()[-1] for code in codes] == words
    assert len(lines) == len(set(words)) > 100


def test_attributes_share_a_line_exactly_when_they_render_the_same() -> None:
    maps = [None, {}, {"a": "b"}, {"b": "a"}, {"a": "b", "b": "a"}, {"ab": ""}, {"a": "b"}, {"a": "a", "b": "b"}]
    lines, codes = lines_of(
        [single_event(attributes=value) for value in maps], Instructions(event_fields=("attributes",))
    )
    assert [lines[code] for code in codes] == [
        "start order", "start order", "start order a=b", "start order b=a", "start order a=b b=a", "start order ab=_",
        "start order a=b", "start order a=a b=b",
    ]  # fmt: skip
    assert len(lines) == 6


def test_a_moment_after_the_last_year_of_time_zone_files_is_rejected() -> None:
    moments = pa.array([datetime(2037, 12, 31, 23, tzinfo=UTC), datetime(2038, 1, 1, tzinfo=UTC)])
    assert len(local_days(moments[:1], ZoneInfo("America/Sao_Paulo"))) == 1
    with pytest.raises(DataError, match="event_at up to the year 2037, found 2038"):
        local_days(moments, ZoneInfo("America/Sao_Paulo"))


def test_a_time_zone_whose_clock_changes_arrow_does_not_know_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = pa.array([datetime(2023, 1, 1, tzinfo=UTC)])
    unmoved = "zigong.instructions.histories.pc.local_timestamp"
    monkeypatch.setattr(unmoved, lambda moments: moments.cast(pa.timestamp("us")))
    with pytest.raises(InfraError, match="time zone Europe/Lisbon: the system's files do not list"):
        local_days(moments, ZoneInfo("Europe/Lisbon"))
