"""The section of a report about the reasons of scores: what stands behind the riskiest of the scored clients."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from zigong.report.run_report import Share
from zigong.runs.job import Job

_MOST = 12
_WORDS = {"events": "{}", "other_loans": "{}, other loans", "profile": "profile: {}"}


def reasons(job: Job) -> tuple[Share, ...]:
    """The most frequent reasons of the clients scored by the run; none if it has scored nobody or has no reasons."""
    day = job.recipe.observations.score
    if day is None or job.run.pinned_version("behavior_card_scores") is None:
        return ()
    here = (ds.field("population") == job.population) & (ds.field("observation_date") == day)
    found = job.arrow("behavior_card_scores", ["reasons"], where=here & ds.field("reasons").is_valid())
    return shares_of(found["reasons"])


def shares_of(reasons: pa.ChunkedArray) -> tuple[Share, ...]:
    """The share of the explained clients that have each reason, the most frequent first.

    Args:
        reasons: the reasons of each explained client.
    """
    flat = pc.list_flatten(reasons).combine_chunks()
    if not len(flat):
        return ()
    counted = (
        pa.table({"reason": flat.field("reason"), "effect": flat.field("effect")})
        .group_by("reason")
        .aggregate([("effect", "count"), ("effect", "mean")])
        .sort_by([("effect_count", "descending"), ("reason", "ascending")])
    )
    return tuple(
        Share(
            name=named(row["reason"]),
            value=row["effect_count"] / len(reasons),
            note=f"of {len(reasons):,}, adds {row['effect_mean']:+.2f} to the log-odds of bad on average",
        )
        for row in counted.slice(0, _MOST).to_pylist()
    )


def named(reason: str) -> str:
    """A reason in words."""
    kind, name = reason.split(":", 1)
    return _WORDS[kind].format(name.replace("_", " "))
