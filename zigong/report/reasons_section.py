"""The section of a report about the reasons of scores: what stands behind the riskiest of the scored clients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zigong.report.run_report import Share

_MOST = 12
_WORDS = {"events": "{}", "other_loans": "{}, other loans", "profile": "profile: {}"}


def reasons(rows: Sequence[Mapping[str, str]]) -> tuple[Share, ...]:
    """The share of the explained clients that have each of the most frequent reasons.

    Args:
        rows: the run's table ``reasons``, the most frequent first.
    """
    return tuple(
        Share(
            name=named(row["reason"]),
            value=int(row["clients"]) / int(row["of"]),
            note=f"of {int(row['of']):,}, adds {float(row['effect']):+.2f} to the log-odds of bad on average",
        )
        for row in rows[:_MOST]
    )


def named(reason: str) -> str:
    """A reason in words."""
    kind, name = reason.split(":", 1)
    return _WORDS[kind].format(name.replace("_", " "))
