from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from schemas.contracts import table_contract
from tests.support.finished import REPOSITORY
from tests.support.sequence_rows import OUTCOMES, SHANGHAI, Event, Row, make_event, random_rows, sequence_table
from zigong.errors import DataError
from zigong.features.baseline import baseline_features, feature_rows
from zigong.features.frame import FEATURE_COLUMNS, features_of
from zigong.features.names import FEATURES, LAGS, NO_STATUS, describe, is_of_other_loans, kind_of


def _naive_features(t: datetime, profile: dict[str, str], events: list[Event], kinds: list[str]) -> dict[str, object]:
    zone = ZoneInfo(SHANGHAI)
    local = t.astimezone(zone)

    def back(event: Event) -> int:
        at: datetime = event["event_at"].astimezone(zone)
        return (local.year - at.year) * 12 + local.month - at.month

    outcomes = [event for event in events if event["event_type"] in OUTCOMES][::-1]
    found: dict[str, object] = {}
    for lag in range(1, LAGS + 1):
        event = outcomes[lag - 1] if lag <= len(outcomes) else None
        found[f"status_lag_{lag}"] = event["event_type"] if event else NO_STATUS
        found[f"dpd_lag_{lag}"] = event["days_past_due"] if event else None
    for window, months in {"1m": 1, "3m": 3, "6m": 6, "12m": 12, "24m": 24, "all": 1000}.items():
        near = [event for event in events if back(event) <= months]
        oldest = max((back(event) for event in events), default=0)
        for kind in kinds:
            number = sum(event["event_type"] == kind for event in near)
            found[f"rate_{kind}_all" if window == "all" else f"count_{kind}_{window}"] = (
                number / max(oldest, 1) if window == "all" else number
            )
        found[f"max_dpd_{window}"] = max(
            (e["days_past_due"] for e in near if e["days_past_due"] is not None), default=None
        )
    for days in (1, 30):
        found[f"months_since_dpd_{days}"] = min(
            (back(e) for e in events if (e["days_past_due"] or 0) >= days), default=None
        )
    found["amount_loan_3m"] = float(sum(e["amount"] for e in events if e["amount"] and back(e) <= 3))
    found["months_of_history"] = max((back(event) for event in events), default=0)
    found["known_events"] = len(events) + 5  # five were folded
    found["gap_days"] = (t - events[-1]["event_at"]) / timedelta(days=1) if events else None
    found["outcome_gap_days"] = (t - outcomes[0]["event_at"]) / timedelta(days=1) if outcomes else None
    return found | {f"profile_{key}": profile.get(key) for key in ("city", "income")}


def test_features_equal_a_loop_over_sequences_for_any_chunks() -> None:
    rows = random_rows(1, users=60)
    table = pa.concat_tables([sequence_table(rows[:7]), sequence_table(rows[7:7]), sequence_table(rows[7:])])
    found = baseline_features(table, OUTCOMES, SHANGHAI)
    naive = pd.DataFrame([_naive_features(*row, kinds=["call", "late", "loan", "on_time"]) for row in rows])
    assert set(found.columns) == set(naive.columns)
    assert found.index.tolist() == list(range(60))
    for name in map(str, naive):
        if name.startswith(("status", "profile")):
            assert (
                found[name].astype(object).where(found[name].notna(), None).tolist()
                == naive[name].where(naive[name].notna(), None).tolist()
            )
        else:
            np.testing.assert_allclose(found[name].astype(float), naive[name].astype(float), rtol=1e-6, err_msg=name)


def test_values_of_counted_attributes_are_counted_per_type_like_types() -> None:
    channels = ("app", "branch", None)
    rows = random_rows(3, users=40)
    for place, event in enumerate(event for _, _, events in rows for event in events):
        channel = channels[place % 3]
        event["attributes"] = [("timing", "early"), *([("channel", channel)] if channel else [])]
    table = sequence_table(rows)
    found = baseline_features(table, OUTCOMES, SHANGHAI, attributes=["channel"])
    for channel in ("app", "branch"):
        chosen = [(t, p, [e for e in events if ("channel", channel) in e["attributes"]]) for t, p, events in rows]
        plain = baseline_features(sequence_table(chosen), OUTCOMES, SHANGHAI)
        for name in map(str, plain):
            if name.startswith("count"):
                kind, window = name.rsplit("_", 1)
                np.testing.assert_array_equal(found[f"{kind}.channel={channel}_{window}"], plain[name], err_msg=name)
    assert {name for name in map(str, found) if name.endswith("_6m") and "count_late" in name} == {
        "count_late_6m",
        "count_late.channel=app_6m",
        "count_late.channel=branch_6m",
    }
    without = baseline_features(table, OUTCOMES, SHANGHAI)
    pd.testing.assert_frame_equal(found[without.columns], without)


