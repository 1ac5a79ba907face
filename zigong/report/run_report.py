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
from zigong.release.points import PointsQuality
from zigong.report.study_section import StudyRow
from zigong.runs.handover import GateDecision

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
    """A set of training samples, described so that groups can be compared.

    Attributes:
        differs_in: what distinguishes it from all training samples, in words.
    """

    name: str
    samples: int
    bad_rate: float
    persons: int | None = None
    mean_score: float | None = None
    mean_loss: float | None = None
    mean_tokens: float | None = None
    differs_in: str = ""


@dataclass(frozen=True, kw_only=True)
class CheckpointRow:
    """Trust in the target gradient of a checkpoint of the agent.

    Attributes:
        classes: cosine of the mean gradients of bad and good targets.
        halves: cosine of the mean gradients of two halves of the targets.
    """

    number: int
    classes: float | None
    halves: float | None


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share between 0 and 1 with its name."""

    name: str
    value: float
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class InfluenceSection:
    """Scores of the training samples and the selection based on them.

    Attributes:
        labels: 1 = bad; shape [training samples].
        scores: influence scores; shape [training samples].
        warnings: reasons against using the scores.
        checkpoints: trust in each checkpoint.
        agreements: pairs of checkpoints, or of one and the loss, with the rank correlation of their scores.
        groups: groups of training samples.
        other_settings: share of the selection that other settings would choose too.
        selected: share chosen by influence of each kind of sample.
        settings: settings of the scores.
    """

    labels: NDArray[np.integer] | None = None
    scores: Floats | None = None
    warnings: tuple[str, ...] = ()
    checkpoints: tuple[CheckpointRow, ...] = ()
    agreements: tuple[tuple[str, str, float], ...] = ()
    groups: tuple[SelectionGroup, ...] = ()
    other_settings: tuple[Share, ...] = ()
    selected: tuple[Share, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SliceRow:
    """A group of clients of the final split.

    Attributes:
        share: samples of the group divided by those of the split.
        own: AUC of the final model; None where it was not measured.
        other: AUC of the model that it is compared with.
    """

    name: str
    share: float
    own: Interval | None
    other: Interval | None


@dataclass(frozen=True, kw_only=True)
class Slices:
    """AUC by groups of clients, of the final model and of the strongest other one on ``select``."""

    other_model: str
    rows: tuple[SliceRow, ...]


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
    slices: Slices | None = None
    influence: InfluenceSection | None = None
    reasons: tuple[Share, ...] = ()
    selection_study: tuple[StudyRow, ...] = ()
    decision: GateDecision | None = None
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
