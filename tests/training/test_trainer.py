from __future__ import annotations

import json
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from tests.support.tiny_models import LORA, make_agent_settings, make_base, make_samples
from zigong.errors import ConfigError, DataError
from zigong.recipe import FinalTraining
from zigong.tokens.samples import Samples, sample_lengths
from zigong.training.adapters import adapter_digest, load_adapted, new_adapter, read_adapter
from zigong.training.base import load_model
from zigong.training.checkpoints import months_per_period, read_checkpoints
from zigong.training.optimise import counted_batches, learning_rate
from zigong.training.plan import plan_steps, sample_periods, single_units, tree_units
from zigong.training.trainer import train_adapter, train_agent

MONTHS = tuple(date(2023, month, 1) for month in range(1, 8))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("trainer") / "base")


def _settings(**changes: object) -> FinalTraining:
    known = {"lora": LORA, "learning_rate": 0.02, "warmup_steps": 0, "batch_size": 8, "context_length": 64}
    return FinalTraining.model_validate({**known, **changes})


def _fit(base: Path, samples: Samples, folder: Path, *, seed: int = 3, **changes: Any) -> dict[str, torch.Tensor]:
    train_adapter(base, samples, _settings(**changes), seed=seed, torch_threads=1, folder=folder)
    return read_adapter(folder, digest=None)


def _sharing(samples: Samples) -> Samples:
    """The samples assigned to two users, where each prompt begins with the previous one."""
    columns = {name: getattr(samples, name) for name in samples.__dataclass_fields__}
    prompts = [np.concatenate(samples.input_ids[index % 2 : index + 1 : 2])[:40] for index in range(len(samples))]
    users = tuple(f"user {index % 2}" for index in range(len(samples)))
    return Samples(**{**columns, "input_ids": tuple(prompts), "user_id": users})


def _naive_step(base: Path, samples: Samples, rate: float) -> dict[str, torch.Tensor]:
    """One AdamW step on the mean over samples of each sample's mean loss, one sample at a time, with all logits."""
    adapted = new_adapter(base, LORA, seed=3)
    losses = []
    for prompt, answer in zip(samples.input_ids, samples.completion_ids, strict=True):
        ids = torch.tensor(np.concatenate([prompt, answer])).long()
        logits = adapted(input_ids=ids[None]).logits[0, len(prompt) - 1 : -1]
        losses.append(cross_entropy(logits, ids[len(prompt) :]))
    torch.stack(losses).mean().backward()  # type: ignore[no-untyped-call]
    weights = {name: item for name, item in adapted.named_parameters() if item.requires_grad}
    torch.optim.AdamW(weights.values(), lr=rate, betas=(0.9, 0.999), weight_decay=0.0).step()
    return {name.replace(".default", ""): item.detach() for name, item in weights.items()}


@pytest.mark.parametrize(
    ("engine", "batch_size", "accumulation"),
    [("samples", 8, 1), ("samples", 3, 3), ("samples", 1, 8), ("trees", 8, 1), ("trees", 3, 3), ("trees", 1, 8)],
)
def test_one_step_equals_the_naive_step_whatever_the_batches(
    base: Path, tmp_path: Path, engine: str, batch_size: int, accumulation: int
) -> None:
    samples = _sharing(make_samples(8)) if engine == "trees" else make_samples(8)
    changes: dict[str, Any] = {
        "engine": engine,
        "batch_size": batch_size,
        "accumulation": accumulation,
        "schedule": "constant",
    }
    got = _fit(base, samples, tmp_path / "got", **changes)
    expected = _naive_step(base, samples, 0.02)
    assert got.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(got[name], tensor, rtol=1e-3, atol=2e-5)


def _keep(losses: list[float], _step: int, _steps: int, loss: float) -> None:
    losses.append(loss)


@pytest.mark.parametrize("engine", ["samples", "trees"])
def test_every_step_has_the_same_samples_and_loss_however_it_is_divided(
    base: Path, tmp_path: Path, engine: str
) -> None:
    samples = _sharing(make_samples(72, dates=MONTHS[:3])) if engine == "trees" else make_samples(72)
    losses: list[list[float]] = []
    for batch_size, accumulation in ((24, 1), (8, 3), (3, 8)):
        seen: list[float] = []
        settings = _settings(
            engine=engine, batch_size=batch_size, accumulation=accumulation, epochs=2, schedule="constant"
        )
        progress = partial(_keep, seen)
        folder = tmp_path / f"{batch_size}"
        manifest = train_adapter(base, samples, settings, seed=3, torch_threads=1, folder=folder, progress=progress)
        assert manifest.tokens_per_second * manifest.seconds == pytest.approx(2 * sample_lengths(samples).sum())
        losses.append(seen)
    whole, *divided = losses
    assert len(whole) >= 4
    for other in divided:
        assert other == pytest.approx(whole, abs=1e-5)


