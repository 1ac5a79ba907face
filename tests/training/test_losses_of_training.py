from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from torch import Tensor

from tests.support.tiny_models import LORA, make_base, make_samples
from zigong.errors import ConfigError, DataError
from zigong.recipe import FinalTraining
from zigong.tokens.samples import NO_LABEL, Samples
from zigong.training.adapters import adapter_digest, load_adapted, new_adapter, read_adapter
from zigong.training.plan import Units, plan_steps, single_units, tree_units
from zigong.training.teacher import Teacher
from zigong.training.trainer import train_adapter

BAD, GOOD = 24, 23  # answer tokens of make_samples for label 1 and 0


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("teacher") / "base")


@pytest.fixture(scope="module")
def adapted(base: Path) -> PeftModel:
    return new_adapter(base, LORA, seed=3)


def _settings(**changes: object) -> FinalTraining:
    known = {"lora": LORA, "learning_rate": 0.02, "warmup_steps": 0, "batch_size": 5, "context_length": 64}
    return FinalTraining.model_validate({**known, **changes})


def _replaced(samples: Samples, **columns: Any) -> Samples:
    return Samples(**{**{name: getattr(samples, name) for name in samples.__dataclass_fields__}, **columns})


def _sharing(size: int) -> Samples:
    """The samples of three users, where each prompt begins with the user's previous one."""
    samples = make_samples(size)
    prompts = [np.concatenate(samples.input_ids[index % 3 : index + 1 : 3])[:40] for index in range(size)]
    users = tuple(f"user {index % 3}" for index in range(size))
    return _replaced(samples, input_ids=tuple(prompts), user_id=users)


def _teacher(samples: Samples, p_bad: Sequence[float], choices: Any = ([BAD], [GOOD])) -> Teacher:
    return Teacher(p_bad=dict(zip(samples.sample_id, p_bad, strict=False)), choices=choices)


def _p_bad(size: int) -> list[float]:
    return [float(p) for p in np.random.default_rng(5).random(size)]


def _naive_loss(model: PeftModel, samples: Samples, index: int, p_bad: float | None, weight: float) -> float:
    """Mean over the answer's tokens, one sample at a time, with all logits."""
    prompt, answer = samples.input_ids[index], samples.completion_ids[index]
    ids = torch.tensor(np.concatenate([prompt, answer])).long()
    with torch.no_grad():
        logs = model(input_ids=ids[None]).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    losses = [-float(logs[place, token]) for place, token in enumerate(answer)]
    if p_bad is not None:
        soft = -p_bad * float(logs[0, BAD]) - (1 - p_bad) * float(logs[0, GOOD])
        losses[0] = weight * soft + (1 - weight) * losses[0]
    return float(np.mean(losses))


def _units(samples: Samples, engine: str, teacher: Teacher | None, weight: float) -> Units:
    divided = (tree_units if engine == "trees" else single_units)(samples, [np.arange(len(samples))])
    return replace(divided, soft=None if teacher is None else teacher.soft_answers(samples, weight=weight))


@pytest.mark.parametrize("engine", ["samples", "trees"])
def test_the_loss_mixes_each_sample_s_own_soft_answer_however_it_is_batched(adapted: PeftModel, engine: str) -> None:
    samples, p_bad = _sharing(18), _p_bad(12)  # the last six have no soft answer
    units = _units(samples, engine, _teacher(samples, p_bad), 0.7)
    expected = [_naive_loss(adapted, samples, i, p_bad[i] if i < 12 else None, 0.7) for i in range(18)]
    (steps,) = plan_steps(units, _settings(batch_size=4, accumulation=2), seed=1)
    with torch.no_grad():
        for batch in (batch for step in steps for batch in step.batches):
            found = float(units.summed_loss(adapted.get_base_model(), batch))
            assert found == pytest.approx(sum(expected[i] for i in units.among(batch)), rel=1e-4)
    assert not np.allclose(expected, [_naive_loss(adapted, samples, i, None, 0) for i in range(18)], atol=1e-2)