def test_features_of_an_observed_loan_are_its_own_and_those_of_the_other_loans() -> None:
    t = datetime(2024, 1, 1, tzinfo=UTC)
    own = [
        make_event("late", t - timedelta(days=40), 31) | {"loan": 1},
        make_event("on_time", t - timedelta(days=9), 0) | {"loan": 1},
    ]
    others = [
        make_event("late", t - timedelta(days=30), 62) | {"loan": 2},
        make_event("late", t - timedelta(days=8), 92) | {"loan": 3},
    ]
    call = make_event("call", t - timedelta(days=3))
    rows: list[Row] = [(t, {}, sorted([*own, *others, call], key=lambda event: event["event_at"]))]
    table = sequence_table(rows).set_column(5, "loans", pa.array([3], pa.int32()))
    found = baseline_features(table.set_column(6, "loan", pa.array([1], pa.int32())), OUTCOMES, "UTC").iloc[0]
    assert (found["status_lag_1"], found["dpd_lag_1"], found["dpd_lag_2"]) == ("on_time", 0, 31)
    assert (found["count_late_3m"], found["count_call_3m"], found["max_dpd_12m"]) == (1, 1, 31)
    assert (found["other_count_late_3m"], found["other_count_call_3m"], found["other_max_dpd_12m"]) == (2, 0, 92)
    assert (found["outcome_gap_days"], found["gap_days"], found["loans"]) == (9, 3, 3)
    of_client = baseline_features(table, OUTCOMES, "UTC")
    assert (of_client["count_late_3m"][0], of_client["max_dpd_12m"][0]) == (3, 92)
    assert not [name for name in of_client.columns if name.startswith(("other_", "loans"))]


def _of_loan_1(history: list[Event]) -> pd.Series:
    """The features of the client's first loan, observed on 1 January 2024."""
    ordered = sorted(history, key=lambda event: event["event_at"])
    table = sequence_table([(datetime(2024, 1, 1, tzinfo=UTC), {"city": "A"}, ordered)])
    named = table.set_column(5, "loans", pa.array([4], pa.int32())).set_column(6, "loan", pa.array([1], pa.int32()))
    return baseline_features(named, OUTCOMES, "UTC").iloc[0]


def _loan_event(loan: int, month: int, dpd: int) -> Event:
    return make_event("late" if dpd else "on_time", datetime(2023, month, 9, tzinfo=UTC), dpd) | {"loan": loan}


def test_other_loans_have_their_best_worst_and_summed_arrears_and_the_own_loan_its_age() -> None:
    found = _of_loan_1(
        [
            _loan_event(*given)
            for given in ((1, 11, 0), (1, 8, 31), (2, 3, 95), (2, 12, 10), (3, 9, 40), (3, 10, 0), (4, 6, 7))
        ]
    )
    assert (found["other_last_dpd_best"], found["other_last_dpd_worst"], found["other_last_dpd_sum"]) == (0, 10, 17)
    assert (found["other_highest_dpd_best"], found["other_highest_dpd_sum"]) == (7, 142)
    assert (found["other_loans_in_arrears"], found["other_max_dpd_all"]) == (2, 95)
    assert (found["other_months_since_dpd_1"], found["other_months_since_dpd_30"]) == (1, 4)
    assert (found["months_since_dpd_30"], found["months_of_loan"], found["months_of_history"]) == (5, 5, 10)
    alone = _of_loan_1([_loan_event(1, 11, 0)])
    assert alone.filter(like="_dpd_best").isna().all()


