"""Drafts a recipe for a source: every key that has no default, with what it means."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import date, timedelta

from zigong.errors import ConfigError
from zigong.recipe.reference import recipe_keys


@dataclass(frozen=True, kw_only=True)
class RecipeDraft:
    """What a new recipe is drafted from.

    Attributes:
        name: of the recipe.
        mapping: name of a shipped mapping, or the path of a file.
        path: folder of the raw files; None for a simulated source.
        as_of: end of the data.
        window_months: length of the performance window.
        train_months: number of observation dates of train.
        reporting_lag_days: from the end of a window until its events are all known.
    """

    name: str
    mapping: str
    path: str | None
    as_of: date
    window_months: int
    train_months: int
    reporting_lag_days: int


def drafted_recipe(draft: RecipeDraft) -> str:
    """The draft as YAML: splits as late as the data allows, so that every window has closed by ``as_of``.

    Raises:
        ConfigError: the dates lie before the year 1.
    """
    oot = _latest_date(draft)
    validation, train = (_months_before(oot, draft.window_months * steps) for steps in (1, 2))
    first = _months_before(train, draft.train_months - 1)
    lines = [
        "# Drafted by `zigong recipe new`. `zigong recipe explain KEY` explains every key, docs/recipes.md lists them.",
        _line("name", draft.name),
        _line("business_timezone", "UTC"),
        _line("as_of", draft.as_of),
        "lakehouse:",
        _line("lakehouse.root", f"build/lakehouse/{draft.name}"),
        _line("lakehouse.key", "env"),
        "source:",
        _line("source.mapping", draft.mapping),
        *([_line("source.path", draft.path)] if draft.path is not None else ["  simulation: {}"]),
        "observations:",
        f"  train: {{first: {first}, last: {train}}}",
        f"  validation: {{first: {validation}, last: {validation}}}  # after every label window of train has closed",
        f"  oot: {{first: {oot}, last: {oot}}}  # results are reported on these; their windows close by as_of",
        _line("observations.score", draft.as_of.replace(day=1)),
        "  cohort:",
        _line("observations.cohort.min_history_months", 3),
        _line("observations.cohort.max_months_since_last_event", 1),
        _line("observations.cohort.max_days_past_due", 29),
        _line("observations.cohort.open_loan", "true"),
        "labels:",
        f"  horizons: [{{window_months: {draft.window_months}, dpd_threshold: 30}}]"
        "  # good needs an outcome event in every month of the window",
        _line("labels.reporting_lag_days", draft.reporting_lag_days),
    ]
    return "\n".join(lines) + "\n"


def _line(path: str, value: object) -> str:
    """A key with its meaning as a comment."""
    (meaning,) = [key.meaning for key in recipe_keys() if key.path == path]
    plain = str(value) if re.fullmatch(r"[\w./~-]+", str(value)) else json.dumps(str(value))
    return f"{'  ' * path.count('.')}{path.rpartition('.')[2]}: {plain}  # {meaning.rstrip('.')}"


def _latest_date(draft: RecipeDraft) -> date:
    """The last observation date whose label is mature at ``as_of``."""
    known = draft.as_of - timedelta(days=draft.reporting_lag_days)
    return _months_before(known.replace(day=1), draft.window_months)


def _months_before(day: date, months: int) -> date:
    month = day.year * 12 + day.month - 1 - months
    if month < 12:
        raise ConfigError(
            f"{months} months before {day} there are no dates", action="give a later --as-of or a shorter window"
        )
    return date(month // 12, month % 12 + 1, 1)
