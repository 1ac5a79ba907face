"""What a plan says a training costs, held against what torch keeps in memory and against arithmetic by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from tests.support.finished import TINY
from zigong.cli.estimate import Lengths, estimate_run
from zigong.errors import ConfigError
from zigong.recipe import FinalTraining, Lora, load_recipe
from zigong.training.adapters import with_adapter
from zigong.training.hardware import PEAKS, Device, device_named
from zigong.training.model_size import ModelSize, model_size
from zigong.training.pass_costs import BYTES, GIB, TRAINED_BYTES, training_flop, training_memory_gib
from zigong.training.probe import probed_device

SIZE = ModelSize(parameters=0, layers=6, width=128, ffn=352, words=500, of_layers=6 * (4 * 128**2 + 3 * 128 * 352))
EVERY_LAYER = Lora(targets=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"))
RECIPES = Path(__file__).parents[2] / "recipes"


def llama() -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=SIZE.words,
        hidden_size=SIZE.width,
        intermediate_size=SIZE.ffn,
        num_hidden_layers=SIZE.layers,
        num_attention_heads=4,
        num_key_value_heads=4,
    )
    return LlamaForCausalLM(config)


def kept_bytes(lora: Lora | None, *, batch: int, tokens: int, repeated: bool) -> int:
    """Bytes that torch keeps for the backward pass of a batch, without the weights."""
    model = llama()
    if lora is not None:
        with_adapter(model, lora, seed=1)
    if repeated:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    weights = {item.untyped_storage().data_ptr() for item in model.parameters()}
    kept = dict[int, int]()

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.model(torch.ones(batch, tokens, dtype=torch.long)).last_hidden_state.sum()
    return sum(kept.values())


@pytest.mark.parametrize("lora", [None, EVERY_LAYER], ids=["all", "adapter"])
def test_memory_is_that_of_what_torch_keeps(lora: Lora | None) -> None:
    settings = FinalTraining(lora=lora, batch_size=8, next_event_weight=0)
    model = llama()
    size = ModelSize(**{**SIZE.__dict__, "parameters": sum(item.numel() for item in model.parameters())})
    frozen = 0 if lora is None else size.parameters * BYTES["fp32"]
    trained = (
        size.parameters
        if lora is None
        else sum(item.numel() for item in with_adapter(model, lora, seed=1).parameters() if item.requires_grad)
    )
    found = training_memory_gib(size, settings, 200) * GIB
    measured = frozen + trained * TRAINED_BYTES + kept_bytes(lora, batch=8, tokens=200, repeated=False)
    assert found == pytest.approx(measured, rel=0.3)


def test_checkpointing_keeps_the_states_between_layers_and_one_layer() -> None:
    wide = ModelSize(**{**SIZE.__dict__, "layers": 60})
    once, again = (
        training_memory_gib(wide, FinalTraining(batch_size=8, gradient_checkpointing=repeated), 200)
        for repeated in (False, True)
    )
    assert kept_bytes(EVERY_LAYER, batch=8, tokens=200, repeated=True) == pytest.approx(
        8 * 200 * SIZE.layers * SIZE.width * 4, rel=0.3
    )
    assert again < 0.2 * once


def test_flop_are_those_of_the_matrices() -> None:
    of_layers, attention = SIZE.of_layers * 100, 2 * 100 * 100 * SIZE.width * SIZE.layers
    assert training_flop(SIZE, 100, all_weights=True, repeated=False) == 6 * of_layers + 3 * attention
    assert training_flop(SIZE, 100, all_weights=False, repeated=True) == 6 * of_layers + 4 * attention
    model, ids = llama(), torch.ones(1, 100, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model.model(ids).last_hidden_state.sum().backward()
    whole = training_flop(SIZE, 100, all_weights=True, repeated=False) + 3 * attention  # torch counts the full square
    assert counter.get_total_flops() == pytest.approx(whole, rel=0.05)


def test_a_training_that_does_not_fit_is_refused() -> None:
    recipe = load_recipe(RECIPES / "mistral_7b.yaml")
    estimate_run(recipe, device_named("a100-80gb")).require_fit()
    with pytest.raises(ConfigError, match=r"needs \d+\.\d GiB .* l4 has 22"):
        estimate_run(recipe, device_named("l4")).require_fit()
    fewer = load_recipe(RECIPES / "mistral_7b.yaml", ["engine.training_workers=8"])
    one, eight = (estimate_run(item, device_named("h200")).seconds["train agent"] for item in (recipe, fewer))
    assert (one - 10) / (eight - 10) == pytest.approx(8)


def test_lengths_of_a_run_replace_the_bounds() -> None:
    recipe = load_recipe(RECIPES / "credit_record.yaml")
    device = device_named("cpu")
    bound = estimate_run(recipe, device)
    found = estimate_run(recipe, device, Lengths(samples=1000, tokens=100, in_trees=20))
    size = model_size(recipe)
    assert size is not None
    flop = 0.4 * 1000 * 2 * training_flop(size, 100, all_weights=False, repeated=False)  # two periods, trees of 20
    assert found.seconds["train agent"] == pytest.approx(10 + flop / 2 / device.flop_per_second)
    assert found.seconds["fine-tune"] < bound.seconds["fine-tune"]
    of_sample = training_flop(size, 100, all_weights=False, repeated=False) / device.flop_per_second
    assert found.seconds["score influence"] == pytest.approx(10 + 2 * (0.2 * 1000 + 1000) * of_sample)
    known = estimate_run(recipe, device, Lengths(samples=1000, tokens=100, in_trees=20, targets=50))
    assert known.seconds["score influence"] == pytest.approx(10 + 2 * (0.2 * 1000 + 50) * of_sample)


def test_devices_are_named_or_measured(tmp_path: Path) -> None:
    assert {device_named(name).name for name in PEAKS} == set(PEAKS)
    found = probed_device(load_recipe(TINY), tokens=24, seconds=1)
    assert found.flop_per_second > 0
    found.write(tmp_path / "device.json")
    assert device_named(str(tmp_path / "device.json")) == found
    for text in ("[]", json.dumps({"name": "x"}), "no json"):
        (tmp_path / "device.json").write_text(text)
        with pytest.raises(ConfigError, match="is unknown"):
            device_named(str(tmp_path / "device.json"))
    with pytest.raises(ConfigError, match="one of cpu, l4"):
        device_named("tpu")
    assert isinstance(found, Device)
