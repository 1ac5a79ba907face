"""The backtest of a refit: the same refit as of the first date of the final split, next to the judged model there.

At that date the labels of all other splits were mature (a recipe is refused otherwise), and the judged model was as
old as it is at its release. So the final split shows what newer samples are worth.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from zigong.dataset.members import SPLITS, final_split
from zigong.dataset.samples import of_task
from zigong.evaluation.baselines import bad_members
from zigong.evaluation.bootstrap import Interval, clustered_bootstrap
from zigong.evaluation.held_out_answers import model_answers
from zigong.evaluation.prompt_sources import SamplePrompts
from zigong.evaluation.stored_answers import stored_answers
from zigong.instructions.tasks import main_task
from zigong.recipe import Head
from zigong.release.refit import refitted
from zigong.release.registry import Champion
from zigong.release.serving import fused_part, published_features, published_sequences
from zigong.runs.job import Job

REFIT, JUDGED = "refit", "judged"


@dataclass(frozen=True, kw_only=True)
class Backtest:
    """A refit without the final split, and its answers to that split.

    Attributes:
        samples: number of its training samples.
        trained_until: their newest observation date.
        auc: its AUC on the final split.
        lead: that AUC minus the judged model's, paired.
    """

    samples: int
    trained_until: str
    auc: Interval
    lead: Interval

    @property
    def is_worse(self) -> bool:
        """Whether the refit is behind the judged model with an interval below 0."""
        return self.lead.high < 0

    @property
    def sentence(self) -> str:
        """The result in words."""
        lead = f"{self.lead.value:+.4f} ({self.lead.low:+.4f} to {self.lead.high:+.4f})"
        return (
            f"Backtest: the same refit without the final split, on {self.samples:,} samples until "
            f"{self.trained_until}, had an AUC of {self.auc.value:.4f} there, {lead} against the judged model."
        )

    def figures(self) -> dict[str, float]:
        """The figures for metrics.json."""
        ends = {"refit.backtest_auc_lead_low": self.lead.low, "refit.backtest_auc_lead_high": self.lead.high}
        return {"refit.backtest_auc": self.auc.value, "refit.backtest_auc_lead": self.lead.value, **ends}


def backtest_of(job: Job, judged: Champion, base: Path, *, head: Head) -> Backtest:
    """Refits the judged model without the final split and compares both there; nothing of the trial is kept.

    Args:
        job: the job that refits the model.
        judged: the champion.
        base: folder of its base.
        head: head of the card.
    """
    trial = job.scratch / "backtest"
    try:
        return _tried(job, judged, base, trial / "adapter", head=head)
    finally:
        shutil.rmtree(trial, ignore_errors=True)  # an unregistered model of clients, which an erasure would not find


def _tried(job: Job, judged: Champion, base: Path, folder: Path, *, head: Head) -> Backtest:
    recipe, source, final = job.recipe, job.sample_source(), final_split(job.recipe)
    earlier = [split for split in SPLITS if split != final]
    trial = refitted(job, judged, base, folder, head=head, splits=earlier, name="backtest of the refit")
    model, members = trial.candidate.model, of_task(source.members([final]), main_task(recipe))
    champion = replace(judged, model=model, folders=trial.candidate.folders)
    answers = model_answers(
        model.model_id,
        model.asked,
        trial.candidate.folders,
        SamplePrompts(
            source=source,
            template=recipe.instructions.template,
            horizon=recipe.labels.horizons[0].name,
            splits=(final,),
        ),
        members,
        recipe=recipe,
        stage=job.stage("backtest"),
        fused=fused_part(champion, published_sequences(job), published_features(job)),
    )
    result = clustered_bootstrap(
        bad_members(members).astype(np.int64),
        {REFIT: answers["p_bad"].to_numpy(), JUDGED: stored_answers(job, model.parents[0], members)},
        np.array(members[recipe.split.unit].to_pylist()),
        replicates=recipe.evaluation.bootstrap,
        confidence=recipe.evaluation.confidence,
        seed=recipe.seed,
        reference=REFIT,
    )
    return Backtest(
        samples=int(trial.left.samples.replace(",", "")),
        trained_until=trial.left.trained_until,
        auc=result.auc[REFIT],
        lead=result.auc_differences[JUDGED],
    )