def test_features_of_the_own_loan_do_not_depend_on_other_loans() -> None:
    own = [_loan_event(1, 11, 0), _loan_event(1, 8, 31)]
    alone, together = _of_loan_1(own), _of_loan_1([*own, _loan_event(2, 3, 95), _loan_event(3, 12, 10)])
    names = [name for name in alone.index if not is_of_other_loans(name)]
    pd.testing.assert_series_equal(alone[names], together[names])
    assert (alone["gap_days"], together["gap_days"]) == (53, 23)


def test_events_that_happen_or_become_known_at_t_or_later_change_no_feature() -> None:
    rows = random_rows(3, users=30)
    late: list[Row] = []
    for t, profile, events in rows:
        at_t = make_event("late", t, 90, "5")
        unknown = make_event("never_seen", t - timedelta(days=2), 90, "5") | {"known_at": t}
        late.append((t, profile, [*events, unknown, at_t, make_event("loan", t + timedelta(days=3), None, "7")]))
    before, after = (baseline_features(sequence_table(given), OUTCOMES, SHANGHAI) for given in (rows, late))
    pd.testing.assert_frame_equal(before, after.assign(known_events=before["known_events"]))


def _of_any_kind() -> list[str]:
    """Names of features of every kind: those of clients, of loans and of other loans, with two currencies."""
    opened = make_event("loan", datetime(2023, 12, 1, tzinfo=UTC), None, "3")
    dollars = _in_dollars([opened, opened | {"loan": 2}])
    of_client = baseline_features(sequence_table(random_rows(4, users=30)), OUTCOMES, SHANGHAI)
    of_loan = _of_loan_1([_loan_event(1, 11, 0), opened])
    return [*of_client.columns, *of_loan.index, *dollars.columns]


def _in_dollars(events: list[Event]) -> pd.DataFrame:
    rows: list[Row] = [(datetime(2024, 1, 1, tzinfo=UTC), {}, [event | {"currency": "USD"} for event in events])]
    table = sequence_table(rows).set_column(6, "loan", pa.array([1], pa.int32()))
    return baseline_features(table, OUTCOMES, "UTC", "EUR")


def test_every_feature_has_one_kind_and_a_description_and_every_kind_exists() -> None:
    names = _of_any_kind()
    assert {name for name in names if [bool(k.pattern.fullmatch(name)) for k in FEATURES].count(True) != 1} == set()
    assert {kind_of(name).form for name in names} == {kind.form for kind in FEATURES}
    left = {name: describe(name) for name in names if re.search(r"EVENT|CURRENCY|WINDOW|MONTHS|KEY|K,", describe(name))}
    assert left == {}


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("count_late_payment_3m", "events of type late_payment in the last 3 calendar months (events)"),
        ("count_late_1m", "events of type late in the last calendar month (events)"),
        ("max_dpd_all", "largest days past due in the whole history (days)"),
        ("amount_loan_3m", "sum of the amounts of type loan in the last 3 calendar months (the main currency)"),
        (
            "other_amount_loan_USD_3m",
            "sum of the amounts of type loan of the other loans in the last 3 calendar months (USD)",
        ),
        ("dpd_lag_2", "days past due of outcome event 2, counted from the last one (days)"),
    ],
)
def test_a_description_states_event_type_window_and_unit(name: str, meaning: str) -> None:
    assert describe(name) == meaning


def test_the_page_and_the_contract_have_every_kind_of_feature() -> None:
    page = (REPOSITORY / "docs" / "features.md").read_text(encoding="utf-8").splitlines()
    lines = [f"| `{kind.form}` | {kind.unit} | {kind.meaning} | `{kind.column}` |" for kind in FEATURES]
    start = page.index(lines[0])
    assert page[start : start + len(lines)] == lines
    columns = table_contract("behavior_features").column_names
    assert [name for name in columns if name in FEATURE_COLUMNS] == list(FEATURE_COLUMNS)
    held = {re.split(r"[.\[]", kind.column)[0] for kind in FEATURES}
    single = {kind_of(name).column for name in FEATURE_COLUMNS if name not in held}
    assert held == {name for name in FEATURE_COLUMNS if name in held} | single


