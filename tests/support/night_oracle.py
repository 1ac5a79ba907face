"""What a lender can know of its bookings at every date, as plain loops over the files that arrived."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta


@dataclass(frozen=True)
class Booking:
    """One row of a file; without a time it is quarantined."""

    event: str
    at: datetime | None
    amount: int

    @property
    def client(self) -> str:
        return f"client{self.event[-1]}"

    @property
    def row(self) -> str:
        return f"{self.client},{self.event},{self.at or ''},order,{self.amount},"


@dataclass
class LogOracle:
    """Every row that arrived with a time, from when it is known."""

    known: list[tuple[datetime, Booking]] = field(default_factory=list)
    erased: set[str] = field(default_factory=set)

    def learn(self, rows: list[Booking], arrived: date) -> None:
        """Rows become known when they state, but not before their arrival."""
        moment = datetime.combine(arrived, time.min)
        stays = [row for row in rows if row.client not in self.erased]
        self.known += [(max(row.at, moment), row) for row in stays if row.at is not None]

    def erase(self, client: str) -> None:
        """A client of whom nothing is known any more, and of whom nothing is learnt again."""
        self.erased.add(client)
        self.known = [(moment, row) for moment, row in self.known if row.client != client]

    def before(self, day: date) -> dict[str, int]:
        """The amount of every event as of a date."""
        limit = datetime.combine(day, time.min)
        amounts = {}
        for moment, row in sorted(self.known, key=lambda known: (known[0], known[1].event, known[1].amount)):
            if moment < limit:
                amounts[row.event] = row.amount
        return amounts


@dataclass
class Lender:
    """Deliveries of a lender: new and late bookings, corrections, repetitions, rows without a time, empty files."""

    seed: int
    stated: dict[str, Booking] = field(default_factory=dict)

    def deliveries(self, first: date, nights: int) -> Iterator[tuple[date, list[Booking]]]:
        draw = random.Random(self.seed)  # noqa: S311
        for night in (first + timedelta(days=day) for day in range(nights)):
            yield night, [] if draw.random() < 0.1 else list(self._rows(draw, night))

    def _rows(self, draw: random.Random, night: date) -> Iterator[Booking]:
        old = sorted(self.stated)
        for number in range(draw.randrange(2, 6)):
            delay = draw.choice((0, 0, 0, 1, 3))
            at = datetime.combine(night - timedelta(days=delay), time(draw.randrange(24), draw.randrange(60)))
            yield self._told(Booking(f"{night:%m%d}-{number}", at, draw.randrange(1, 999)))
        for event in draw.sample(old, min(3, len(old))):
            changed = draw.choice((0, 0, 1))
            yield self._told(Booking(event, self.stated[event].at, self.stated[event].amount + changed))
        if draw.random() < 0.3:
            yield Booking(f"{night:%m%d}-broken", None, 1)

    def _told(self, booking: Booking) -> Booking:
        self.stated[booking.event] = booking
        return booking
