"""Progress for people."""

from __future__ import annotations

import logging
import time

import pytest

from zigong import console
from zigong.console import Pace, progress


def test_pace_starts_at_the_first_report_and_gives_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([100.0, 104.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(times))
    pace = Pace()
    assert pace.reach(500, 1000)
    assert (pace.per_second, pace.seconds_left, pace.text) == (None, None, "")
    assert not pace.reach(510, 1000)
    assert (pace.per_second, pace.seconds_left, pace.text) == (2.5, 196.0, "2.5/s")


def test_progress_log_lines_have_samples_per_second_and_seconds_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setattr(logging.getLogger("zigong"), "propagate", True)
    with caplog.at_level(logging.INFO, logger="zigong"), progress("TracSeq") as advance:
        advance(0, 90)
        time.sleep(0.02)
        advance(30, 90)
    fields = [record.fields for record in caplog.records]  # type: ignore[attr-defined]
    assert set(fields[0]) == {"done", "total", "note"}
    assert fields[1]["seconds_left"] == pytest.approx(60 / fields[1]["per_second"], rel=0.1, abs=0.1)
