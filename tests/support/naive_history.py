"""The time rules as plain loops over rows, an oracle for the Spark transforms."""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND, HOUR, DAY = 1, 3_600_000_000, 86_400_000_000
ZONE = ZoneInfo("Europe/Berlin")
OUTCOMES, CLOSINGS = ("statement", "closed"), ("closed",)


@dataclass(frozen=True)
class Version:
    source: str
    event_id: str
    known_at: int
    op: str
    user_id: str
    event_type: str
    event_at: int
    days_past_due: int | None
    word: str | None
    loan_id: str | None = None


@dataclass(frozen=True)
class Profile:
    user_id: str
    valid_from: int
    known_at: int
    person_id: str | None
    word: str


def micros(instant: datetime) -> int:
    return (instant - EPOCH) // timedelta(microseconds=1)


def midnight(day: date) -> int:
    return micros(datetime(day.year, day.month, day.day, tzinfo=ZONE))


def month(instant: int) -> int:
    local = (EPOCH + timedelta(microseconds=instant)).astimezone(ZONE)
    return local.year * 12 + local.month


def add_months(day: date, months: int) -> date:
    index = day.year * 12 + day.month - 1 + months
    return date(index // 12, index % 12 + 1, 1)


def history(log: list[Version], user_id: str, instant: int) -> list[Version]:
    newest: dict[tuple[str, str], Version] = {}
    for version in log:
        key = (version.source, version.event_id)
        if version.known_at < instant and (key not in newest or newest[key].known_at < version.known_at):
            newest[key] = version
    rows = [v for v in newest.values() if v.op == "upsert" and v.event_at < instant and v.user_id == user_id]
    return sorted(rows, key=lambda v: (v.event_at, v.known_at, v.source, v.event_id))


def outcomes(rows: list[Version]) -> list[Version]:
    return [row for row in rows if row.event_type in OUTCOMES]


def last_stated(rows: list[Version]) -> int | None:
    stated = [row.days_past_due for row in rows if row.days_past_due is not None]
    return stated[-1] if stated else None


def loans(rows: list[Version]) -> list[str]:
    """The loans that events name, by their first event."""
    return list(dict.fromkeys(row.loan_id for row in rows if row.loan_id is not None))


def open_loans(credit: list[Version]) -> list[list[Version]]:
    """The outcome events of every loan whose last one did not close it."""
    by_loan = [[row for row in credit if row.loan_id == loan] for loan in {row.loan_id for row in credit}]
    return [rows for rows in by_loan if rows[-1].event_type not in CLOSINGS]


def worst(credit: list[Version]) -> int | None:
    return max((days for rows in open_loans(credit) if (days := last_stated(rows)) is not None), default=None)


def point(
    log: list[Version], user_id: str, day: date, cohort: dict[str, int], loan_id: str | None = None
) -> dict[str, object] | None:
    """The point of a user or, given ``loan_id``, of one loan; an empty one stands for outcomes that name no loan."""
    rows = history(log, user_id, midnight(day))
    credit = [row for row in outcomes(rows) if loan_id is None or (row.loan_id or "") == loan_id]
    if not rows or (loan_id is not None and loan_id not in loans(rows) and (loan_id or not credit)):
        return None
    months = len({month(row.event_at) for row in credit})
    arrears, is_open = worst(credit) or 0, bool(open_loans(credit))
    reason = None
    if loan_id == "":
        reason = "loan_unknown"
    elif not credit:
        reason = "no_history"
    elif months < cohort["min_history_months"]:
        reason = "short_history"
    elif day.year * 12 + day.month - month(credit[-1].event_at) > cohort["max_months_since_last_event"]:
        reason = "stale"
    elif not is_open:
        reason = "loan_closed"
    elif arrears > cohort["max_days_past_due"]:
        reason = "in_arrears"
    return {
        "eligible": reason is None,
        "reason": reason,
        "months_of_history": months,
        "events_known": len(rows),
        "last_event_type": credit[-1].event_type if credit else None,
        "last_event_at": rows[-1].event_at,
        "days_past_due": arrears,
        "loan_open": is_open,
    }


def label(
    log: list[Version], user_id: str, day: date, window: int, threshold: int, as_of: date, loan_id: str = ""
) -> tuple[object, ...]:
    rows = [row for row in outcomes(history(log, user_id, midnight(as_of))) if loan_id in ("", row.loan_id)]
    opens, closes = midnight(day), midnight(add_months(day, window))
    inside = [row for row in rows if opens <= row.event_at < closes]
    states = [row.days_past_due for row in inside if row.days_past_due is not None]
    carried = worst([row for row in rows if row.event_at < opens])
    largest = max([*states, *([carried] if carried is not None else [])], default=None)
    observed = len({month(row.event_at) for row in inside})
    if largest is not None and largest >= threshold:
        return largest, observed, "bad"
    return largest, observed, "indeterminate" if observed < window else "good"


def kept(rows: list[Version], max_events: int) -> list[Version]:
    by_month: dict[int, list[Version]] = {}
    for row in rows:
        by_month.setdefault(month(row.event_at), []).append(row)
    result: list[Version] = []
    for _, month_rows in sorted(by_month.items(), reverse=True):
        if len(result) + len(month_rows) > max_events:
            break
        result = month_rows + result
    return result or rows[-max_events:]


def profile(profiles: list[Profile], user_id: str, instant: int) -> dict[str, str]:
    known = [p for p in profiles if p.user_id == user_id and p.valid_from < instant and p.known_at < instant]
    return {"word": max(known, key=lambda p: (p.valid_from, p.known_at)).word} if known else {}


def person(profiles: list[Profile], user_id: str) -> str:
    naming = [p for p in profiles if p.user_id == user_id and p.person_id]
    return min(naming, key=lambda p: (p.known_at, p.valid_from)).person_id or "" if naming else user_id


def events_hash(rows: list[Version]) -> str:
    return hashlib.sha256(",".join(f"{r.source}\t{r.event_id}\t{r.known_at}" for r in rows).encode()).hexdigest()


def by_user(log: list[Version]) -> dict[str, list[Version]]:
    """By user, every version of every event that ever belonged to the user, which the rules below may need."""
    versions: defaultdict[tuple[str, str], list[Version]] = defaultdict(list)
    for version in log:
        versions[version.source, version.event_id].append(version)
    users: defaultdict[str, list[Version]] = defaultdict(list)
    for event in versions.values():
        for user_id in {version.user_id for version in event}:
            users[user_id] += event
    return users


EDGES = [midnight(date(2023, m, 1)) + shift for m in range(1, 12) for shift in (-1, 0, 1)]
CLOCK_CHANGES = [micros(datetime(2023, 3, 26, 1, tzinfo=UTC)), micros(datetime(2023, 10, 29, 1, tzinfo=UTC))]
DAYS = st.integers(0, 329).map(lambda day: midnight(date(2023, 1, 1)) + day * DAY)
SHIFTS = st.one_of(st.sampled_from((0, 0, 0, -HOUR, HOUR)), st.integers(0, DAY - 1))
DELAYS = st.sampled_from((0, 0, MICROSECOND, HOUR, 3 * DAY, 45 * DAY, -5 * DAY))
CHANGES = ("nothing", "days_past_due", "event_at", "event_type", "user_id", "loan_id")
LOANS = ("l1", "l1", "l2", "l2", "l3", None)


@st.composite
def lives(draw: st.DrawFn) -> list[Version]:
    """The log of one user, ``self``: corrections, retractions, returns after them, moves to another user, ``other``,
    ties, instants exactly at T and at clock changes, events dated after their own arrival."""
    log = []
    several = draw(st.booleans())
    for number in range(draw(st.sampled_from((1, 3, 8, 14, 25)))):
        at = draw(st.one_of(st.sampled_from((*EDGES, *CLOCK_CHANGES)), DAYS)) + draw(SHIFTS)
        log.append(
            Version(
                source=draw(st.sampled_from(("core", "shop"))),
                event_id=f"{number:02d}",
                known_at=at + draw(DELAYS),
                op="upsert",
                user_id="self",
                event_type=draw(st.sampled_from(("statement",) * 6 + ("login", "order", "closed"))),
                event_at=at,
                days_past_due=draw(st.sampled_from((0, 0, 0, 0, 5, 29, 30, 61, None))),
                word=draw(st.sampled_from(("red", "blue", None))),
                loan_id=draw(st.sampled_from(LOANS)) if several else None,
            )
        )
        for _ in range(draw(st.sampled_from((0, 0, 0, 1, 2, 3)))):
            log.append(_changed(draw, log[-1]))
    return log


def _changed(draw: st.DrawFn, version: Version) -> Version:
    known = version.known_at + draw(st.sampled_from((MICROSECOND, HOUR, 10 * DAY, 40 * DAY)))
    later = replace(version, known_at=known, op=draw(st.sampled_from(("upsert", "upsert", "retract"))))
    match draw(st.sampled_from(CHANGES)):
        case "days_past_due":
            return replace(later, days_past_due=draw(st.sampled_from((0, 31, 90))))
        case "event_at":
            return replace(later, event_at=version.event_at + draw(st.sampled_from((-DAY, DAY, 35 * DAY))))
        case "event_type":
            return replace(later, event_type=draw(st.sampled_from(("statement", "login", "closed"))))
        case "user_id":
            return replace(later, user_id="other")
        case "loan_id" if version.loan_id:
            return replace(later, loan_id=draw(st.sampled_from(LOANS)))
    return later


NEIGHBOURS = {"self": 0, "other": 1}  # offset of the user


def drawn_log(users: int) -> list[Version]:
    """The logs of ``users`` users drawn by Hypothesis, always the same ones. ``other`` is the next user."""
    drawn: list[list[Version]] = []

    @seed(1)
    @settings(max_examples=users, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(lives())
    def draw(life: list[Version]) -> None:
        drawn.append(life)

    draw()
    assert len(drawn) >= users, f"Hypothesis found {len(drawn)} different lives only"
    names = {(user, who): f"u{(user + step) % users:05d}" for user in range(users) for who, step in NEIGHBOURS.items()}
    return [
        replace(version, event_id=f"{user:05d}-{version.event_id}", user_id=names[user, version.user_id])
        for user, life in enumerate(drawn[:users])
        for version in life
    ]


def random_profiles(users: int) -> list[Profile]:
    draw = random.Random(5)  # noqa: S311
    profiles = {}
    for user in range(users):
        for number in range(draw.randrange(4)):
            valid = midnight(date(2023, draw.randrange(1, 11), 1)) + draw.choice((0, -1, DAY))
            known = valid + draw.choice((0, DAY, 40 * DAY))
            person_id = draw.choice((None, f"p{user // 2}", f"p{user // 3}"))
            profiles[user, valid, known] = Profile(f"u{user:05d}", valid, known, person_id, f"v{number}")
    return list(profiles.values())
