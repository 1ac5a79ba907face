"""The dates a job is limited to, and their SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from zigong.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Dates:
    """The half-open range of dates a backfill is limited to; None = unbounded.

    Raises:
        ConfigError: no date lies in the range.
    """

    first: date | None = None
    end: date | None = None

    def __post_init__(self) -> None:
        """Refuses a range without a day."""
        if self.first is not None and self.end is not None and self.first >= self.end:
            wrong = "is empty" if self.first == self.end else "is reversed"
            raise ConfigError(
                f"the range of dates {wrong}: --from-date {self.first} is not before --to-date {self.end}",
                action="--to-date is excluded: for the one day D pass --from-date D and --to-date D+1",
            )

    @property
    def bounded(self) -> bool:
        """Whether the range has an end."""
        return self.first is not None or self.end is not None

    def predicate(self, column: str) -> str:
        """SQL predicate of the range; true when it is unbounded."""
        bounds = [
            f"{column} {sign} DATE'{day.isoformat()}'"
            for sign, day in ((">=", self.first), ("<", self.end))
            if day is not None
        ]
        return " AND ".join(bounds) or "true"

    def within(self, days: Sequence[date]) -> tuple[date, ...]:
        """The dates of ``days`` that lie in the range."""
        return tuple(
            day for day in days if (self.first is None or day >= self.first) and (self.end is None or day < self.end)
        )


@dataclass(frozen=True, kw_only=True)
class ObservationDates:
    """The observation dates of a population that a step builds, and the predicate of a table partitioned by them."""

    population: str
    days: tuple[date, ...]

    @property
    def predicate(self) -> str:
        """SQL predicate of exactly these dates of the population."""
        listed = ", ".join(f"DATE'{day.isoformat()}'" for day in self.days)
        return f"population = '{self.population}' AND observation_date IN ({listed})"

    @property
    def iso(self) -> tuple[str, ...]:
        """The dates as texts."""
        return tuple(day.isoformat() for day in self.days)
