"""A cheap test of a training mix: a small training on it and one on random samples, compared on ``select``."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from zigong.dataset.samples import SampleSource, capped, of_task
from zigong.evaluation.bootstrap import clustered_bootstrap
from zigong.evaluation.retraining import Floats, retrained_answers
from zigong.instructions.encode import LineEncoder
from zigong.instructions.tasks import load_tasks
from zigong.recipe import Recipe
from zigong.recipe.learning import PROXY_SEEDS
from zigong.runs.handover import TrainingMix
from zigong.runs.job import Job
from zigong.tokens.samples import Samples

SELECT = "select"
REPLICATES, CONFIDENCE = 1000, 0.95


@dataclass(frozen=True, kw_only=True)
class MixProxy:
    """Small trainings on the mix and on random samples.

    Attributes:
        samples: number of samples of the mix that were trained on.
        auc: AUC on ``select`` after training on samples of the mix.
        auc_of_random: the same after random samples.
        lead: their difference, paired.
        lead_low: lower end of its interval over persons.
        lead_high: upper end of it.
    """

    samples: int
    auc: float
    auc_of_random: float
    lead: float
    lead_low: float
    lead_high: float

    @property
    def is_worse(self) -> bool:
        """Whether the mix is worse than random samples: the interval of the lead lies below 0."""
        return self.lead_high < 0

    @property
    def sentence(self) -> str:
        """The result and what follows from it."""
        used = "random samples are used instead" if self.is_worse else "the mix is used"
        return (
            f"AUC on select after {self.samples:,} samples of the mix {self.auc:.3f}, of random ones "
            f"{self.auc_of_random:.3f}, lead {self.lead:+.3f} ({self.lead_low:+.3f} to {self.lead_high:+.3f}): {used}"
        )

    @property
    def figures(self) -> dict[str, float]:
        """As a flat mapping for metrics.json."""
        return {f"proxy.{name}": float(value) for name, value in asdict(self).items()}


def mix_members(job: Job, mix: TrainingMix) -> dict[str, pa.Array]:
    """The sample_ids of a run's mix and of the random samples that may replace it, by mix_id, the mix first."""
    ids = [mix.mix_id, *([mix.random_mix_id] if mix.random_mix_id is not None else [])]
    rows = job.arrow("training_mix", ["mix_id", "sample_id"], where=ds.field("mix_id").isin(ids))
    return {name: rows.filter(pc.equal(rows["mix_id"], name))["sample_id"].combine_chunks() for name in ids}


def choose_mix(
    source: SampleSource, recipe: Recipe, base: Path, mixes: Mapping[str, pa.Array]
) -> tuple[str, MixProxy | None]:
    """The mix_id of the samples to train on, and the test; see :func:`mix_proxy`.

    Args:
        source: the samples of the dataset.
        recipe: recipe of the run.
        base: folder of the base model.
        mixes: see :func:`mix_members`; with one mix there is nothing to test.
    """
    mix, *others = mixes
    if not others:
        return mix, None
    proxy = mix_proxy(source, recipe, base, mix=mixes[mix], random=mixes[others[0]])
    return (others[0] if proxy is not None and proxy.is_worse else mix), proxy


def mix_proxy(source: SampleSource, recipe: Recipe, base: Path, *, mix: pa.Array, random: pa.Array) -> MixProxy | None:
    """Trains the final model on up to ``mix.proxy_samples`` samples of each, with the recipe's settings, for each seed.

    Complete users of the main question are trained on, all samples of ``select`` are answered, and the probabilities of
    the ``PROXY_SEEDS`` seeds are averaged, since one training of a small model says little.

    Args:
        source: the samples of the dataset.
        recipe: recipe of the run.
        base: folder of the base model.
        mix: sample_ids of the mix.
        random: sample_ids of a mix of the same size without an influence share.

    Returns:
        None if ``select`` lacks a class, so that nothing can be compared.
    """
    main, most = load_tasks(recipe.instructions).main, recipe.mix.proxy_samples
    members = of_task(source.members(["train", SELECT]), main.task)
    held_out = source.with_prompts(members.filter(pc.equal(members["split"], SELECT)))
    asked = Samples.from_arrow(held_out)
    if len(set(asked.label.tolist())) < 2:
        return None
    sides = {
        name: Samples.from_arrow(source.with_prompts(capped(members.filter(pc.is_in(members["sample_id"], ids)), most)))
        for name, ids in (("mix", mix), ("random", random))
    }
    result = clustered_bootstrap(
        asked.label,
        {name: _mean_answers(base, recipe, samples, asked) for name, samples in sides.items()},
        np.array(held_out[recipe.split.unit].to_pylist()),
        replicates=REPLICATES,
        confidence=CONFIDENCE,
        seed=recipe.seed,
        reference="mix",
    )
    lead = result.auc_differences["random"]
    return MixProxy(
        samples=len(sides["mix"]),
        auc=result.auc["mix"].value,
        auc_of_random=result.auc["random"].value,
        lead=lead.value,
        lead_low=lead.low,
        lead_high=lead.high,
    )


def _mean_answers(base: Path, recipe: Recipe, samples: Samples, asked: Samples) -> Floats:
    encoder, choices = LineEncoder.of(base), load_tasks(recipe.instructions).main.choices
    bad, good = (np.array(encoder.completion(choice), dtype=np.int32) for choice in choices)
    answers = []
    with tempfile.TemporaryDirectory(prefix="zigong-proxy-") as scratch:
        for number in range(PROXY_SEEDS):
            folder, seed = Path(scratch, str(number)), recipe.seed + number
            answers.append(
                retrained_answers(base, recipe, samples, asked, completions=(good, bad), seed=seed, folder=folder)
            )
    return np.asarray(np.mean(answers, axis=0))