def _gradient(adapted: PeftModel, units: Units) -> Tensor:
    weights = [item for item in adapted.parameters() if item.requires_grad]
    loss = units.summed_loss(adapted.get_base_model(), np.arange(len(units.members)))
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, weights)])


def test_both_engines_have_equal_gradients_with_a_teacher(adapted: PeftModel) -> None:
    samples = _sharing(12)
    one, two = (
        _gradient(adapted, _units(samples, e, _teacher(samples, _p_bad(12)), 0.7)) for e in ("samples", "trees")
    )
    torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-5)
    assert float(one.norm()) > 0.01


def test_a_certain_teacher_of_the_label_s_opinion_changes_no_loss(adapted: PeftModel) -> None:
    samples = _sharing(12)
    units = [_units(samples, "trees", t, 0.7) for t in (_teacher(samples, samples.label.tolist()), None)]
    torch.testing.assert_close(*(_gradient(adapted, one) for one in units), rtol=1e-4, atol=1e-6)


def test_the_soft_answer_is_at_the_first_token_in_which_the_choices_differ(adapted: PeftModel) -> None:
    """Choices with a common first token: the loss with answers moved by one token equals that without the first."""
    samples = make_samples(6)
    longer = _replaced(samples, completion_ids=tuple(np.array([9, *ids]) for ids in samples.completion_ids))
    soft = _teacher(longer, _p_bad(6), ([9, BAD], [9, GOOD])).soft_answers(longer, weight=0.5)
    assert (soft.place, soft.bad, soft.good) == (1, BAD, GOOD)
    moved = _replaced(
        samples,
        input_ids=tuple(np.append(ids, 9).astype(np.int32) for ids in samples.input_ids),
    )
    bare = _units(moved, "samples", _teacher(moved, _p_bad(6)), 0.5)
    with_first = _units(longer, "samples", _teacher(longer, _p_bad(6), ([9, BAD], [9, GOOD])), 0.5)
    first = _units(_replaced(samples, completion_ids=(np.array([9]),) * 6), "samples", None, 0)
    with torch.no_grad():
        for i in range(6):
            losses = [float(u.summed_loss(adapted.get_base_model(), np.array([i]))) for u in (bare, with_first, first)]
            size = len(samples.completion_ids[i])
            assert losses[1] * (size + 1) == pytest.approx(losses[0] * size + losses[2], rel=1e-4)


@pytest.mark.parametrize("engine", ["samples", "trees"])
def test_a_teacher_of_weight_zero_changes_no_bit_and_of_another_weight_does(
    base: Path, tmp_path: Path, engine: str
) -> None:
    samples = _sharing(20)

    def digest(name: str, teacher: Teacher | None, weight: float) -> str:
        settings = _settings(engine=engine, distil={"weight": weight})
        train_adapter(base, samples, settings, seed=3, torch_threads=1, folder=tmp_path / name, teacher=teacher)
        return adapter_digest(tmp_path / name)

    teacher = _teacher(samples, _p_bad(20))
    assert digest("hard", None, 0) == digest("zero", teacher, 0) != digest("soft", teacher, 0.7)


def test_a_teacher_moves_the_model_towards_its_answers(base: Path, tmp_path: Path) -> None:
    samples, log_odds = make_samples(40), []
    for p_bad in (0.1, 0.9):
        folder, settings = tmp_path / str(p_bad), _settings(epochs=4, distil={"weight": 1.0})
        teacher = _teacher(samples, [p_bad] * 40)
        train_adapter(base, samples, settings, seed=1, torch_threads=1, folder=folder, teacher=teacher)
        with torch.no_grad():
            trained = load_adapted(base, folder)
            logits = [trained(input_ids=torch.tensor(ids)[None].long()).logits[0, -1] for ids in samples.input_ids]
        log_odds.append(float(torch.stack([one[BAD] - one[GOOD] for one in logits]).mean()))
    low, high = log_odds
    assert high - low > 0.5


