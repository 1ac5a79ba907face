from __future__ import annotations

from datetime import date

import pytest

from zigong.errors import DataError
from zigong.influence.decay import periods_between


def test_ages_count_calendar_months_in_periods() -> None:
    assert periods_between(date(2023, 11, 1), date(2024, 2, 1), 1.0) == 3
    assert periods_between(date(2023, 11, 1), date(2024, 2, 1), 2.0) == 1.5
    assert periods_between(date(2023, 11, 3), date(2023, 11, 28), 1.0) == 0


def test_a_negative_age_is_an_error() -> None:
    with pytest.raises(DataError, match="is before"):
        periods_between(date(2023, 11, 2), date(2023, 11, 1), 1.0)
