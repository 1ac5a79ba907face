"""A selection compared with the pool."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest

from zigong.selection.compare import psi, scores_by, selection_groups


def pool(size: int = 200) -> pd.DataFrame:
    numbers = np.arange(size)
    return pd.DataFrame(
        {
            "sample_id": [f"s{i:03d}" for i in numbers],
            "user_id": ["owner" if i < 30 else f"u{i}" for i in numbers],
            "observation_date": [date(2023, 1 + i % 2, 1) for i in numbers],
            "task": "main",
            "label": (numbers % 10 == 0).astype(int),
            "score": -numbers.astype(float),
            "loss": numbers / size,
            "tokens": 20 + numbers,
        }
    )


SHARES = {**{f"s{i:03d}": "influence" for i in range(30)}, **{f"s{i:03d}": "random" for i in range(100, 170)}}


def test_groups_are_compared_with_pool_and_random_half() -> None:
    groups = selection_groups(pool(), SHARES, seed=1).set_index("group")
    assert groups["samples"].to_dict() == {
        "pool": 200,
        "mix": 100,
        "mix: influence": 30,
        "mix: random": 70,
        "random half": 100,
    }
    assert groups.loc["mix: influence", "largest_user_share"] == 1
    assert groups.loc["pool", "bad_rate"] == pytest.approx(0.1)
    drift = groups["psi_length"].to_dict()
    assert drift["mix: influence"] > 0.25 > drift["random half"]
    assert groups.loc["pool", ["psi_label", "psi_date", "psi_length"]].abs().max() == 0
    assert 0.2 < groups["holds_of_influence"].to_dict()["random half"] < 0.8
    assert selection_groups(pool(), SHARES, seed=1).equals(selection_groups(pool(), SHARES, seed=1))


def test_psi_is_zero_for_equal_shares_and_symmetric_in_missing_categories() -> None:
    values = pd.Series(["a", "b"] * 50)
    assert psi(values, np.arange(100) < 50) == pytest.approx(0)
    p, q = np.array([50.5, 0.5]) / 51, np.array([0.5, 0.5])
    assert psi(values, np.arange(100) % 2 == 0) == pytest.approx(float(((p - q) * np.log(p / q)).sum()))


def test_scores_by_length_show_a_length_bias() -> None:
    table = scores_by(pool(), SHARES)
    lengths = table[table["by"] == "length"]
    assert lengths["mean_score"].is_monotonic_decreasing
    assert lengths["chosen"].iloc[0] == pytest.approx(30 / 40)
    assert table.groupby("by")["samples"].sum().to_dict() == dict.fromkeys(
        ["task", "label", "observation_date", "length"], 200
    )