def test_a_teacher_that_does_not_fit_the_samples_is_refused() -> None:
    samples = make_samples(4)
    for p_bad, choices, match in (
        ([0.5], ([BAD], [BAD, GOOD]), "is a prefix of"),
        ([], ([BAD], [GOOD]), "found no answer"),
        ([0.5, 1.5], ([BAD], [GOOD]), r"found p_bad 1\.5 of s001"),
        ([0.5], ([7], [8]), "expected one of the choices"),
    ):
        with pytest.raises((ConfigError, DataError), match=match):
            _teacher(samples, p_bad, choices).soft_answers(samples, weight=0.5)


@pytest.mark.parametrize("engine", ["samples", "trees"])
def test_the_next_event_loss_is_the_mean_over_each_prompt(adapted: PeftModel, engine: str) -> None:
    samples = _sharing(18)  # the first prompt has one token, which nothing predicts
    expected = []
    for index, prompt in enumerate(samples.input_ids):
        ids = torch.tensor(prompt).long()
        with torch.no_grad():
            logs = adapted(input_ids=ids[None]).logits[0, :-1].log_softmax(-1)
        own = [-float(logs[place, token]) for place, token in enumerate(prompt[1:])]
        expected.append(_naive_loss(adapted, samples, index, None, 0) + (0.3 * float(np.mean(own)) if own else 0.0))
    units = replace(_units(samples, engine, None, 0), next_event_weight=0.3)
    (steps,) = plan_steps(units, _settings(batch_size=4, accumulation=2), seed=1)
    with torch.no_grad():
        for batch in (batch for step in steps for batch in step.batches):
            found = float(units.summed_loss(adapted.get_base_model(), batch))
            assert found == pytest.approx(sum(expected[i] for i in units.among(batch)), rel=1e-4)


def test_both_engines_have_equal_gradients_with_the_next_event_loss(adapted: PeftModel) -> None:
    samples = _sharing(12)
    teacher = _teacher(samples, _p_bad(12))
    units = [replace(_units(samples, engine, teacher, 0.7), next_event_weight=0.3) for engine in ("samples", "trees")]
    torch.testing.assert_close(*(_gradient(adapted, one) for one in units), rtol=1e-3, atol=1e-5)
    answers_alone = _gradient(adapted, _units(samples, "trees", teacher, 0.7))
    assert not torch.allclose(_gradient(adapted, units[0]), answers_alone, rtol=1e-2)


def test_the_next_event_weight_of_the_settings_reaches_the_training(base: Path, tmp_path: Path) -> None:
    for name, weight in (("without", 0.0), ("with", 0.3)):
        settings = _settings(next_event_weight=weight)
        train_adapter(base, make_samples(8), settings, seed=3, torch_threads=1, folder=tmp_path / name)
    assert adapter_digest(tmp_path / "without") != adapter_digest(tmp_path / "with")


def test_clipping_scales_the_gradient_of_a_step_to_the_norm(base: Path, tmp_path: Path) -> None:
    """The norm is so small that AdamW's epsilon shows the length of the gradient in the first step."""
    samples, clip = make_samples(8), 1e-7
    adapted = new_adapter(base, LORA, seed=3)
    weights = {name: item for name, item in adapted.named_parameters() if item.requires_grad}
    (_units(samples, "samples", None, 0).summed_loss(adapted.get_base_model(), np.arange(8)) / 8).backward()  # type: ignore[no-untyped-call]
    norm = torch.cat([item.grad.flatten() for item in weights.values() if item.grad is not None]).norm()
    for item in weights.values():
        item.grad = item.grad * clip / norm if item.grad is not None else None
    torch.optim.AdamW(weights.values(), lr=0.02, weight_decay=0.0).step()
    for name, settings, equal in (
        ("clipped", _settings(batch_size=8, max_grad_norm=clip), True),
        ("never", _settings(batch_size=8), False),
        ("longer", _settings(batch_size=8, max_grad_norm=1e6), False),
    ):
        train_adapter(base, samples, settings, seed=3, torch_threads=1, folder=tmp_path / name)
        found = read_adapter(tmp_path / name, digest=None)
        same = [
            torch.allclose(found[key.replace(".default", "")], item, rtol=1e-3, atol=1e-6)
            for key, item in weights.items()
        ]
        assert all(same) == equal, name
    assert adapter_digest(tmp_path / "never") == adapter_digest(tmp_path / "longer")


