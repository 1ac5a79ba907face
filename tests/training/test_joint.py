"""A joint training: adapter and tower together, under the cross-entropy of their common log-odds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from tests.support.tiny_models import LORA, make_base, make_samples
from tests.support.tiny_trees import make_decoder, ragged_user
from zigong.errors import DataError
from zigong.evaluation.answers import answer_prompts, states_of
from zigong.recipe import FinalTraining, JointTraining
from zigong.tokens.answer_head import AnswerHead
from zigong.tokens.batches import branch_losses, tree_batch
from zigong.tokens.losses import sample_losses
from zigong.tokens.samples import Samples, batch_of
from zigong.tokens.soft_answers import SoftAnswers
from zigong.tokens.tree import token_tree
from zigong.training.adapters import WEIGHTS, load_adapted
from zigong.training.tower import TOWER, Tower, TowerTraining, load_tower
from zigong.training.trainer import train_adapter

BAD, GOOD = 24, 23  # first tokens of the answers of make_samples
SETTINGS = JointTraining(width=4, dropout=0.0, rate=5.0, weight_decay=0.0)
SIZES = (3, 5)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


def one_token_samples(size: int) -> Samples:
    """Samples whose answers are one token each, as those of a question with a joint head are."""
    samples = make_samples(size)
    return replace(samples, completion_ids=tuple(ids[:1] for ids in samples.completion_ids))


def training_of(samples: Samples, *, settings: JointTraining = SETTINGS) -> TowerTraining:
    """Inputs of noise in the first column, and of the label in the second."""
    noise = np.random.default_rng(1).integers(0, 3, (len(samples), 2))
    noise[:, 1] = samples.label + 1
    return TowerTraining(
        settings=settings,
        rows={key: row for row, key in enumerate(samples.sample_id)},
        inputs=noise,
        sizes=SIZES,
        choices=(BAD, GOOD),
        columns={"made": ["a", "b"]},
    )


def settings_of(**changes: object) -> FinalTraining:
    common = {"batch_size": 8, "warmup_steps": 1, "context_length": 64, "learning_rate": 0.01, "lora": LORA}
    return FinalTraining.model_validate({**common, **changes})


def random_tower(hidden_size: int, *, seed: int = 5) -> Tower:
    """A tower whose output is not 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tower = Tower(hidden_size, SIZES, SETTINGS)
        torch.nn.init.normal_(tower.output.weight)
        return tower


def test_the_head_moves_the_odds_of_the_two_answers_and_nothing_else() -> None:
    logits = torch.tensor([[0.5, -1.0, 2.0, 0.1], [1.0, 1.0, 1.0, 1.0], [3.0, 0.0, 0.2, 0.3]], dtype=torch.float64)
    added = torch.tensor([0.7], dtype=torch.float64)
    head = AnswerHead(
        tower=lambda hidden, inputs: added * hidden[:, 0] * inputs[:, 0],
        inputs=np.array([[2], [9]]),
        asked=np.array([True, False]),
        bad=1,
        good=3,
    )
    found = head.answered(logits, torch.ones(3, 2, dtype=torch.float64), torch.tensor([0, 0, 1]))
    assert torch.equal(found[1:], logits[1:])  # the second token of an answer, and a sample that is not asked
    assert torch.equal(found[0, [0, 2]], logits[0, [0, 2]])
    assert float(found[0, 1] - found[0, 3]) == pytest.approx(-1.0 - 0.1 + 2 * 0.7)
    assert float(torch.logsumexp(found[0], 0)) == pytest.approx(float(torch.logsumexp(logits[0], 0)))


def test_the_loss_is_the_binary_cross_entropy_of_the_sum_and_that_of_one_of_the_two_following() -> None:
    logits, added = torch.tensor([[0.5, -1.0, 2.0, 0.1]]), torch.tensor([0.7])
    head = AnswerHead(
        tower=lambda *_: added, inputs=np.zeros((1, 1), dtype=np.int64), asked=np.array([True]), bad=1, good=3
    )
    answered = head.answered(logits, torch.zeros(1, 2), torch.tensor([0]))
    odds, either = logits[:, 1] - logits[:, 3] + added, torch.logaddexp(logits[:, 1], logits[:, 3])
    of_either = torch.logsumexp(logits, 1) - either
    for target, label in ((1, 1.0), (3, 0.0)):
        expected = binary_cross_entropy_with_logits(odds, torch.tensor([label])) + of_either
        assert float(-answered.log_softmax(-1)[0, target]) == pytest.approx(float(expected), rel=1e-6)
    soft = SoftAnswers(p_bad=np.array([0.3]), place=0, bad=1, good=3, weight=np.array([0.6]))
    hard = -answered.log_softmax(-1)[:, 3]
    expected = of_either - 0.18 * logsigmoid(odds) - 0.82 * logsigmoid(-odds)
    assert float(soft.mixed(hard, answered, torch.tensor([0]))) == pytest.approx(float(expected), rel=1e-6)


