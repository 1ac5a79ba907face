"""A month of nights equals an oracle.

With late files, empty files, corrections, a failed night, an old night again, two drivers on one run id and an erasure.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from tests.support.bank import BY_ARRIVAL, Bank
from tests.support.finished import TINY
from tests.support.night_oracle import Booking, Lender, LogOracle
from tests.support.shop import accounted
from zigong.cli import app
from zigong.recipe import load_recipe
from zigong.runs.run import Outcome

FIRST, NIGHTS = date(2023, 3, 1), 30
FAILED, HEALED, AGAIN, CORRECTED, DOUBLED, ERASURE = (FIRST + timedelta(days=day) for day in (9, 14, 5, 7, 17, 19))
ERASED = "client1"


def night(bank: Bank, day: date, run_id: str, rows: int) -> Outcome:
    """Ingests a night whose file has ``rows`` rows, and checks that each is accounted for."""
    if day == DOUBLED:
        drivers = [bank.driver(run_id, bank.home / "landing", night=day) for _ in range(2)]
        assert sorted(driver.wait() for driver in drivers) == [0, 4]  # one works, the other ends in a conflict
        outcome = bank.outcome(run_id)
    else:
        outcome = bank.read(run_id, bank.home / "landing", night=day)
    assert outcome.kind == "ok", outcome.message
    assert accounted(outcome)
    assert outcome.tables["behavior_events"]["rows_in"] == rows
    return outcome


def erase(bank: Bank, client: str) -> None:
    recipe, users = bank.home / "recipe.yaml", bank.home / "users.txt"
    content = load_recipe(TINY, bank.settings(bank.home / "landing")).model_dump(mode="json")
    recipe.write_text(yaml.safe_dump(content), encoding="utf-8")
    users.write_text(f"{client}\n")
    answer = CliRunner().invoke(app, ["erase", "--users", str(users), "--recipe", str(recipe), "--verify"])
    assert answer.exit_code == 0, answer.output


def published_before(bank: Bank, days: list[date]) -> dict[date, list[int]]:
    """The amounts in the histories as of each date, sorted."""
    rows = sorted(bank.rows("behavior_events"), key=lambda row: row["known_at"])
    found = {}
    for day in days:
        moment = datetime.combine(day, time.min, UTC)
        newest = {row["event_id"]: int(row["amount"]) for row in rows if row["known_at"] < moment}
        found[day] = sorted(newest.values())
    return found


@pytest.mark.soak
@pytest.mark.usefixtures("spark")
def test_a_month_of_nights_equals_the_oracle_at_every_date(tmp_path: Path) -> None:
    bank, oracle = Bank(home=tmp_path, mapping=BY_ARRIVAL), LogOracle()
    files: dict[date, list[Booking]] = {}
    for day, rows in Lender(seed=4).deliveries(FIRST, NIGHTS):
        files[day] = rows
        bank.deliver(day, [row.row for row in rows], ["anna,2023-01-01 00:00:00,Rome"] if day.day % 7 == 1 else [])
        oracle.learn(rows, day)
        if day != FAILED:
            outcome = night(bank, day, f"night-{day}", len(rows))
            broken = sum(row.at is None for row in rows)
            assert outcome.tables["behavior_events"]["quarantined"] == broken
        if day == ERASURE:
            erase(bank, ERASED)
            oracle.erase(ERASED)
        if day == HEALED:
            night(bank, FAILED, "healed", len(files[FAILED]))
            again = night(bank, AGAIN, "again", 0)  # its files are known, and nothing is read or quarantined twice
            assert again.tables["raw_bank"]["quarantined"] == 0
            changed = [Booking(row.event, row.at, row.amount + 1000) for row in files[CORRECTED] if row.at][:1]
            bank.deliver(CORRECTED, [row.row for row in (*changed, *files[CORRECTED][1:])])
            night(bank, CORRECTED, "corrected", len(files[CORRECTED]))
            oracle.learn(changed, HEALED + timedelta(days=1))  # after all that was published by then
    assert [day for day in files if day > ERASURE and any(row.client == ERASED for row in files[day])]
    days = [FIRST + timedelta(days=day) for day in range(NIGHTS + 2)]
    assert published_before(bank, days) == {day: sorted(oracle.before(day).values()) for day in days}
    assert bank.cities() == [("03-01 00:00", "Rome")]
