from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from zigong.errors import DataError
from zigong.evaluation import metrics
from zigong.evaluation.baselines import Predictor, aligned, feature_space, fit_baselines
from zigong.evaluation.features import LAGS, NO_STATUS, baseline_features

EVENT = pa.struct(
    {
        "event_type": pa.string(),
        "event_at": pa.timestamp("us", tz="UTC"),
        "known_at": pa.timestamp("us", tz="UTC"),
        "amount": pa.decimal128(18, 2),
        "currency": pa.string(),
        "days_past_due": pa.int32(),
        "attributes": pa.map_(pa.string(), pa.string()),
    }
)
SCHEMA = pa.schema(
    {
        "observation_at": pa.timestamp("us", tz="UTC"),
        "profile": pa.map_(pa.string(), pa.string()),
        "events": pa.list_(EVENT),
        "event_loans": pa.list_(pa.int32()),
        "loans": pa.int32(),
        "loan": pa.int32(),
    }
)
Event = dict[str, Any]
Row = tuple[datetime, dict[str, str], list[Event]]
Fitted = tuple[pd.DataFrame, np.ndarray, dict[str, Predictor]]
OUTCOMES = ("on_time", "late")
SHANGHAI = "Asia/Shanghai"


def _event(kind: str, at: datetime, dpd: int | None = None, amount: str | None = None) -> Event:
    return {
        "event_type": kind,
        "event_at": at,
        "known_at": at,
        "amount": Decimal(amount) if amount else None,
        "currency": "CNY" if amount else None,
        "days_past_due": dpd,
        "attributes": [],
    }


def _table(rows: list[Row]) -> pa.Table:
    items = [
        {
            "observation_at": t,
            "profile": list(p.items()),
            "events": e,
            "event_loans": [item.get("loan") for item in e],
            "loans": 0,
        }
        for t, p, e in rows
    ]
    return pa.Table.from_pylist(items, schema=SCHEMA)