def test_both_engines_give_equal_losses_and_gradients() -> None:
    model, _ = make_decoder()
    user = ragged_user("u", seed=3)
    tower = random_tower(model.config.hidden_size).double()
    head = AnswerHead(
        tower=tower,
        inputs=np.random.default_rng(2).integers(0, 3, (len(user), 2)),
        asked=np.arange(len(user)) % 3 > 0,
        bad=1,
        good=2,
    )
    single = sample_losses(model, batch_of(user, np.arange(len(user))), head=head)
    tree = branch_losses(model, tree_batch([token_tree(user, splits=["train"] * len(user))]), head=head)
    torch.testing.assert_close(tree, single, rtol=1e-5, atol=1e-6)
    alone = sample_losses(model, batch_of(user, np.arange(len(user))))
    assert torch.equal(single[~torch.from_numpy(head.asked)], alone[~torch.from_numpy(head.asked)])
    parameters = list(tower.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(tree.sum(), parameters), torch.autograd.grad(single.sum(), parameters), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_the_gradient_reaches_the_adapter_through_the_state_and_every_part_of_the_tower() -> None:
    samples = one_token_samples(8)
    tower, training = random_tower(32), training_of(samples)
    hidden = torch.randn(8, 32, generator=torch.Generator().manual_seed(0), requires_grad=True)
    head = training.head(tower, samples)
    logits = torch.zeros(8, 30)
    loss: Tensor = -head.answered(logits, hidden, torch.arange(8)).log_softmax(-1)[:, BAD].sum()
    gradients = torch.autograd.grad(loss, [hidden, *tower.parameters()])
    assert all(float(gradient.abs().sum()) > 0 for gradient in gradients)


@pytest.mark.parametrize("engine", ["samples", "trees"])
def test_adapter_and_tower_are_trained_together(base: Path, tmp_path: Path, engine: str) -> None:
    samples, settings = one_token_samples(48), settings_of(engine=engine, epochs=6)
    manifests = {
        name: train_adapter(base, samples, settings, seed=3, torch_threads=1, folder=tmp_path / name, joint=tower)
        for name, tower in (("alone", None), ("joint", training_of(samples)))
    }
    alone, joint = manifests["alone"], manifests["joint"]
    assert joint.final_loss < alone.final_loss - 0.3
    tower, columns = load_tower(tmp_path / "joint")
    assert columns == {"made": ["a", "b"]}
    assert float(tower.output.weight.abs().sum()) > 0
    with_tower, without = (load_file(tmp_path / name / WEIGHTS) for name in ("joint", "alone"))
    assert any(not torch.allclose(with_tower[name], without[name]) for name in without)
    adapted = load_adapted(base, tmp_path / "joint").get_base_model()
    answers = answer_prompts(
        adapted,
        samples.sample_id,
        samples.input_ids,
        [[BAD], [GOOD]],
        batch_tokens=200,
        owners=samples.user_id if engine == "trees" else None,
        states=True,
    )
    states = states_of(answers)
    assert states is not None
    p_bad = np.asarray(answers["p_bad"])
    added = tower(torch.from_numpy(states), torch.from_numpy(training_of(samples).inputs)).numpy()
    odds = np.log(p_bad / (1 - p_bad)) + added
    assert (odds > 0).tolist() == (samples.label == 1).tolist()


def test_a_tower_that_cannot_learn_leaves_the_adapter_as_it_is_without_one(base: Path, tmp_path: Path) -> None:
    samples, settings = one_token_samples(16), settings_of(epochs=2)
    frozen = training_of(samples, settings=JointTraining(width=4, dropout=0.0, rate=1e-30))
    for name, joint in (("alone", None), ("joint", frozen)):
        train_adapter(base, samples, settings, seed=3, torch_threads=1, folder=tmp_path / name, joint=joint)
    ours, theirs = (load_file(tmp_path / name / WEIGHTS) for name in ("joint", "alone"))
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-5)


def test_a_stored_tower_answers_as_the_trained_one(base: Path, tmp_path: Path) -> None:
    samples = one_token_samples(12)
    training = training_of(samples)
    for name in ("once", "twice"):
        train_adapter(base, samples, settings_of(), seed=3, torch_threads=1, folder=tmp_path / name, joint=training)
    first, second = (load_file(tmp_path / name / TOWER) for name in ("once", "twice"))
    assert first.keys() == second.keys() == training.new_tower(32, seed=3).state_dict().keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    tower, _ = load_tower(tmp_path / "once")
    hidden, inputs = torch.randn(12, 32, generator=torch.Generator().manual_seed(0)), torch.from_numpy(training.inputs)
    again = Tower(32, SIZES, SETTINGS).eval()
    again.load_state_dict(first)
    torch.testing.assert_close(tower(hidden, inputs), again(hidden, inputs), rtol=0, atol=1e-6)
    assert float(tower(hidden, inputs).abs().max()) > 0


def test_samples_without_features_or_with_another_answer_are_refused() -> None:
    samples = make_samples(6)
    tower = random_tower(32)
    with pytest.raises(DataError, match="found none"):
        replace(training_of(samples), rows={}).head(tower, samples)
    with pytest.raises(DataError, match=f"found sample {samples.sample_id[0]} answered by"):
        replace(training_of(samples), choices=(1, 2)).head(tower, samples)
