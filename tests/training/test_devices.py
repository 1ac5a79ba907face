"""Every tensor of a training, a score or an answer goes where the model is, shown on a GPU that is not there.

A fake tensor has a device and a shape, and no content; an operation over two devices raises.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from tests.support.tiny_models import make_base, make_samples
from zigong.evaluation import answers, trees
from zigong.influence.decoder import layer_weights, open_forward_mode
from zigong.influence.factorised import on_device
from zigong.influence.forward import branch_derivatives
from zigong.recipe import JointTraining
from zigong.tokens.answer_head import AnswerHead
from zigong.tokens.batches import tree_batch
from zigong.tokens.blocks import tree_blocks
from zigong.tokens.samples import Samples
from zigong.tokens.soft_answers import SoftAnswers
from zigong.tokens.tree import prompt_tree
from zigong.training.plan import Units, single_units, tree_units
from zigong.training.tower import Tower

SAMPLES = make_samples(8)
EVERY = np.arange(len(SAMPLES))
GPU = torch.device("cuda", 0)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("devices") / "base")


@pytest.fixture
def on_gpu(base: Path) -> Iterator[PreTrainedModel]:
    with FakeTensorMode(allow_non_fake_inputs=True):
        with GPU:
            model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base), attn_implementation="sdpa")
        yield model


def _of_one_user() -> Samples:
    columns = {name: getattr(SAMPLES, name) for name in SAMPLES.__dataclass_fields__}
    return Samples(**{**columns, "user_id": ("u",) * len(SAMPLES)})


def _taught(width: int) -> dict[str, object]:
    with GPU:
        tower = Tower(width, [3, 4], JointTraining())
    inputs = np.zeros((len(EVERY), 2), dtype=np.int64)
    return {
        "soft": SoftAnswers(p_bad=np.full(len(EVERY), 0.2), place=0, bad=24, good=23, weight=np.ones(len(EVERY))),
        "head": AnswerHead(tower=tower, inputs=inputs, asked=np.ones(len(EVERY), dtype=bool), bad=24, good=23),
    }


# Which prompt tokens of separate samples are predicted depends on contents, which fake tensors do not have.
@pytest.mark.parametrize(("engine", "next_event_weight"), [("samples", 0.0), ("trees", 0.0), ("trees", 0.1)])
def test_the_loss_of_a_step_is_computed_where_the_model_is(
    on_gpu: PreTrainedModel, engine: str, next_event_weight: float
) -> None:
    of = tree_units if engine == "trees" else single_units
    plain = of(_of_one_user(), [EVERY])
    columns = {name: getattr(plain, name) for name in plain.__dataclass_fields__}
    taught = {**columns, "next_event_weight": next_event_weight, **_taught(on_gpu.config.hidden_size)}
    units = Units(**taught)
    loss = units.summed_loss(on_gpu, np.arange(len(units.members)))
    assert loss.device == GPU


def test_answers_are_computed_where_the_model_is(on_gpu: PreTrainedModel) -> None:
    states, logits = answers._outputs_after(on_gpu, list(SAMPLES.input_ids), (24, 5))
    tree = prompt_tree(SAMPLES.input_ids, SAMPLES.completion_ids)
    found = trees._likelihoods(on_gpu, tree_batch([tree]).to(on_gpu.device))
    assert {item.device for item in (states, logits, *found)} == {GPU}


def test_forward_mode_over_trees_is_computed_where_the_model_is(on_gpu: PreTrainedModel) -> None:
    opened = open_forward_mode(on_gpu, [])
    blocks = tree_blocks([prompt_tree(SAMPLES.input_ids, SAMPLES.completion_ids)]).to(GPU)
    found = branch_derivatives(opened, layer_weights(opened, [on_device((), GPU)]), blocks, vectors=1)
    assert [item.device for item in found] == [GPU, GPU]


def test_a_batch_that_stays_behind_is_noticed(on_gpu: PreTrainedModel) -> None:
    with pytest.raises(RuntimeError, match="device"):
        on_gpu(input_ids=torch.zeros(1, 2, dtype=torch.int64))
