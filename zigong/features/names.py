"""Names and meanings of the baseline features, independent of any source."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from zigong.errors import DataError

LAGS = 12
WINDOW_MONTHS = (1, 3, 6, 12, 24)
WINDOWS = (*(f"{months}m" for months in WINDOW_MONTHS), "all")
AMOUNT_WINDOW_MONTHS = 3
ARREARS_DAYS = (1, 30)  # days past due from which an event counts as arrears
NO_STATUS = "-"  # not a valid name of an event type
VALUE_SIGN = "="  # in what is counted, only of attribute values: TYPE.ATTRIBUTE=VALUE
STATUS, PROFILE = "status_lag_", "profile_"
OTHER = "other_"  # prefix of the features of the client's other loans
LOANS = "loans"

# Parts of a name that differ between features of a kind. CURRENCY is left out for the main one; the EVENT of a count or
# rate is a type, or TYPE.ATTRIBUTE=VALUE for the events of a type with that value.
_PARTS = {
    "_CURRENCY": "(?:_(?P<CURRENCY>[A-Z]{3}))?",
    "EVENT": "(?P<EVENT>.+?)",
    "_KEY": "_(?P<KEY>.+)",
    "WINDOW": f"(?P<WINDOW>{'|'.join(WINDOWS)})",
    "MONTHS": f"(?P<MONTHS>{'|'.join(WINDOWS[:-1])})",
    "_K": r"_(?P<K>\d+)",
    "_D": f"_(?P<D>{'|'.join(map(str, ARREARS_DAYS))})",
}
_PART = re.compile("|".join(_PARTS))


@dataclass(frozen=True, kw_only=True)
class FeatureKind:
    """Features whose names have one form.

    Attributes:
        form: the name, with the parts of ``_PARTS`` that differ.
        unit: of its values; ``word`` for those that are no numbers.
        meaning: what it is, with the same parts.
        column: where the table behavior_features holds it.
    """

    form: str
    unit: str
    meaning: str
    column: str

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Matches the names of this form."""
        return re.compile(_PART.sub(lambda found: _PARTS[found.group()], self.form))


def _window(name: str) -> str:
    months = name.removesuffix("m")
    return {"all": "the whole history", "1m": "the last calendar month"}.get(name, f"the last {months} calendar months")


def _kind(form: str, unit: str, meaning: str, column: str = "") -> FeatureKind:
    return FeatureKind(form=form, unit=unit, meaning=meaning, column=column or form)