def test_batches_of_a_step_are_no_larger_than_the_batch_size() -> None:
    units = single_units(make_samples(70), [np.arange(70)])
    (steps,) = plan_steps(units, _settings(batch_size=4, accumulation=5), seed=1)
    assert [sum(map(len, step.batches)) for step in steps].count(20) == 3
    assert max(len(batch) for step in steps for batch in step.batches) == 4


def test_the_first_warm_up_step_uses_its_share_of_the_rate(base: Path, tmp_path: Path) -> None:
    samples = make_samples(8)
    got = _fit(base, samples, tmp_path / "got", warmup_steps=3)
    for name, tensor in _naive_step(base, samples, 0.02 / 4).items():
        torch.testing.assert_close(got[name], tensor, rtol=1e-3, atol=2e-5)


def test_the_adapter_depends_on_seed_and_samples_but_not_on_their_order(base: Path, tmp_path: Path) -> None:
    samples = make_samples(20)
    _fit(base, samples, tmp_path / "a")
    _fit(base, samples.take(np.random.default_rng(0).permutation(20)), tmp_path / "b")
    _fit(base, samples, tmp_path / "c", seed=4)
    first, second, third = (adapter_digest(tmp_path / name) for name in "abc")
    assert first == second != third


def test_training_lowers_the_loss_and_reports_every_step(base: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int, float]] = []
    samples = make_samples(40)
    columns = {name: getattr(samples, name) for name in samples.__dataclass_fields__}
    answers = Samples(**{**columns, "completion_ids": tuple(ids[:1] for ids in samples.completion_ids)})
    manifest = train_adapter(
        base,
        answers,
        _settings(epochs=8),
        seed=1,
        torch_threads=1,
        folder=tmp_path / "a",
        progress=lambda *step: seen.append(step),
    )
    assert [step for step, _, _ in seen] == list(range(1, manifest.steps + 1)) == list(range(1, 41))
    assert manifest.final_loss < 0.9 * seen[0][2]
    assert manifest.samples == 40