def test_a_name_of_no_feature_is_refused() -> None:
    with pytest.raises(DataError, match="no baseline feature is called 'count_late_all'"):
        describe("count_late_all")


def test_a_row_of_the_table_is_the_same_alone_and_among_others_and_gives_back_the_features() -> None:
    """The service computes one row, Spark computes batches and models read any selection of them."""
    of_client = sequence_table(random_rows(6, users=60))
    loans = [[None if i % 3 == 0 else 1 + i % 4 for i in range(len(e))] for e in of_client["events"].to_pylist()]
    of_loan = (
        of_client.set_column(4, "event_loans", pa.array(loans, pa.list_(pa.int32())))
        .set_column(5, "loans", pa.array([4] * 60, pa.int32()))
        .set_column(6, "loan", pa.array([1] * 60, pa.int32()))
    )
    for table in (of_client, of_loan):
        together = feature_rows(table, OUTCOMES, SHANGHAI)
        assert together.column_names == list(FEATURE_COLUMNS)
        alone = pa.concat_tables([feature_rows(table.slice(i, 1), OUTCOMES, SHANGHAI) for i in range(60)])
        assert alone.to_pylist() == together.to_pylist()
        chosen = pa.array([50, 3, 17])
        expected = baseline_features(table.take(chosen), OUTCOMES, SHANGHAI)
        pd.testing.assert_frame_equal(features_of(alone.take(chosen)), expected, check_exact=True)


def test_amounts_are_summed_per_currency_and_several_without_a_main_one_are_refused() -> None:
    t = datetime(2024, 1, 1, tzinfo=UTC)
    euro, dollar = (
        make_event("loan", t - timedelta(days=9), None, "5"),
        make_event("loan", t - timedelta(days=8), None, "7"),
    )
    table = sequence_table([(t, {}, [euro | {"currency": "EUR"}, dollar | {"currency": "USD"}, make_event("call", t)])])
    found = baseline_features(table, OUTCOMES, "UTC", "EUR").iloc[0]
    assert (found["amount_loan_3m"], found["amount_loan_USD_3m"]) == (5, 7)
    assert "amount_loan_EUR_3m" not in found
    with pytest.raises(DataError, match="amounts in EUR, USD, which cannot be added"):
        baseline_features(table, OUTCOMES, "UTC")


def test_the_month_of_an_event_is_that_of_the_business_time_zone() -> None:
    midnight = datetime(2024, 7, 1, tzinfo=ZoneInfo(SHANGHAI)).astimezone(UTC)
    march = make_event("late", datetime(2024, 3, 31, 15, tzinfo=UTC), 5)  # 23:00 on 31 March in Shanghai
    table = sequence_table([(midnight, {}, [march])])  # T is still 30 June in UTC
    found = {zone: baseline_features(table, OUTCOMES, zone) for zone in (SHANGHAI, "UTC")}
    assert found[SHANGHAI]["months_of_history"].tolist() == [4]
    assert found[SHANGHAI]["count_late_3m"].tolist() == [0]
    assert found["UTC"]["months_of_history"].tolist() == [3]


def test_a_row_has_no_events_of_other_users() -> None:
    rows = random_rows(2, users=20)
    together = baseline_features(sequence_table(rows), OUTCOMES, SHANGHAI)
    for position in (0, 7, 19):
        alone = baseline_features(sequence_table([rows[position]]), OUTCOMES, SHANGHAI)
        for name in set(alone) - {"profile_city", "profile_income"}:
            left, right = together[name].iloc[position], alone[name].iloc[0]
            assert left == right or (pd.isna(left) and pd.isna(right)), name


def test_clients_without_events_or_profile_have_a_row() -> None:
    found = baseline_features(sequence_table([(datetime(2024, 1, 1, tzinfo=UTC), {}, [])]), OUTCOMES, "UTC")
    assert found["status_lag_1"].tolist() == [NO_STATUS]
    assert found[["gap_days", "outcome_gap_days"]].isna().all(axis=None)


def test_a_table_without_events_column_is_rejected_by_name() -> None:
    with pytest.raises(DataError, match="events"):
        baseline_features(sequence_table(random_rows(1, 3)).drop_columns(["events"]), OUTCOMES, "UTC")
