"""Every bad row of a delivery is quarantined with a reason, and the others are published."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from tests.support.shop import GOOD, PARQUET, Shop, accounted, parquet, with_column
from zigong.runs.dates import Dates

pytestmark = pytest.mark.soak

BAD_CSV_ROWS = {
    b"a1,anna,1,2023-02-30,order,1,": ["bad_cast:DAY"],
    b"a2,anna,1,soon,order,1,": ["bad_cast:DAY"],
    b"a4,anna,1,99999-01-01,order,1,": ["bad_cast:DAY"],  # a date to Spark, but to no other engine
    b"a3,anna,3000000000,2023-03-25,order,1,": ["bad_cast:NUMBER"],
    b"b1,anna,1,2023-03-25,order,1,NaN": ["not_finite:RATE"],
    b"b2,anna,1,2023-03-25,order,1,-Infinity": ["not_finite:RATE"],
    b"b3,anna,1,2023-03-25,order,NaN,": ["bad_cast:AMOUNT"],
    b"b4,anna,1,2023-03-25,order,1e300,": ["bad_cast:AMOUNT"],
    b"c1,anna,1,2023-03-25,order,-0.01,": ["below_minimum:AMOUNT"],
    b"c2,anna,1,2023-03-25,dance,1,": ["unknown_value:KIND"],
    b"c3,,x,2023-03-25,order,1,": ["missing:CLIENT", "bad_cast:NUMBER"],
    b"d1,anna,1,2023-03-25,order,1,,too,many": ["malformed_row"],
    b"d2,anna,1,2023-03-25": ["malformed_row"],
    b'd3,anna,1,"2023-03-25,order,1,': ["malformed_row"],
    b"e1,an\x00na,1,2023-03-25,order,1,": ["broken_text:CLIENT"],
    b"e2,b\xe4r,1,2023-03-25,order,1,": ["broken_text:CLIENT"],  # Latin-1
    b"e3," + b"x" * 10_000_000 + b",1,2023-03-25,order,1,": ["too_long:CLIENT"],
    b"e4,anna,1,2023-03-25," + b"k" * 10_000_000 + b",1,": ["unknown_value:KIND", "too_long:KIND"],
}


def test_every_bad_row_of_a_csv_is_quarantined_by_name_and_the_others_are_published(shop: Shop) -> None:
    late = b"f1,anna,1,9999-12-31,order,1,"  # the day for never; half an hour later it is known
    negative = b"f2,anna,-1,2023-03-25,order,1,"
    more = [b"h%d,anna,1,2023-03-25,order,1," % number for number in range(20)]  # few enough are bad for the breaker
    content = GOOD + b"\n".join([*more, *BAD_CSV_ROWS, late, negative]) + b"\n"

    outcome = shop.ingest({"rows.csv": content}, "rows.csv")

    assert (outcome.kind, accounted(outcome)) == ("ok", True)
    raw, events = outcome.tables["raw_shop"], outcome.tables["behavior_events"]
    assert raw == {"rows_in": 43, "published": 25, "quarantined": 18, "dropped": {}, "outside": 0, "version": None}
    assert (events["rows_in"], events["published"], events["quarantined"]) == (25, 23, 2)
    refused = shop.quarantined("raw_shop")
    # Of a malformed row only the shapes are kept: its cells may be those of other columns.
    expected = [
        ("a9" if reasons == ["malformed_row"] else row.partition(b",")[0].decode(), reasons)
        for row, reasons in BAD_CSV_ROWS.items()
    ]
    assert sorted((payload["ROW"], reasons) for reasons, payload in refused) == sorted(expected)
    assert max(len(json.dumps(payload)) for _, payload in refused) < 2_000, "a huge cell is kept by its beginning"
    assert sorted(reasons for reasons, _ in shop.quarantined("behavior_events")) == [
        ["days_past_due_not_negative"],
        ["far_future:event_at", "far_future:known_at"],
    ]


def test_broken_json_lines_are_quarantined_and_the_others_are_published(shop: Shop) -> None:
    row = {"ROW": "g1", "CLIENT": "anna", "NUMBER": 1, "DAY": "2023-03-25", "KIND": "order", "AMOUNT": 1.5, "MORE": 1}
    changed: list[dict[str, Any]] = [
        {"AMOUNT": -1},
        {"RATE": float("inf")},
        {"NUMBER": {"x": 1}, "DAY": [1]},
        {"CLIENT": "a\0"},
    ]
    lines = [json.dumps({**row, "ROW": f"b{number}", **change}) for number, change in enumerate(changed)]
    broken = ['{"ROW": "x", "CLIENT', "null", '"text"', "[1, 2]", "{}"]

    outcome = shop.ingest({"rows.json": "\n".join([json.dumps(row), *lines, *broken]).encode()}, "rows.json")

    assert (outcome.kind, accounted(outcome)) == ("ok", True)
    assert outcome.tables["behavior_events"]["published"] == 1
    required = [f"missing:{name}" for name in ("ROW", "CLIENT", "NUMBER", "DAY", "KIND")]
    assert sorted(reasons for reasons, _ in shop.quarantined("raw_shop")) == sorted(
        [["below_minimum:AMOUNT"], ["not_finite:RATE"], ["bad_cast:NUMBER", "bad_cast:DAY"], ["broken_text:CLIENT"]]
        + [["malformed_row"]] * 4
        + [required]
    )


def test_non_finite_numbers_and_broken_text_of_parquet_are_quarantined(shop: Shop) -> None:
    rows = pa.concat_tables([PARQUET] * 3).combine_chunks()
    rows = with_column(rows, "RATE", pa.array([float("nan"), float("-inf"), 0.0, 0.0, 0.0, None]))
    rows = with_column(
        rows, "AMOUNT", pa.array([Decimal(1)] * 2 + [Decimal(-1)] + [Decimal(1)] * 3, pa.decimal128(18, 2))
    )
    rows = with_column(rows, "CLIENT", pa.array([b"a", b"b", b"c", b"\xff\xfe", b"e", b"f"]).view(pa.string()))
    rows = with_column(rows, "ROW", pa.array(list("abcdef")))

    outcome = shop.ingest({"rows.parquet": parquet(rows)}, "rows.parquet")

    assert (outcome.kind, accounted(outcome)) == ("ok", True)
    assert {payload["ROW"]: reasons for reasons, payload in shop.quarantined("raw_shop")} == {
        "a": ["not_finite:RATE"],
        "b": ["not_finite:RATE"],
        "c": ["below_minimum:AMOUNT"],
        "d": ["broken_text:CLIENT"],
    }
    assert outcome.tables["behavior_events"]["published"] == 2


def test_a_night_without_events_keeps_other_rows_and_extra_columns_are_reported(shop: Shop) -> None:
    assert shop.ingest({"rows.csv": GOOD}, "rows.csv").kind == "ok"
    events = shop.published()["behavior_events"][1]
    wider = GOOD.replace(b"RATE\n", b"RATE,NOTE\n").replace(b"0.1\n", b"0.1,hello\n").replace(b",\n", b",,\n")

    night = Dates(first=date(2023, 4, 1), end=date(2023, 4, 2))
    outcome = shop.ingest({"rows.csv": wider}, "rows.csv", run_id="wide", dates=night)

    assert (outcome.kind, accounted(outcome)) == ("ok", True)
    assert outcome.tables["raw_shop"]["quarantined"] == 0
    counts = outcome.tables["behavior_events"]
    assert (counts["rows_in"], counts["published"], counts["dropped"]) == (3, 0, {"repetition": 3})
    assert shop.published()["behavior_events"][1] == events
    manifest = json.loads((shop.root / "_runs" / "wide" / "manifest.json").read_text())
    assert manifest["values"]["UnreadColumns"] == {"unread_columns": "rows: NOTE"}