# Months are those of the calendar in the business time zone: an event of the last K calendar months is of T's own month
# or of one of the K before it. The whole history is every event of the sequence, of which instructions.max_events are
# the most. Where a loan is observed, the features before ``loans`` are of its events and of those that name no loan,
# except months_of_history, gap_days and known_events, which are the client's; those from ``loans`` on exist only there.
FEATURES = (
    _kind(
        "status_lag_K",
        "word",
        "type of outcome event K, counted from the last one; - without it",
        "last_outcomes[K - 1].event_type",
    ),
    _kind(
        "dpd_lag_K",
        "days",
        "days past due of outcome event K, counted from the last one",
        "last_outcomes[K - 1].days_past_due",
    ),
    _kind(
        "rate_EVENT_all", "events a month", "events of type EVENT from the first event to T", "event_counts.rate_all"
    ),
    _kind("count_EVENT_MONTHS", "events", "events of type EVENT in MONTHS", "event_counts.count_MONTHS"),
    _kind("max_dpd_WINDOW", "days", "largest days past due in WINDOW"),
    _kind("months_since_dpd_D", "months", "time from the last event with D or more days past due to T"),
    _kind(
        f"amount_EVENT_CURRENCY_{AMOUNT_WINDOW_MONTHS}m",
        "the main currency, or CURRENCY",
        f"sum of the amounts of type EVENT in the last {AMOUNT_WINDOW_MONTHS} calendar months",
        f"amounts.amount_{AMOUNT_WINDOW_MONTHS}m",
    ),
    _kind("months_of_history", "months", "time from the first event to T, 0 without one"),
    _kind("gap_days", "days", "time from the last event to T"),
    _kind("outcome_gap_days", "days", "time from the last outcome event to T"),
    _kind("known_events", "events", "events known as of T, those that were folded included"),
    _kind("profile_KEY", "word", "value of KEY in the profile, a number where all values are", "profile[KEY]"),
    _kind("loans", "loans", "loans of the client, the observed one included"),
    _kind("months_of_loan", "months", "time from the first event of the observed loan to T"),
    _kind(
        "other_rate_EVENT_all",
        "events a month",
        "events of type EVENT of the other loans from their first event to T",
        "other_event_counts.rate_all",
    ),
    _kind(
        "other_count_EVENT_MONTHS",
        "events",
        "events of type EVENT of the other loans in MONTHS",
        "other_event_counts.count_MONTHS",
    ),
    _kind("other_max_dpd_WINDOW", "days", "largest days past due of any other loan in WINDOW"),
    _kind(
        "other_months_since_dpd_D",
        "months",
        "time from the last event with D or more days past due of any other loan to T",
    ),
    _kind(
        f"other_amount_EVENT_CURRENCY_{AMOUNT_WINDOW_MONTHS}m",
        "the main currency, or CURRENCY",
        f"sum of the amounts of type EVENT of the other loans in the last {AMOUNT_WINDOW_MONTHS} calendar months",
        f"other_amounts.amount_{AMOUNT_WINDOW_MONTHS}m",
    ),
    _kind("other_last_dpd_best", "days", "smallest of the other loans' last known days past due"),
    _kind("other_last_dpd_worst", "days", "largest of the other loans' last known days past due"),
    _kind("other_last_dpd_sum", "days", "sum of the other loans' last known days past due"),
    _kind("other_loans_in_arrears", "loans", "other loans whose last known days past due are above 0"),
    _kind("other_highest_dpd_best", "days", "smallest over the other loans of each one's largest days past due"),
    _kind("other_highest_dpd_sum", "days", "sum over the other loans of each one's largest days past due"),
)
# Features without the prefix that depend on the events of other loans.
OF_OTHER_LOANS = ("months_of_history", "gap_days", "known_events", LOANS)

# Features that are a column of behavior_features each, in the order of the frame.
ARREARS = (
    *(f"max_dpd_{window}" for window in WINDOWS),
    *(f"months_since_dpd_{days}" for days in ARREARS_DAYS),
)
FRESHNESS = ("months_of_history", "gap_days", "outcome_gap_days", "known_events")
STATES = (
    "last_dpd_best",
    "last_dpd_worst",
    "last_dpd_sum",
    "loans_in_arrears",
    "highest_dpd_best",
    "highest_dpd_sum",
)
COUNTS = (*(f"count_{months}m" for months in WINDOW_MONTHS), "rate_all")  # fields of event_counts
AMOUNT = f"amount_{AMOUNT_WINDOW_MONTHS}m"  # field of amounts


def is_of_other_loans(name: str) -> bool:
    """Whether a feature depends on events of other loans than the observed one."""
    return name.startswith(OTHER) or name in OF_OTHER_LOANS


def kind_of(name: str) -> FeatureKind:
    """The kind of a feature.

    Raises:
        DataError: no kind of feature has such a name.
    """
    for kind in FEATURES:
        if kind.pattern.fullmatch(name):
            return kind
    raise DataError(f"no baseline feature is called {name!r}", action="docs/features.md lists the forms of their names")


def describe(name: str) -> str:
    """What a feature is, and in which unit.

    Raises:
        DataError: no kind of feature has such a name.
    """
    kind = kind_of(name)
    found = kind.pattern.fullmatch(name)
    parts = {part: value for part, value in (found.groupdict() if found else {}).items() if value is not None}
    parts |= {part: _window(parts[part]) for part in ("WINDOW", "MONTHS") if part in parts}
    unit = parts.get("CURRENCY", "the main currency") if "CURRENCY" in kind.unit else kind.unit
    meaning = re.sub(r"\b[A-Z]+\b", lambda word: parts.get(word.group(), word.group()), kind.meaning)
    return f"{meaning} ({unit})"
