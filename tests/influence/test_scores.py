from __future__ import annotations

from datetime import UTC, date, datetime, time
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from peft import PeftModel
from tiny_models import make_agent_settings, make_base, make_samples
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from zigong.errors import DataError
from zigong.influence.capture import OpenAgent, open_agent
from zigong.influence.score import score_samples
from zigong.influence.targets import (
    TargetGradients,
    capped_targets,
    read_targets,
    save_targets,
    scorer_fingerprint,
    target_diagnostics,
    target_gradients,
)
from zigong.recipe import Influence
from zigong.training.checkpoints import CheckpointManifest, read_checkpoints
from zigong.training.samples import Samples
from zigong.training.trainer import train_agent

TRAIN = tuple(date(2023, month, 1) for month in range(1, 7))
TARGETS = (date(2023, 8, 1), date(2023, 9, 1))
COUNT_EOS = {"without_eos": False, "with_eos": True}


class Setting:
    """One trained agent with its samples and targets, and the naive gradients of all of them."""

    def __init__(self, folder: Path, *, count_eos: bool) -> None:
        self.base = make_base(folder / "base")
        self.samples = make_samples(18, dates=TRAIN)
        self.targets = make_samples(9, seed=5, dates=TARGETS, prefix="z")
        settings = make_agent_settings(3, count_eos=count_eos)
        train_agent(self.base, self.samples, settings, seed=1, torch_threads=1, folder=folder / "agent", data={})
        self.manifest = read_checkpoints(folder / "agent")
        self.agent = open_agent(self.base, self.manifest, torch_threads=1)
        self.sample_gradients = self._naive(self.samples, count_eos)
        self.target_gradients = self._naive(self.targets, count_eos)

    def _naive(self, samples: Samples, count_eos: bool) -> list[list[torch.Tensor]]:
        """[k][N] flat gradients: PEFT's loader, batch of one, all logits, fp64."""
        gradients = []
        for item in self.manifest.checkpoints:
            plain = AutoModelForCausalLM.from_pretrained(self.base)
            model = PeftModel.from_pretrained(plain, self.manifest.folder / item.adapter, is_trainable=True)
            model.double().eval()
            weights = [weight for name, weight in model.named_parameters() if "lora_" in name]
            rows = []
            for prompt, answer in zip(samples.input_ids, samples.completion_ids, strict=True):
                ids = torch.tensor([*prompt, *answer, *([2] if count_eos else [])]).long()
                logits = model(input_ids=ids[None]).logits[0, len(prompt) - 1 : -1]
                loss = cross_entropy(logits, ids[len(prompt) :])
                rows.append(torch.cat([part.flatten() for part in torch.autograd.grad(loss, weights)]))
            gradients.append(rows)
        return gradients


