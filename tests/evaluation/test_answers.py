from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from tests.support.tiny_models import make_agent_settings, make_base, make_samples
from tests.support.tiny_trees import monthly_user
from zigong.errors import ConfigError, DataError
from zigong.evaluation.answers import answer_prompts, answer_samples
from zigong.recipe import FinalTraining
from zigong.training.adapters import load_adapted
from zigong.training.trainer import train_adapter

SAMPLES = make_samples(24)
CHOICE_SETS = [[[24], [23]], [[24, 5], [23]], [[24, 5, 6], [24, 7], [23, 4]]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    place = tmp_path_factory.mktemp("answers")
    settings = FinalTraining.model_validate(make_agent_settings(1).model_dump(exclude={"checkpoints"}) | {"epochs": 12})
    base = make_base(place / "base")
    train_adapter(base, SAMPLES, settings, seed=1, torch_threads=1, folder=place / "adapter")
    return base, place / "adapter"


def _answers(folders: tuple[Path, Path], choices: list[list[int]], batch_tokens: int = 200) -> pa.Table:
    base, adapter = folders
    return answer_samples(
        base, adapter, SAMPLES.sample_id, SAMPLES.input_ids, choices, batch_tokens=batch_tokens, torch_threads=1
    )


@pytest.mark.parametrize("choices", CHOICE_SETS)
def test_answers_equal_those_of_one_prompt_and_one_choice_at_a_time(
    folders: tuple[Path, Path], choices: list[list[int]]
) -> None:
    model = load_adapted(*folders)
    for row, prompt in zip(_answers(folders, choices).to_pylist(), SAMPLES.input_ids, strict=True):
        totals = []
        for choice in choices:
            ids = torch.tensor([*prompt, *choice]).long()
            logs = model(input_ids=ids[None]).logits[0].log_softmax(-1)
            totals.append(sum(float(logs[len(prompt) - 1 + k, token].detach()) for k, token in enumerate(choice)))
        shares = np.exp(totals) / np.exp(totals).sum()
        greedy = int(model(input_ids=torch.tensor(prompt)[None].long()).logits[0, -1].argmax())
        assert row["p_bad"] == pytest.approx(shares[0], rel=1e-4)
        assert row["answer"] == int(np.argmax(shares))
        assert row["miss"] == (greedy not in {choice[0] for choice in choices})


def test_a_trained_model_misses_less_than_a_base_that_never_saw_an_answer(folders: tuple[Path, Path]) -> None:
    adapted = load_adapted(*folders)
    answered = _answers(folders, [[24], [23]])
    with adapted.disable_adapter():
        bare = answer_prompts(
            adapted.get_base_model(), SAMPLES.sample_id, SAMPLES.input_ids, [[24], [23]], batch_tokens=200
        )
    assert sum(answered["miss"].to_pylist()) < sum(bare["miss"].to_pylist())


def test_answers_do_not_depend_on_batches(folders: tuple[Path, Path]) -> None:
    first, second = (_answers(folders, [[24], [23]], batch_tokens=size) for size in (1, 10_000))
    np.testing.assert_allclose(first["p_bad"].to_pylist(), second["p_bad"].to_pylist(), rtol=1e-5)
    assert first["sample_id"].to_pylist() == list(SAMPLES.sample_id)


@pytest.mark.parametrize("choices", CHOICE_SETS)
@pytest.mark.parametrize("batch_tokens", [1, 150])
def test_prompts_of_an_owner_that_share_a_pass_have_the_answers_of_separate_prompts(
    folders: tuple[Path, Path], choices: list[list[int]], batch_tokens: int
) -> None:
    users = [monthly_user(name, seed=seed, months=6, points=4) for seed, name in enumerate("abc")]
    prompts = [ids % 23 for user in users for ids in user.input_ids]
    owners = [name for user in users for name in user.user_id]
    model, keys = load_adapted(*folders).get_base_model(), [str(index) for index in range(len(prompts))]
    order = np.random.default_rng(1).permutation(len(prompts))
    mixed = [prompts[index] for index in order]
    separate = answer_prompts(model, keys, mixed, choices, batch_tokens=200)
    found = answer_prompts(
        model, keys, mixed, choices, batch_tokens=batch_tokens, owners=[owners[index] for index in order]
    )
    np.testing.assert_allclose(found["p_bad"].to_numpy(), separate["p_bad"].to_numpy(), rtol=1e-5)
    assert found.drop_columns("p_bad").equals(separate.drop_columns("p_bad"))


def test_p_bad_is_the_probability_of_the_first_choice(folders: tuple[Path, Path]) -> None:
    first, second = _answers(folders, [[24], [23]]), _answers(folders, [[23], [24]])
    sums = np.array(first["p_bad"].to_pylist()) + np.array(second["p_bad"].to_pylist())
    np.testing.assert_allclose(sums, 1.0, rtol=1e-6)


@pytest.mark.parametrize("choices", [[[24]], [[24], [24]], [[24], []]])
def test_unusable_choices_are_rejected(folders: tuple[Path, Path], choices: list[list[int]]) -> None:
    with pytest.raises(ConfigError, match="two or more different"):
        _answers(folders, choices)


def test_an_empty_prompt_is_rejected_by_name(folders: tuple[Path, Path]) -> None:
    with pytest.raises(DataError, match="first empty-1"):
        answer_prompts(
            load_adapted(*folders).get_base_model(),
            ["empty-1"],
            [np.array([], np.int32)],
            [[24], [23]],
            batch_tokens=10,
        )
