"""The test of a mix against random samples: which mix a run trains on, and what its tables and report tell."""

from __future__ import annotations

import json
from typing import Any

import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest

from tests.support.finished import FinishedRun
from zigong.evaluation.mix_proxy import MixProxy, choose_mix, mix_members, mix_proxy
from zigong.lakehouse.paths import LakehousePaths
from zigong.release.serving import serving_base
from zigong.runs.handover import FinalModel, TrainingMix
from zigong.runs.job import Job
from zigong.training.base import MANIFEST

FIGURES: dict[str, Any] = {"samples": 40, "auc": 0.61, "auc_of_random": 0.66, "lead": -0.05}


def job_of(tiny_run: FinishedRun) -> Job:
    return Job(step="test", run=tiny_run.run, paths=LakehousePaths.at(tiny_run.root))


def test_a_mix_is_worse_only_if_the_whole_interval_says_so() -> None:
    worse = MixProxy(**FIGURES, lead_low=-0.09, lead_high=-0.01)
    unclear = MixProxy(**FIGURES, lead_low=-0.09, lead_high=0.01)
    assert worse.is_worse
    assert not unclear.is_worse
    assert worse.sentence == (
        "AUC on select after 40 samples of the mix 0.610, of random ones 0.660, lead -0.050 (-0.090 to -0.010): "
        "random samples are used instead"
    )
    assert unclear.sentence.endswith("(-0.090 to +0.010): the mix is used")


def test_a_run_tests_its_mix_and_trains_on_the_one_that_it_names(tiny_run: FinishedRun) -> None:
    job, run = job_of(tiny_run), tiny_run.run
    mix, final = run.take(TrainingMix), run.take(FinalModel)
    assert mix.random_mix_id is not None
    figures: dict[str, Any] = {name: run.metrics()[f"finetune.proxy.{name}"] for name in MixProxy.__dataclass_fields__}
    found = MixProxy(**{**figures, "samples": int(figures["samples"])})
    assert final.trained_on == (mix.random_mix_id if found.is_worse else mix.mix_id)
    assert final.mix_against_random == found.sentence
    assert 0 < found.samples <= 80
    manifest = json.loads((final.folder / MANIFEST).read_text("utf-8"))
    rows = job.arrow("training_mix", ["sample_id"], where=ds.field("mix_id") == final.trained_on)
    assert manifest["samples"] == len(rows)
    shares = {
        name: job.arrow("training_mix", ["share"], where=ds.field("mix_id") == name)["share"].to_pylist()
        for name in (mix.mix_id, mix.random_mix_id)
    }
    assert len(shares[mix.mix_id]) == len(shares[mix.random_mix_id])
    assert shares[mix.mix_id].count("influence") == round(0.3 * len(shares[mix.mix_id]))
    assert set(shares[mix.random_mix_id]) == {"random"}


def test_equal_samples_are_equally_good_and_one_mix_needs_no_test(tiny_run: FinishedRun) -> None:
    job = job_of(tiny_run)
    base, source, recipe = serving_base(job), job.sample_source(), job.recipe
    mix_id, members = next(iter(mix_members(job, tiny_run.run.take(TrainingMix)).items()))
    proxy = mix_proxy(source, recipe, base, mix=members, random=members)
    assert proxy is not None
    assert (proxy.auc, proxy.lead, proxy.lead_low) == (proxy.auc_of_random, 0.0, 0.0)
    assert choose_mix(source, recipe, base, {mix_id: members}) == (mix_id, None)


@pytest.mark.soak
def test_samples_of_one_class_are_no_better_than_a_mix_and_the_lead_has_its_sign(tiny_run: FinishedRun) -> None:
    job = job_of(tiny_run)
    base, source, recipe = serving_base(job), job.sample_source(), job.recipe
    mixed = next(iter(mix_members(job, tiny_run.run.take(TrainingMix)).values()))
    train = source.members(["train"])
    good = train.filter(pc.and_(pc.equal(train["label"], 0), pc.is_in(train["sample_id"], mixed)))["sample_id"]
    one, two = (mix_proxy(source, recipe, base, mix=a, random=b) for a, b in ((mixed, good), (good, mixed)))
    assert one is not None
    assert two is not None
    assert one.lead == pytest.approx(one.auc - one.auc_of_random)
    assert two.lead == pytest.approx(-one.lead)
    assert (two.auc, two.auc_of_random) == (one.auc_of_random, one.auc)