@pytest.mark.parametrize("engine", ["samples", "trees"])
def test_each_sample_s_loss_has_its_own_weight(adapted: PeftModel, engine: str) -> None:
    samples = _sharing(12)
    weights = np.linspace(0.0, 2.0, 12)
    units = replace(_units(samples, engine, None, 0), weights=weights)
    expected = sum(w * _naive_loss(adapted, samples, i, None, 0) for i, w in enumerate(weights))
    with torch.no_grad():
        found = float(units.summed_loss(adapted.get_base_model(), np.arange(len(units.members))))
    assert found == pytest.approx(expected, rel=1e-4)


def test_weights_and_a_loss_of_next_events_are_refused_together(base: Path, tmp_path: Path) -> None:
    samples = make_samples(6)
    weights = dict.fromkeys(samples.sample_id, 1.0)
    settings = _settings(next_event_weight=0.1)
    with pytest.raises(ConfigError, match="next_event_weight"):
        train_adapter(base, samples, settings, seed=1, torch_threads=1, folder=tmp_path / "a", weights=weights)


@pytest.mark.parametrize("engine", ["samples", "trees"])
def test_a_sample_without_a_label_has_the_teacher_s_cross_entropy_whatever_stands_for_its_answer(
    adapted: PeftModel, engine: str
) -> None:
    """Even with choices of two tokens, of which the second one depends on the first."""
    samples, p_bad = _sharing(12), _p_bad(12)
    unlabelled = np.arange(12) % 3 == 0
    known = np.where(unlabelled, NO_LABEL, samples.label)
    teacher = _teacher(samples, p_bad, ([BAD, 7], [GOOD, 8]))
    expected = []
    for index in range(12):
        bare = _replaced(samples, completion_ids=tuple(ids[:1] for ids in samples.completion_ids))
        of = bare if unlabelled[index] else samples
        expected.append(_naive_loss(adapted, of, index, p_bad[index], 1.0 if unlabelled[index] else 0.4))
    for stand_in in ([BAD, 7], [GOOD, 8]):
        answers = [
            np.array(stand_in, dtype=np.int32) if no else ids
            for no, ids in zip(unlabelled, samples.completion_ids, strict=True)
        ]
        taught = teacher.without_guesses(_replaced(samples, label=known, completion_ids=tuple(answers)))
        units = _units_of_first_tokens(taught, engine, teacher)
        with torch.no_grad():
            found = [
                float(units.summed_loss(adapted.get_base_model(), np.array([i]))) for i in range(len(units.members))
            ]
        sums = [sum(expected[i] for i in units.among(np.array([unit]))) for unit in range(len(units.members))]
        assert found == pytest.approx(sums, rel=1e-4)


def _units_of_first_tokens(samples: Samples, engine: str, teacher: Teacher) -> Units:
    first = Teacher(p_bad=teacher.p_bad, choices=([BAD], [GOOD]))  # labels of make_samples have other second tokens
    return _units(samples, engine, first, 0.4)


def test_a_sample_without_label_and_teacher_is_refused(base: Path, tmp_path: Path) -> None:
    samples = make_samples(6)
    unlabelled = _replaced(samples, label=np.array([NO_LABEL, *samples.label[1:]]))
    partly = Teacher(p_bad={samples.sample_id[1]: 0.5}, choices=([BAD], [GOOD]))
    for teacher, weight, match in ((None, 0.5, "no teacher"), (partly, 0.0, "no teacher"), (partly, 0.5, "neither")):
        settings = _settings(distil={"weight": weight})
        with pytest.raises(DataError, match=match):
            train_adapter(
                base, unlabelled, settings, seed=1, torch_threads=1, folder=tmp_path / "refused", teacher=teacher
            )
