"""A cheap test of a training mix: a small training on it and one on random samples, compared on ``select``."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from zigong.dataset.samples import SampleSource, of_task
from zigong.evaluation.bootstrap import clustered_bootstrap
from zigong.evaluation.retraining import retrained_answers
from zigong.instructions.encode import LineEncoder
from zigong.instructions.tasks import load_tasks
from zigong.recipe import Recipe
from zigong.runs.handover import TrainingMix
from zigong.runs.job import Job
from zigong.tokens.samples import Samples

SELECT = "select"


@dataclass(frozen=True, kw_only=True)
class MixProxy:
    """Two small trainings on equally many samples.

    Attributes:
        samples: number of samples of each.
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


def tested_mix(
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
    return (others[0] if proxy.is_worse else mix), proxy


def mix_proxy(source: SampleSource, recipe: Recipe, base: Path, *, mix: pa.Array, random: pa.Array) -> MixProxy:
    """Trains the final model on up to ``mix.proxy_samples`` samples of each, with the recipe's settings and one seed.

    Args:
        source: the samples of the dataset.
        recipe: recipe of the run.
        base: folder of the base model.
        mix: sample_ids of the mix.
        random: sample_ids of a mix of the same size without an influence share.

    Raises:
        DataError: ``select`` lacks a class.
    """
    main, most = load_tasks(recipe.instructions).main, recipe.mix.proxy_samples
    members = of_task(source.members(["train", SELECT]), main.task)
    encoder = LineEncoder.of(base)
    completions = tuple(np.array(encoder.completion(choice), dtype=np.int32) for choice in reversed(main.choices))
    chosen = {
        name: members.filter(pc.is_in(members["sample_id"], ids)) for name, ids in (("mix", mix), ("random", random))
    }
    size = min(most, *map(len, chosen.values()))
    held_out = _first_users(members.filter(pc.equal(members["split"], SELECT)), most)
    asked, answers = Samples.from_arrow(source.with_prompts(held_out)), {}
    with tempfile.TemporaryDirectory(prefix="zigong-proxy-") as scratch:
        for name, table in chosen.items():
            answers[name] = retrained_answers(
                base,
                recipe,
                Samples.from_arrow(source.with_prompts(_first_users(table, size))),
                asked,
                completions=(completions[0], completions[1]),
                seed=recipe.seed,
                folder=Path(scratch) / name,
            )
    result = clustered_bootstrap(
        asked.label,
        answers,
        np.array(held_out[recipe.split.unit].to_pylist()),
        replicates=recipe.evaluation.bootstrap,
        confidence=recipe.evaluation.confidence,
        seed=recipe.seed,
        reference="mix",
    )
    lead = result.auc_differences["random"]
    return MixProxy(
        samples=size,
        auc=result.auc["mix"].value,
        auc_of_random=result.auc["random"].value,
        lead=lead.value,
        lead_low=lead.low,
        lead_high=lead.high,
    )


def _first_users(members: pa.Table, most: int) -> pa.Table:
    """At most ``most`` members, user by user in the order of a hash, so that prompts of a user share their history."""
    users = members["user_id"].to_pylist()
    ranked = sorted(range(len(users)), key=lambda i: hashlib.sha256(users[i].encode()).digest())
    return members.take(pa.array(sorted(ranked[:most]), pa.int64()))