@pytest.fixture(scope="module", params=list(COUNT_EOS))
def setting(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Setting:
    return Setting(tmp_path_factory.mktemp(request.param), count_eos=COUNT_EOS[request.param])


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    return Setting(tmp_path_factory.mktemp("plain"), count_eos=False)


def _months(first: date, second: date) -> int:
    return (second.year - first.year) * 12 + second.month - first.month


def _naive_parts(setting: Setting, index: int, settings: Influence) -> list[float] | None:
    """The printed formula, one test and one checkpoint at a time."""
    samples, targets, checkpoints = setting.samples, setting.targets, setting.manifest.checkpoints
    own_date, matured_at = samples.observation_date[index], samples.matured_at[index]
    eligible = [
        j
        for j, day in enumerate(targets.observation_date)
        if settings.pairs == "all" or datetime.combine(day, time(), UTC) >= matured_at
    ]
    earlier = [i for i, item in enumerate(checkpoints) if item.last_observation_date < own_date]
    used = list(range(len(checkpoints))) if settings.checkpoints == "all" else earlier[-1:]
    if not eligible or not used:
        return None
    parts = [0.0] * len(checkpoints)
    for i in used:
        for j in eligible:
            since = own_date if settings.decay == "sample" else checkpoints[i].last_observation_date
            since = checkpoints[i].last_observation_date if settings.checkpoints == "own" else since
            age = _months(since, targets.observation_date[j]) / 2  # six months in three periods
            decay = 1.0 if settings.decay == "none" else settings.gamma**age
            product_of_two = float(setting.sample_gradients[i][index] @ setting.target_gradients[i][j])
            parts[i] += decay * checkpoints[i].eta * product_of_two / len(eligible)
    return parts


def _gradients(setting: Setting, settings: Influence) -> TargetGradients:
    return target_gradients(setting.agent, setting.targets, settings, business_timezone="UTC")


def _scores(setting: Setting, settings: Influence, samples: Samples | None = None) -> pa.Table:
    return score_samples(setting.agent, _gradients(setting, settings), samples or setting.samples, settings)


@pytest.mark.parametrize(
    ("decay", "checkpoints", "pairs"),
    product(["checkpoint", "sample", "none"], ["all", "own"], ["later", "all"]),
)
def test_scores_equal_the_batch_of_one_autograd_loop(
    setting: Setting, decay: str, checkpoints: str, pairs: str
) -> None:
    settings = Influence.model_validate(
        {"gamma": 0.7, "decay": decay, "checkpoints": checkpoints, "pairs": pairs, "batch_tokens": 150}
    )
    table = _scores(setting, settings)
    assert table["sample_id"].to_pylist() == list(setting.samples.sample_id)
    expected = [_naive_parts(setting, index, settings) for index in range(len(setting.samples))]
    for row, parts in zip(table.to_pylist(), expected, strict=True):
        if parts is None:
            assert (row["score"], row["parts"]) == (None, [])
            assert row["reason"]
        else:
            size = np.abs(parts).max()
            np.testing.assert_allclose(row["parts"], parts, rtol=1e-5, atol=1e-5 * size)
            np.testing.assert_allclose(row["score"], sum(parts), rtol=1e-5, atol=1e-5 * size)
            assert row["reason"] is None
    assert any(parts is not None for parts in expected)


def test_samples_without_eligible_tests_or_checkpoints_say_so(plain: Setting) -> None:
    own = _scores(plain, Influence(checkpoints="own", pairs="all")).to_pylist()
    early = [row for row, day in zip(own, plain.samples.observation_date, strict=True) if day <= TRAIN[1]]
    assert {row["reason"] for row in early} == {"no checkpoint before the sample's period"}
    ripe_too_late = make_samples(6, dates=TRAIN, window_months=9)
    later = _scores(plain, Influence(), ripe_too_late)
    assert set(later["reason"].to_pylist()) == {"no target date at or after matured_at"}


@pytest.mark.parametrize("batch_tokens", [1, 60, 333, 100_000])
def test_scores_do_not_depend_on_batch_size_or_order(plain: Setting, batch_tokens: int) -> None:
    reference = _scores(plain, Influence())
    order = np.random.default_rng(batch_tokens).permutation(len(plain.samples))
    shuffled = _scores(plain, Influence(batch_tokens=batch_tokens), plain.samples.take(order))
    expected = np.array(reference["score"].to_pylist())[order]
    np.testing.assert_allclose(shuffled["score"].to_pylist(), expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())


def test_a_test_is_later_by_the_midnight_of_the_business_time_zone(plain: Setting) -> None:
    noon = datetime(2023, 9, 1, 3, tzinfo=UTC)  # before midnight in New York, after it in Shanghai and in UTC
    columns = {name: getattr(plain.samples, name) for name in plain.samples.__dataclass_fields__}
    ripe = Samples(**{**columns, "matured_at": (noon,) * len(plain.samples)})
    counts = {}
    for zone in ("America/New_York", "UTC", "Asia/Shanghai"):
        gradients = target_gradients(plain.agent, plain.targets, Influence(), business_timezone=zone)
        counts[zone] = score_samples(plain.agent, gradients, ripe, Influence())["score"].null_count
    assert counts == {"America/New_York": 0, "UTC": len(ripe), "Asia/Shanghai": len(ripe)}


def test_target_gradients_survive_the_file(plain: Setting, tmp_path: Path) -> None:
    gradients = _gradients(plain, Influence())
    save_targets(gradients, tmp_path / "targets.safetensors")
    again = read_targets(tmp_path / "targets.safetensors")
    assert (again.fingerprint, again.groups, again.names) == (gradients.fingerprint, gradients.groups, gradients.names)
    first, second = (score_samples(plain.agent, one, plain.samples, Influence()) for one in (gradients, again))
    assert first.equals(second)


def test_gradients_of_another_agent_are_refused(plain: Setting) -> None:
    gradients = _gradients(plain, Influence())
    reordered = CheckpointManifest(
        **{**vars(plain.manifest), "checkpoints": plain.manifest.checkpoints[::-1]}  # the same files in another order
    )
    other = OpenAgent(**{**vars(plain.agent), "manifest": reordered})
    with pytest.raises(DataError, match="another agent"):
        score_samples(other, gradients, plain.samples, Influence())


def test_a_base_model_that_the_agent_was_not_trained_on_is_refused(plain: Setting, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="differs from the agent's base"):
        open_agent(make_base(tmp_path / "other", seed=9), plain.manifest, torch_threads=1)


def test_the_fingerprint_hangs_on_targets_and_settings_but_not_on_batches(plain: Setting) -> None:
    ids = list(plain.targets.sample_id)
    reference = scorer_fingerprint(plain.manifest, Influence(), ids)
    assert reference == scorer_fingerprint(plain.manifest, Influence(batch_tokens=7), ids[::-1])
    assert reference != scorer_fingerprint(plain.manifest, Influence(gamma=0.8), ids)
    assert reference != scorer_fingerprint(plain.manifest, Influence(), ids[1:])


def test_diagnostics_are_the_cosines_of_the_naive_mean_gradients(plain: Setting) -> None:
    found = target_diagnostics(_gradients(plain, Influence()), plain.manifest)
    labels = torch.tensor(plain.targets.label).bool()
    for one, rows in zip(found, plain.target_gradients, strict=True):
        stacked = torch.stack(rows)
        expected = torch.cosine_similarity(stacked[labels].mean(0), stacked[~labels].mean(0), dim=0)
        assert one.class_cosine == pytest.approx(float(expected), rel=1e-4)
        assert one.half_cosine is not None
        assert -1 <= one.half_cosine <= 1


def test_targets_are_capped_by_whole_users_whatever_their_order(plain: Setting) -> None:
    targets = make_samples(40, prefix="z")
    capped = capped_targets(targets, 15)
    assert 0 < len(capped) <= 15
    whole = {user: targets.user_id.count(user) for user in set(capped.user_id)}
    assert {user: capped.user_id.count(user) for user in whole} == whole
    again = capped_targets(targets.take(np.arange(40)[::-1]), 15)
    assert set(again.sample_id) == set(capped.sample_id)


def test_scoring_without_targets_is_refused(plain: Setting) -> None:
    with pytest.raises(DataError, match="no target samples"):
        target_gradients(plain.agent, plain.targets.take([]), Influence(), business_timezone="UTC")
