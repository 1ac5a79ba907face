"""The content of a run report: one frozen value, filled by ``collect`` and rendered by ``write_report``.

Only the header and the steps are required; a run that failed half-way is reported as far as it got.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zigong.evaluation.bootstrap import Interval
from zigong.release.gate import Decision
from zigong.release.points import PointsQuality

Floats = NDArray[np.float64]
RunVerdict = Literal["released", "refused", "blocked", "failed", "completed", "running"]
StepStatus = Literal["succeeded", "skipped", "failed", "running", "pending"]

_HEADLINE_SPLITS = ("oot", "test", "select")


@dataclass(frozen=True, kw_only=True)
class StepRow:
    """One step of the run; ``note``: its result, or why it failed and what to do."""

    name: str
    status: StepStatus
    seconds: float | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """The row counts of one published table: in = published + quarantined + dropped + outside."""

    table: str
    rows_in: int
    published: int
    quarantined: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)  # reason -> rows
    outside: int = 0  # of the dates of the run
    version: str = ""
    verdict: str = ""

    @property
    def unaccounted(self) -> int:
        """Rows that are neither published nor explained; anything but 0 is an error."""
        return self.rows_in - self.published - self.quarantined - sum(self.dropped.values()) - self.outside


@dataclass(frozen=True, kw_only=True)
class QuarantineRow:
    """How many rows of a table broke a rule."""

    table: str
    rule: str
    rows: int


@dataclass(frozen=True, kw_only=True)
class VerdictRow:
    """The results of the rules of one table."""

    table: str
    verdict: str
    held: int
    warned: int
    blocked: int
    not_evaluated: int  # such as a comparison with earlier verdicts without any


@dataclass(frozen=True, kw_only=True)
class DataQuality:
    """The results of the audits; ``data_docs`` is a path relative to the report."""

    verdicts: tuple[VerdictRow, ...] = ()
    quarantine: tuple[QuarantineRow, ...] = ()
    failures: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    data_docs: str | None = None


@dataclass(frozen=True, kw_only=True)
class SplitRow:
    """Size and span of one split."""

    split: str
    first: date
    last: date
    samples: int
    bad: int
    persons: int | None = None
    indeterminate: int | None = None


@dataclass(frozen=True, kw_only=True)
class ModelRow:
    """Figures of one model on a split.

    Attributes:
        difference: AUC of the final model minus this one's, paired.
        further: metrics without a column of their own, by name; those of resamples with their interval.
    """

    model: str
    auc: Interval
    ks: Interval
    mcc: Interval | None = None
    difference: Interval | None = None
    brier: float | None = None
    log_loss: float | None = None
    misses: int | None = None
    further: Mapping[str, Interval | float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SplitResult:
    """All models on one split."""

    split: str
    samples: int
    bad: int
    rows: tuple[ModelRow, ...]


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Raw answers of the headline split, from which the plots are drawn; single rows are never printed.

    Attributes:
        split: name of the split.
        labels: 1 = bad; shape [samples].
        scores: p_bad per model; shape [samples] each. Must contain the final model.
        p_calibrated: calibrated p_bad of the final model; shape [samples].
        card_scores: points of the final model; shape [samples].
    """

    split: str
    labels: NDArray[np.integer]
    scores: Mapping[str, Floats]
    p_calibrated: Floats | None = None
    card_scores: NDArray[np.integer] | None = None


@dataclass(frozen=True, kw_only=True)
class SelectionGroup:
    """A set of training samples, described so that groups can be compared."""

    name: str
    samples: int
    bad_rate: float
    persons: int | None = None
    mean_score: float | None = None
    mean_loss: float | None = None


@dataclass(frozen=True, kw_only=True)
class Diagnostic:
    """One figure about the trustworthiness of the influence scores."""

    name: str
    value: str
    note: str = ""
    warns: bool = False


@dataclass(frozen=True, kw_only=True)
class SmallTable:
    """A table of the run's folder, as text."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class InfluenceSection:
    """Scores of the pool and the selection based on them; ``labels`` and ``scores`` have shape [pool]."""

    labels: NDArray[np.integer] | None = None
    scores: Floats | None = None
    groups: tuple[SelectionGroup, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    tables: tuple[SmallTable, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Reproduce:
    """What is needed to repeat the run."""

    command: str
    seed: int
    digest: str
    versions: Mapping[str, str] = field(default_factory=dict)  # package -> version
    pins: Mapping[str, str] = field(default_factory=dict)  # table -> version read


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """One run, from raw rows to the decision of the gate."""

    recipe: str
    run_id: str
    verdict: RunVerdict
    started_at: datetime
    finished_at: datetime | None
    steps: tuple[StepRow, ...]
    question: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    final_model: str = "zigong"
    tables: tuple[TableRow, ...] = ()
    quality: DataQuality | None = None
    splits: tuple[SplitRow, ...] = ()
    results: tuple[SplitResult, ...] = ()
    held_out: HeldOut | None = None
    points: PointsQuality | None = None
    influence: InfluenceSection | None = None
    decision: Decision | None = None
    reproduce: Reproduce | None = None

    @property
    def headline(self) -> SplitResult | None:
        """The decisive result: out of time first, then held-out users, then select."""
        by_name = {result.split: result for result in self.results}
        named = [by_name[split] for split in _HEADLINE_SPLITS if split in by_name]
        return next(iter([*named, *self.results]), None)

    @property
    def final_row(self) -> ModelRow | None:
        """The final model's row of the headline result."""
        rows = self.headline.rows if self.headline else ()
        return next((row for row in rows if row.model == self.final_model), None)