def _random_rows(seed: int, users: int) -> list[Row]:
    """Clients whose next default depends on their number of recent late payments; the profile is noise."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(users):
        risk = rng.random()
        t = datetime(2024, int(rng.integers(1, 4)), 1, tzinfo=ZoneInfo(SHANGHAI)).astimezone(UTC)
        events = []
        for day in sorted(rng.integers(1, 500, size=int(rng.integers(0, 30))), reverse=True):
            kind = str(rng.choice(["on_time", "late", "call", "loan"], p=[0.6 - risk / 2, risk / 2, 0.2, 0.2]))
            dpd = int(rng.integers(1, 60)) if kind == "late" else 0 if kind == "on_time" else None
            amount = f"{rng.integers(100, 9000) / 100:.2f}" if kind == "loan" else None
            events.append(_event(kind, t - timedelta(days=int(day), seconds=1), dpd, amount))
        profile = {"city": str(rng.choice(["A", "B"])), "income": str(int(rng.integers(1000, 9000)))}
        rows.append((t, {} if rng.random() < 0.1 else profile, events))
    return rows


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
    for window in (3, 6, 12):
        near = [event for event in events if back(event) <= window]
        for kind in kinds:
            found[f"count_{kind}_{window}m"] = sum(event["event_type"] == kind for event in near)
        found[f"max_dpd_{window}m"] = max(
            (e["days_past_due"] for e in near if e["days_past_due"] is not None), default=None
        )
    found["amount_loan_3m"] = float(sum(e["amount"] for e in events if e["amount"] and back(e) <= 3))
    found["months_of_history"] = max((back(event) for event in events), default=0)
    found["gap_days"] = (t - events[-1]["event_at"]) / timedelta(days=1) if events else None
    found["outcome_gap_days"] = (t - outcomes[0]["event_at"]) / timedelta(days=1) if outcomes else None
    return found | {f"profile_{key}": profile.get(key) for key in ("city", "income")}


def test_features_equal_a_loop_over_sequences_for_any_chunks() -> None:
    rows = _random_rows(1, users=60)
    table = pa.concat_tables([_table(rows[:7]), _table(rows[7:7]), _table(rows[7:])])
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


def test_features_of_an_observed_loan_are_its_own_and_those_of_the_other_loans() -> None:
    t = datetime(2024, 1, 1, tzinfo=UTC)
    own = [
        _event("late", t - timedelta(days=40), 31) | {"loan": 1},
        _event("on_time", t - timedelta(days=9), 0) | {"loan": 1},
    ]
    others = [
        _event("late", t - timedelta(days=30), 62) | {"loan": 2},
        _event("late", t - timedelta(days=8), 92) | {"loan": 3},
    ]
    call = _event("call", t - timedelta(days=3))
    rows: list[Row] = [(t, {}, sorted([*own, *others, call], key=lambda event: event["event_at"]))]
    table = _table(rows).set_column(4, "loans", pa.array([3], pa.int32()))
    found = baseline_features(table.set_column(5, "loan", pa.array([1], pa.int32())), OUTCOMES, "UTC").iloc[0]
    assert (found["status_lag_1"], found["dpd_lag_1"], found["dpd_lag_2"]) == ("on_time", 0, 31)
    assert (found["count_late_3m"], found["count_call_3m"], found["max_dpd_12m"]) == (1, 1, 31)
    assert (found["other_count_late_3m"], found["other_count_call_3m"], found["other_max_dpd_12m"]) == (2, 0, 92)
    assert (found["outcome_gap_days"], found["gap_days"], found["loans"]) == (9, 3, 3)
    of_client = baseline_features(table, OUTCOMES, "UTC")
    assert (of_client["count_late_3m"][0], of_client["max_dpd_12m"][0]) == (3, 92)
    assert not [name for name in of_client.columns if name.startswith(("other_", "loans"))]


def test_amounts_are_summed_per_currency_and_several_without_a_main_one_are_refused() -> None:
    t = datetime(2024, 1, 1, tzinfo=UTC)
    euro, dollar = _event("loan", t - timedelta(days=9), None, "5"), _event("loan", t - timedelta(days=8), None, "7")
    table = _table([(t, {}, [euro | {"currency": "EUR"}, dollar | {"currency": "USD"}, _event("call", t)])])
    found = baseline_features(table, OUTCOMES, "UTC", "EUR").iloc[0]
    assert (found["amount_loan_3m"], found["amount_loan_USD_3m"]) == (5, 7)
    assert "amount_loan_EUR_3m" not in found
    with pytest.raises(DataError, match="amounts in EUR, USD, which cannot be added"):
        baseline_features(table, OUTCOMES, "UTC")


def test_the_month_of_an_event_is_that_of_the_business_time_zone() -> None:
    midnight = datetime(2024, 7, 1, tzinfo=ZoneInfo(SHANGHAI)).astimezone(UTC)
    march = _event("late", datetime(2024, 3, 31, 15, tzinfo=UTC), 5)  # 23:00 on 31 March in Shanghai
    table = _table([(midnight, {}, [march])])  # T is still 30 June in UTC
    found = {zone: baseline_features(table, OUTCOMES, zone) for zone in (SHANGHAI, "UTC")}
    assert found[SHANGHAI]["months_of_history"].tolist() == [4]
    assert found[SHANGHAI]["count_late_3m"].tolist() == [0]
    assert found["UTC"]["months_of_history"].tolist() == [3]


def test_a_row_has_no_events_of_other_users() -> None:
    rows = _random_rows(2, users=20)
    together = baseline_features(_table(rows), OUTCOMES, SHANGHAI)
    for position in (0, 7, 19):
        alone = baseline_features(_table([rows[position]]), OUTCOMES, SHANGHAI)
        for name in set(alone) - {"profile_city", "profile_income"}:
            left, right = together[name].iloc[position], alone[name].iloc[0]
            assert left == right or (pd.isna(left) and pd.isna(right)), name


def test_clients_without_events_or_profile_have_a_row() -> None:
    found = baseline_features(_table([(datetime(2024, 1, 1, tzinfo=UTC), {}, [])]), OUTCOMES, "UTC")
    assert found["status_lag_1"].tolist() == [NO_STATUS]
    assert found[["gap_days", "outcome_gap_days"]].isna().all(axis=None)


def test_a_table_without_events_column_is_rejected_by_name() -> None:
    with pytest.raises(DataError, match="events"):
        baseline_features(_table(_random_rows(1, 3)).drop_columns(["events"]), OUTCOMES, "UTC")


def _learned(seed: int = 3) -> tuple[pd.DataFrame, np.ndarray]:
    features = baseline_features(_table(_random_rows(seed, users=900)), OUTCOMES, SHANGHAI)
    risk = 0.05 + 0.75 * (features["count_late_6m"] >= 2)
    return features, (np.random.default_rng(seed).random(len(features)) < risk).astype(int)


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    features, labels = _learned()
    return features, labels, fit_baselines(features, labels, seed=5)


def test_every_baseline_returns_probabilities_for_unseen_samples(fitted: Fitted) -> None:
    _, _, predictors = fitted
    unseen, _ = _learned(seed=4)
    assert list(predictors) == ["majority", "last_status", "logistic", "lightgbm", "lightgbm_no_profile"]
    for name, predict in predictors.items():
        p = predict(unseen)
        assert p.shape == (len(unseen),), name
        assert ((p >= 0) & (p <= 1)).all(), name


def test_the_cause_of_default_is_learned_by_every_baseline_except_majority(fitted: Fitted) -> None:
    _, train_labels, predictors = fitted
    unseen, labels = _learned(seed=4)
    found = {name: metrics.auc(labels, predict(unseen)) for name, predict in predictors.items()}
    assert found["majority"] == 0.5
    assert np.unique(predictors["majority"](unseen)) == pytest.approx([train_labels.mean()])
    assert min(found["logistic"], found["lightgbm"], found["lightgbm_no_profile"]) > 0.8
    assert 0.5 < found["last_status"] < found["lightgbm_no_profile"]


def test_the_same_seed_gives_the_same_trees(fitted: Fitted) -> None:
    features, labels, predictors = fitted
    again = fit_baselines(features, labels, seed=5)
    for name in predictors:
        np.testing.assert_array_equal(again[name](features), predictors[name](features))


def test_only_the_model_with_profile_depends_on_the_profile(fitted: Fitted) -> None:
    features, _, predictors = fitted
    changed = features.assign(profile_income="1", profile_city="B")
    for name in set(predictors) - {"lightgbm"}:
        np.testing.assert_array_equal(predictors[name](changed), predictors[name](features))
    assert (predictors["lightgbm"](changed) != predictors["lightgbm"](features)).any()


def test_last_status_is_the_smoothed_bad_rate_of_status_and_arrears_band() -> None:
    rows: list[Row] = [
        (datetime(2024, 1, 1, tzinfo=UTC), {}, [_event("late", datetime(2023, 12, 1, tzinfo=UTC), dpd)])
        for dpd in (5, 29, 30, 31)
    ]
    features = baseline_features(_table(rows), OUTCOMES, "UTC")
    predict = fit_baselines(features, np.array([1, 0, 1, 1]), seed=1)["last_status"]
    assert predict(features) == pytest.approx([(1 + 0.75) / 3] * 2 + [(2 + 0.75) / 3] * 2)
    never_seen = baseline_features(_table([(rows[0][0], {}, [])]), OUTCOMES, "UTC")
    assert predict(never_seen) == pytest.approx([0.75])


def test_features_of_other_splits_are_aligned_with_training(fitted: Fitted) -> None:
    features, _, _ = fitted
    space = feature_space(features, with_profile=True)
    other = features.drop(columns=["count_loan_3m", "profile_income"]).assign(
        status_lag_1="never_seen", profile_city="C", count_new_3m=1.0
    )
    found = aligned(space, other)
    assert list(found.columns) == [*space.numbers, *space.words]
    assert "profile_income" in space.numbers
    assert (found["count_loan_3m"] == 0).all()
    assert found[["profile_income", "status_lag_1", "profile_city"]].isna().all(axis=None)


def test_training_a_baseline_on_one_class_is_rejected(fitted: Fitted) -> None:
    features, _, _ = fitted
    with pytest.raises(DataError, match="0 bad"):
        fit_baselines(features, np.zeros(len(features), dtype=int), seed=1)
