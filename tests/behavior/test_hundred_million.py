"""Sequences are built from a hundred million simulated events with a 4 GiB driver, and no event is lost.

The programs are those of benchmarks/sequences.py, each in a separate process. The input of an earlier benchmark is
reused, and so is a complete build that is newer than the code, as with make.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest

from benchmarks.sequences import DAY, HOME, LARGE, data_count, made, run

pytestmark = [pytest.mark.soak, pytest.mark.timeout(7200)]  # half an hour to simulate, as long to build
MOMENT = datetime.combine(date.fromisoformat(DAY), datetime.min.time(), UTC)
BUCKET = 3  # an eighth of the users fits into memory for the check


@pytest.fixture(scope="module")
def data() -> Path:
    folder = made(LARGE)
    if not is_current(folder / "out_ours"):
        run("ours", folder)
    return folder


def is_current(built: Path) -> bool:
    """Whether Spark finished a build after the last change of its code."""
    code = [*(HOME / "zigong").rglob("*.py"), *(HOME / "benchmarks" / "builders").glob("*.py")]
    done = built / "_SUCCESS"
    return done.is_file() and done.stat().st_mtime > max(file.stat().st_mtime for file in code)


def test_the_input_has_a_hundred_million_events(data: Path) -> None:
    rows = ds.dataset(data / "events").count_rows()
    assert rows == data_count(data)
    assert 0.95 * LARGE <= rows <= 1.1 * LARGE


def test_every_user_of_a_bucket_has_the_events_that_arrow_counts_for_it(data: Path) -> None:
    wanted = events_by_user(data)
    assert len(wanted) > LARGE // 1000
    assert built_by_user(data, list(wanted)) == wanted


def events_by_user(data: Path) -> dict[str, int]:
    """Events of each user of the bucket as of the day: newest version known, not retracted, before the day."""
    columns = ["event_id", "known_at", "user_id", "op", "event_at"]
    ours = (ds.field("user_bucket") == BUCKET) & (ds.field("known_at") < pa.scalar(MOMENT))
    known = ds.dataset(data / "events").to_table(columns, filter=ours)
    newest = known.group_by("event_id").aggregate([("known_at", "max")]).rename_columns(["event_id", "known_at"])
    current = known.join(newest, ["event_id", "known_at"], join_type="inner")
    visible = current.filter((pc.field("op") == "upsert") & (pc.field("event_at") < pa.scalar(MOMENT)))
    counts = visible.group_by("user_id").aggregate([([], "count_all")])
    return dict(zip(counts["user_id"].to_pylist(), counts["count_all"].to_pylist(), strict=True))


def built_by_user(data: Path, users: list[str]) -> dict[str, int]:
    """The event counts in the sequences of some users."""
    built = ds.dataset(data / "out_ours").to_table(["user_id", "events_used"], filter=ds.field("user_id").isin(users))
    return dict(zip(built["user_id"].to_pylist(), built["events_used"].to_pylist(), strict=True))
