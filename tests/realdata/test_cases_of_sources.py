"""Every delivery under shared/cases gives the right value of its README, by `source check` and by the real ingest."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.support.given_cases import MARKS, Case, told
from tests.support.stored import everything_on
from zigong.behavior.sources.raw import read_raw
from zigong.runs.handover import UnreadFiles

pytestmark = [*MARKS, pytest.mark.usefixtures("spark")]

# By case: for each finding its colour, its number of rows and column, and words of its problem or of what to do.
FINDINGS: dict[str, list[tuple[str, ...]]] = {
    "01-thousands/mapping.yaml": [("red", "3 amount: bad cast", "looks like thousands separators (3 rows)")],
    "01-thousands/german.yaml": [("red", "3 amount: 3 of 5 rows have a text and no value")],
    "01-thousands/german_if.yaml": [("red", "3 amount: 3 of 5 rows have a text and no value")],
    "01-thousands/german_plain.yaml": [("red", "3 amount: bad cast")],
    "01-thousands/us.yaml": [("red", "2 amount: looks like thousands separators")],
    "02-partial-dates/mapping.yaml": [("red", "5 day: bad cast", "partial date (2 rows)")],
    "02-partial-dates/times.yaml@Europe/Berlin": [
        ("red", "4 day: bad cast", "partial date (2 rows)", "time without a date (2 rows)"),
        ("yellow", "1 day: 1 of 2 cells have no time of day"),
    ],
    "03-hidden-files/mapping.yaml": [("red", "_feb.csv", ".mar.csv"), ("red", "sub/apr.csv")],
    "04-quotes/swallow.yaml": [],
    "04-quotes/backslash.yaml": [],
    "04-quotes/doubled.yaml": [],
    "04-quotes/newline.yaml": [],
    "04-quotes/swallow_rows.yaml": [],
    "05-nondeterministic/uuid.yaml": [("red", "events: event_key uses uuid(), which differs at each run")],
    "05-nondeterministic/rand.yaml": [("red", "events: amount uses rand(), which differs at each run")],
    "05-nondeterministic/randfilter.yaml": [("red", "events: its rows depend on rand(), which differs")],
    "05-nondeterministic/now.yaml": [("red", "events: known_at uses current_timestamp(), which differs")],
    "05-nondeterministic/today.yaml": [("red", "events: days_past_due uses current_date(), which differs")],
    "05-nondeterministic/monotonic.yaml": [("red", "event_key uses monotonically_increasing_id()")],
    "05-nondeterministic/rownumber.yaml": [("yellow", "row_number() depends on the order of the rows: 12 differ")],
    "05-nondeterministic/limit.yaml": [("yellow", "LIMIT depends on the order of the rows")],
    "05-nondeterministic/first.yaml": [("yellow", "any_value() depends on the order of the rows")],
    "07-scientific-ids/mapping.yaml": [("red", "6 client: scientific notation")],
    "07-scientific-ids/unknown.yaml": [
        ("yellow", "30 client: holds `UNKNOWN`", "null_values"),
        ("yellow", "10 client: holds `0`"),
        ("yellow", "user_key: one user_key holds 30% of the rows"),
    ],
    "07-scientific-ids/floats.yaml": [("red", "is a double, which rounds long ids")],
    "08-real-twins/mapping.yaml": [("red", "2 None: exact duplicates of a row", "_line")],
    "09-rounding/mapping.yaml": [("red", "4 amount: bad cast", "more digits than its type keeps")],
    "09-rounding/double.yaml": [("red", "amount: numbers with more digits than the column of the table keeps")],
    "09-rounding/kwd.yaml": [("red", "amount: ", "more digits")],
    "10-mixed-zones/mapping.yaml@Europe/Berlin": [("red", "3 at: cells carry an offset or a zone")],
    "12-int-as-float/mapping.yaml": [("red", "7 late: bad cast", "whole numbers written with .0", "decimal(18,2)")],
    "13-json-numbers/mapping.yaml": [("yellow", "1 amount: the key occurs twice in an object")],
    "13-json-numbers/shown.yaml": [("yellow", "1 amount: the key occurs twice in an object")],
    "14-dst/mapping.yaml@Europe/Berlin": [("yellow", "4 at: 4 of 6 local times lie in an hour", "offset")],
    "16-header-inside/mapping.yaml": [("red", "1 None: repeated header")],
    "16-header-inside/plain.yaml": [("red", "1 None: repeated header")],
    "16-header-inside/note.yaml": [("red", "is missing", "skip_lines")],
    "16-header-inside/month.yaml": [("yellow", "day: the pattern MMM-yyyy has no day", "last_day")],
    "17-person-empty/mapping.yaml": [("yellow", "4 person_key: one person_key holds 67% of the clients", "nullif")],
    "18-windows-1252/mapping.yaml": [("red", "2 branch: broken text", "encoding", "windows-1252")],
    "31-log-shows-raw-cell/mapping.yaml": [("red", "1 amount: bad cast")],
    "31-log-shows-raw-cell/sqlcast.yaml": [("red", "amount: the SQL fails on some rows")],
    "37-folder-mixtures/types.yaml": [("yellow", "not read", "jan.csv.bak", "readme.txt")],
    "37-folder-mixtures/nohead.yaml": [("red", "1 None: repeated header")],
    "37-folder-mixtures/bom.yaml": [],
    "39-draft-misses-identifiers/bank.yaml": [("red", "open: ")],
    "39-draft-misses-identifiers/other.yaml": [("red", "open: ")],
    "40-currency-unchecked/mapping.yaml": [("red", "4 None: currency is a code")],
    "41-key-not-an-identifier/mapping.yaml": [("red", "_key is made of rows.", "which is not declared identifier")],
}


@pytest.mark.parametrize("name", FINDINGS)
def test_the_check_finds_what_the_readme_asks_for(spark: SparkSession, name: str) -> None:
    result = Case(name).checked(spark)
    texts = [told(finding) for finding in result.findings]
    for colour, *words in FINDINGS[name]:
        assert [text for kind, text in texts if kind == colour and all(word in text for word in words)], texts
    if not FINDINGS[name]:
        assert result.complete, texts


NAMES = {
    "04-quotes/swallow.yaml": ["ACME \\", "plain"],
    "04-quotes/backslash.yaml": ["ACME \\", "C:\\dir\\", "plain"],
    "04-quotes/doubled.yaml": ['"quoted"', '5" pipe, steel', 'He said "x", then'],
    "04-quotes/newline.yaml": ["one", "one", "two\nlines"],
    "04-quotes/swallow_rows.yaml": ["one", "x\\\n2,b,paid,y"],
}


@pytest.mark.parametrize("name", NAMES)
def test_quoted_cells_are_read_by_rfc_4180(spark: SparkSession, name: str) -> None:
    case = Case(name)
    raw = read_raw(spark, case.mapping(), str(case.file.parent))
    assert sorted(row["name"] for row in raw.good["rows"].collect()) == NAMES[name]


def test_json_numbers_keep_every_digit_and_the_last_of_two_values(spark: SparkSession) -> None:
    case = Case("13-json-numbers/shown.yaml")
    rows = read_raw(spark, case.mapping(), str(case.file.parent)).good["rows"].collect()
    assert [(row["id"], row["client"], row["amount"]) for row in rows] == [
        ("10000000000000000000001", "a", "12345678901234567.89"),
        ("10000000000000000000002", "a", "1.10"),
        ("3", "b", "7"),
        ("4", "1e3", "9007199254740993"),
        ("5.0", "1000.0", "-999.995"),
    ]


def test_the_declared_encoding_reads_every_row(spark: SparkSession) -> None:
    case = Case("18-windows-1252/mapping.yaml")
    mapping = case.mapping(**{"format: csv": "format: csv\n    encoding: windows-1252"})
    assert case.checked(spark, mapping).complete
    rows = read_raw(spark, mapping, str(case.file.parent)).good["rows"].collect()
    assert {"Müller", "José"} < {row["branch"] for row in rows}


# By case: words of the error, before anything is published.
REFUSED = {
    "01-thousands/mapping.yaml": "3 of 4 raw rows do not fit",
    "01-thousands/german.yaml": "3 of 5 rows have a text and no value",
    "01-thousands/us.yaml": "looks like thousands separators",
    "02-partial-dates/mapping.yaml": "5 of 6 raw rows do not fit",
    "02-partial-dates/times.yaml@Europe/Berlin": "4 of 6 raw rows do not fit",
    "05-nondeterministic/uuid.yaml": "event_key uses uuid(), which differs at each run",
    "07-scientific-ids/mapping.yaml": "6 of 7 raw rows do not fit",
    "07-scientific-ids/floats.yaml": "is a double, which rounds long ids",
    "08-real-twins/mapping.yaml": "2 of 4 events are exact duplicates",
    "09-rounding/mapping.yaml": "4 of 5 raw rows do not fit",
    "10-mixed-zones/mapping.yaml@Europe/Berlin": "3 of 5 raw rows do not fit",
    "12-int-as-float/mapping.yaml": "7 of 8 raw rows do not fit",
    "16-header-inside/mapping.yaml": "1 of 3 raw rows do not fit",
    "40-currency-unchecked/mapping.yaml": "few_rows_are_refused: expected at most 0.2, observed 0.6667",
    "41-key-not-an-identifier/mapping.yaml": "is made of rows.",
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_ingest_refuses_what_cannot_be_right(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZIGONG_USER_KEY", "a-secret-of-the-tests-of-the-cases")
    monkeypatch.setattr("zigong.recipe.user_key._taken", {})  # another test of this process may have had one
    outcome = Case(name).ingested(tmp_path).outcome
    assert (outcome.kind, REFUSED[name] in outcome.message) == ("data", True), outcome.message
    assert not any(cell in everything_on(tmp_path) for cell in ("Anna Smith", "DE-4711", "DE-4712"))


# By case: the number of published events, and words of each warning.
PUBLISHED: dict[str, tuple[int, list[str]]] = {
    "03-hidden-files/mapping.yaml": (1, []),
    "05-nondeterministic/rownumber.yaml": (12, ["row_number() depends on the order of the rows"]),
    "07-scientific-ids/unknown.yaml": (100, ["holds `0`", "holds `UNKNOWN`", "one user_key holds 30% of the rows"]),
    "14-dst/mapping.yaml@Europe/Berlin": (6, []),
    "17-person-empty/mapping.yaml": (6, []),
    "18-windows-1252/mapping.yaml": (18, ["branch: broken text (2 rows)"]),
    "37-folder-mixtures/types.yaml": (1, []),
    "37-folder-mixtures/bom.yaml": (2, []),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_ingest_publishes_the_right_rows_and_warns(name: str, tmp_path: Path) -> None:
    found = Case(name).ingested(tmp_path)
    events, warnings = PUBLISHED[name]
    assert found.outcome.kind == "ok", found.outcome.message
    assert len(found.rows()) == events
    assert len(found.outcome.warnings) == len(warnings), found.outcome.warnings
    assert all(words in text for words, text in zip(warnings, found.outcome.warnings, strict=True))
    if name.startswith("03"):
        unread = found.run.take(UnreadFiles).unread_files or ""
        assert all(file in unread for file in ("_feb.csv", ".mar.csv", "apr.csv"))
    if name.startswith("17"):
        assert [row["person_id"] for row in found.rows("user_profiles")].count(None) == 4