def test_a_new_adapter_changes_no_output_and_depends_on_the_seed(base: Path) -> None:
    fresh, again, other = (new_adapter(base, LORA, seed=seed) for seed in (1, 1, 2))
    ids = torch.tensor([[3, 4, 5]])
    torch.testing.assert_close(fresh(input_ids=ids).logits, load_model(base)(input_ids=ids).logits)
    weights = [torch.cat([p.flatten() for p in one.parameters() if p.requires_grad]) for one in (fresh, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_peft_s_own_loader_reads_the_saved_adapter(base: Path, tmp_path: Path) -> None:
    _fit(base, make_samples(16), tmp_path / "a")
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "a").eval()
    ids = torch.tensor([[3, 9, 5, 23]])
    torch.testing.assert_close(load_adapted(base, tmp_path / "a")(input_ids=ids).logits, theirs(input_ids=ids).logits)


def test_an_unknown_lora_target_is_named(base: Path) -> None:
    with pytest.raises(ConfigError, match="nonsense_proj"):
        new_adapter(base, LORA.model_copy(update={"targets": ("q_proj", "nonsense_proj")}), seed=1)


def test_an_overlong_sample_never_trains(base: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="context_length allows 5"):
        _fit(base, make_samples(8), tmp_path / "a", context_length=5)
    assert not (tmp_path / "a").exists()


def test_the_rate_warms_up_then_stays_constant_or_decays_to_zero() -> None:
    constant = [learning_rate(step, 10, peak=1.0, warmup=3, schedule="constant") for step in range(10)]
    cosine = [learning_rate(step, 10, peak=1.0, warmup=3, schedule="cosine") for step in range(11)]
    assert constant == [0.25, 0.5, 0.75, *[1.0] * 7]
    assert cosine[:4] == [0.25, 0.5, 0.75, 1.0]
    assert cosine[3:] == sorted(cosine[3:], reverse=True)
    assert cosine[10] == pytest.approx(0.0)


def test_checkpoints_carry_the_last_date_and_the_summed_rate_of_their_period(base: Path, tmp_path: Path) -> None:
    samples = make_samples(70, dates=MONTHS)
    settings = make_agent_settings(3, epochs=2)
    train_agent(base, samples, settings, seed=1, torch_threads=1, folder=tmp_path / "agent", data={"dataset_id": "d"})
    manifest = read_checkpoints(tmp_path / "agent")
    checkpoints = manifest.checkpoints
    assert [item.last_observation_date for item in checkpoints] == [MONTHS[2], MONTHS[4], MONTHS[6]]
    assert [item.samples for item in checkpoints] == [30, 20, 20]
    assert [item.steps for item in checkpoints] == [16, 10, 10]
    assert [item.eta for item in checkpoints] == pytest.approx([0.02 * (1 / 3 + 2 / 3 + 14), 0.2, 0.2])
    assert manifest.months_per_period == pytest.approx(7 / 3)
    assert manifest.data == {"dataset_id": "d"}
    for item in checkpoints:
        assert manifest.weights(item).keys() == manifest.weights(checkpoints[0]).keys()


def test_later_samples_never_change_an_earlier_checkpoint(base: Path, tmp_path: Path) -> None:
    early, late = make_samples(20, dates=MONTHS[:2]), make_samples(20, dates=MONTHS[2:4], prefix="t", seed=1)
    other = make_samples(20, dates=MONTHS[2:4], prefix="t", seed=2)
    digests = []
    for name, rest in (("a", late), ("b", other)):
        columns: dict[str, Any] = {
            key: [*getattr(early, key), *getattr(rest, key)] for key in early.__dataclass_fields__
        }
        both = Samples(**{**columns, "label": np.array(columns["label"])})
        manifest = train_agent(
            base, both, make_agent_settings(2), seed=1, torch_threads=1, folder=tmp_path / name, data={}
        )
        digests.append([item.adapter_digest for item in manifest.checkpoints])
    assert digests[0][0] == digests[1][0]
    assert digests[0][1] != digests[1][1]


def test_samples_of_one_date_still_yield_every_checkpoint() -> None:
    samples = make_samples(10)
    periods = sample_periods(samples, 3, seed=5)
    assert sorted(index for period in periods for index in period) == list(range(10))
    assert [len(period) for period in periods] == [4, 3, 3]
    shuffled = samples.take(np.arange(10)[::-1])
    again = sample_periods(shuffled, 3, seed=5)
    assert [{samples.sample_id[i] for i in period} for period in periods] == [
        {shuffled.sample_id[i] for i in period} for period in again
    ]


def test_more_checkpoints_than_dates_are_rejected() -> None:
    with pytest.raises(ConfigError, match="there are 2 observation dates"):
        sample_periods(make_samples(10, dates=MONTHS[:2]), 3, seed=1)


def test_a_period_is_never_shorter_than_a_month() -> None:
    assert months_per_period([date(2023, 1, 1)], 4) == 1.0
    assert months_per_period([date(2023, 1, 1), date(2023, 12, 1)], 4) == 3.0


def test_a_checkpoint_manifest_that_lacks_a_key_names_it(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "agent"
    train_agent(base, make_samples(8), make_agent_settings(1), seed=1, torch_threads=1, folder=folder, data={})
    complete = json.loads((folder / "checkpoints.json").read_text())
    for content, key in (
        ({k: v for k, v in complete.items() if k != "base_digest"}, "base_digest"),
        ({**complete, "checkpoints": [{k: v for k, v in complete["checkpoints"][0].items() if k != "eta"}]}, "eta"),
    ):
        (folder / "checkpoints.json").write_text(json.dumps(content))
        with pytest.raises(ConfigError, match=f"'{key}'"):
            read_checkpoints(folder)


def test_a_changed_or_pickled_adapter_is_rejected(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "agent"
    manifest = train_agent(
        base, make_samples(8), make_agent_settings(1), seed=1, torch_threads=1, folder=folder, data={}
    )
    place = folder / manifest.checkpoints[0].adapter
    content = bytearray((place / "adapter_model.safetensors").read_bytes())
    content[-1] ^= 1
    (place / "adapter_model.safetensors").write_bytes(content)
    with pytest.raises(DataError, match="differs from the manifest"):
        manifest.weights(manifest.checkpoints[0])
    (place / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"adapter_model\.bin"):
        manifest.weights(manifest.checkpoints[0])


def test_a_tree_has_one_user_and_period_and_every_epoch_has_every_sample() -> None:
    samples = _sharing(make_samples(60, dates=MONTHS[:4]))
    periods = sample_periods(samples, 2, seed=1)
    units = tree_units(samples, periods)
    for members in units.members:
        assert len({samples.user_id[sample] for sample in members}) == 1
        assert any(set(members) <= set(period) for period in periods)
    assert units.lengths.sum() < single_units(samples, periods).lengths.sum()
    for period, steps in zip(periods, plan_steps(units, _settings(epochs=2, batch_size=4), seed=1), strict=True):
        batches = [units.among(batch) for step in steps for batch in step.batches]
        assert np.bincount(np.concatenate(batches), minlength=60)[period].tolist() == [2] * len(period)
        assert sum(len(batch) for batch in batches) == 2 * len(period)


def test_batches_end_as_soon_as_they_have_the_given_number_of_samples() -> None:
    batches = counted_batches(np.array([5, 1, 9, 3, 7]), np.array([1, 2, 1, 4, 1]), 3)
    assert [batch.tolist() for batch in batches] == [[1, 3], [0, 4, 2]]
