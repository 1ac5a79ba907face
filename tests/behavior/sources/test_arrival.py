"""Files are read by the date in their path, and a file that was ingested unchanged is not read again."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from schemas.mappings import SourceMapping, parse_mapping
from tests.support.bank import BY_ARRIVAL, Bank
from zigong.behavior.sources.arrival import Arrivals, arrivals
from zigong.lakehouse.deliveries import Delivery, EventCounts

NIGHTS = [date(2023, 3, day) for day in (10, 11, 12)]


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    bank = Bank(home=tmp_path, mapping=BY_ARRIVAL)
    for night in NIGHTS:
        bank.deliver(night, [f"anna,e{night.day},{night},order,1,"])
    return bank


def mapping(text: str = BY_ARRIVAL) -> SourceMapping:
    return parse_mapping(text, origin="bank.yaml")


def found(bank: Bank, night: date, *earlier: Delivery, text: str = BY_ARRIVAL) -> Arrivals:
    landing = str(bank.home / "landing")
    return arrivals(mapping(text), landing, night, night.replace(day=night.day + 1), earlier)


def ingested(night: date, files: Arrivals) -> Delivery:
    return Delivery(
        source="bank",
        run_id=f"{night}",
        from_date=night,
        to_date=night.replace(day=night.day + 1),
        known_before=night,
        mapping_digest=mapping().digest,
        files=files.files,
        events=EventCounts(read=1, published=1, quarantined=0, dropped=0, outside=0),
    )


def test_a_night_reads_the_files_of_its_date_and_names_those_that_were_missed(bank: Bank) -> None:
    (bank.home / "landing/bookings/.hidden_20230311.csv").write_text("x")
    (bank.home / "landing/bookings/note.csv").write_text("x")
    files = found(bank, NIGHTS[1])
    assert files.read == {
        "bookings": {"bookings/bookings_20230311.csv"},
        "clients": {"clients/clients_20230311.csv"},
    }
    assert [(file.path, file.arrived_on) for file in files.files] == [
        ("bookings/bookings_20230311.csv", NIGHTS[1]),
        ("clients/clients_20230311.csv", NIGHTS[1]),
    ]
    assert files.missed == ("bookings/bookings_20230310.csv", "clients/clients_20230310.csv")
    assert files.undated == ("bookings/note.csv",)
    assert [text.split(":")[0] for text in files.warnings()] == [
        "files arrived earlier and were never ingested",
        "files do not match the pattern of their arrival and are not read",
    ]


def test_files_that_were_ingested_unchanged_are_not_read_again(bank: Bank) -> None:
    first = ingested(NIGHTS[0], found(bank, NIGHTS[0]))
    again = found(bank, NIGHTS[0], first)
    assert dict(again.read) == {"bookings": frozenset(), "clients": frozenset()}
    assert (len(again.files), again.known, again.warnings()) == (0, 2, [])
    assert found(bank, NIGHTS[1], first).missed == ()


def test_a_changed_file_is_read_again_with_the_others_of_its_date_and_a_vanished_one_is_named(bank: Bank) -> None:
    first = ingested(NIGHTS[0], found(bank, NIGHTS[0]))
    bank.deliver(NIGHTS[0], ["anna,e10,2023-03-10,order,2,"])
    changed = found(bank, NIGHTS[0], first)
    assert changed.changed == ("bookings/bookings_20230310.csv",)
    assert [len(paths) for paths in changed.read.values()] == [1, 1]

    (bank.home / "landing/clients/clients_20230310.csv").unlink()
    assert found(bank, NIGHTS[0], first).vanished == ("clients/clients_20230310.csv",)


def test_a_corrected_mapping_reads_the_files_of_its_date_again(bank: Bank) -> None:
    first = ingested(NIGHTS[0], found(bank, NIGHTS[0]))
    again = found(bank, NIGHTS[0], first, text=BY_ARRIVAL + "description: corrected\n")
    assert (len(again.files), again.known, again.missed) == (2, 0, ())


@pytest.mark.parametrize("pattern", ["bookings_{yyyy}{mm}", "{yyyy}{mm}{dd}_{dd}"])
def test_a_pattern_without_exactly_one_date_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"files.bookings.arrival: expected \{yyyy\}, \{mm\} and \{dd\} once each"):
        mapping(BY_ARRIVAL.replace("bookings_{yyyy}{mm}{dd}", f'"{pattern}"'))
