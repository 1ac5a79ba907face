"""Measures what this machine achieves in trainings of a recipe's model, for ``zigong plan``."""

from __future__ import annotations

import platform
import time
from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from zigong.errors import ConfigError
from zigong.recipe import Recipe
from zigong.tokens.samples import Samples
from zigong.training.adapters import with_adapter
from zigong.training.devices import device_here
from zigong.training.hardware import Device, machine_memory_gib
from zigong.training.loop import run_steps
from zigong.training.model_size import ModelSize, model_size
from zigong.training.pass_costs import GIB, training_flop
from zigong.training.placement import placed
from zigong.training.plan import plan_steps, single_units
from zigong.training.team import ALONE

MOST_LAYERS = 8  # of the measured model: layers are equal, so a few of a large model give its rate
ROUNDS = 3
WORDS = 1000
HEAD_SIZE = 64


def probed_device(recipe: Recipe, *, tokens: int, seconds: float) -> Device:
    """Trains a model of the recipe's form, with random weights, on drawn samples, and measures the rate.

    Args:
        recipe: its base, and the settings of ``finetune``.
        tokens: tokens of a sample.
        seconds: time to spend, about.

    Raises:
        ConfigError: the base is not on this machine and the recipe does not say its size.
    """
    size = model_size(recipe)
    if size is None:
        raise ConfigError(
            "the size of the base is unknown", action="set base.parameters, or put the base on this machine"
        )
    measured = replace(size, layers=min(size.layers, MOST_LAYERS))
    measured = replace(measured, of_layers=size.of_layers * measured.layers // size.layers)
    batch = recipe.finetune.batch_size * recipe.finetune.accumulation
    first = _seconds(recipe, measured, samples=batch, tokens=tokens)
    count = batch * max(2, round(seconds / ROUNDS / first))
    best = min(_seconds(recipe, measured, samples=count, tokens=tokens) for _ in range(ROUNDS))
    flop = count * training_flop(
        measured,
        tokens,
        all_weights=recipe.finetune.lora is None,
        repeated=recipe.finetune.gradient_checkpointing,
    )
    form = f"{measured.layers} layers of width {size.width}, {tokens} tokens a sample, {recipe.finetune.precision}"
    return Device(
        name=_name(recipe),
        flop_per_second=flop / best,
        memory_gib=_memory_gib(),
        origin=f"measured on {datetime.now(UTC).date()}: {form}",
    )


def _seconds(recipe: Recipe, size: ModelSize, *, samples: int, tokens: int) -> float:
    """Time of one training by the trainer's own loop, without start-up."""
    model = _model(recipe, size, tokens)
    drawn = _drawn(samples, tokens)
    settings = recipe.finetune.model_copy(update={"epochs": 1, "engine": "samples"})
    units = single_units(drawn, [np.arange(samples)])
    plan = plan_steps(units, settings, seed=0)
    started = time.perf_counter()
    run_steps(
        model,
        units,
        plan,
        settings,
        seed=0,
        torch_threads=recipe.engine.torch_threads,
        progress=None,
        clip=settings.max_grad_norm,
        team=ALONE,
        snapshots=None,
    )
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    return time.perf_counter() - started


def _model(recipe: Recipe, size: ModelSize, tokens: int) -> PreTrainedModel:
    """A model of the size with random weights, of which those are trained that the recipe trains."""
    heads = max(1, size.width // HEAD_SIZE)
    config = LlamaConfig(
        vocab_size=WORDS,
        hidden_size=heads * HEAD_SIZE,
        intermediate_size=size.ffn,
        num_hidden_layers=size.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=tokens + 1,
    )
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    lora = recipe.finetune.lora
    held = model if lora is None else with_adapter(model, lora, seed=0).get_base_model()
    return placed(held, recipe.finetune, ALONE)


def _drawn(samples: int, tokens: int) -> Samples:
    draw = np.random.default_rng(0)
    return Samples(
        sample_id=tuple(f"{number:08d}" for number in range(samples)),
        user_id=tuple(f"{number:08d}" for number in range(samples)),
        observation_date=(date(2024, 1, 1),) * samples,
        matured_at=(datetime(2024, 7, 1, tzinfo=UTC),) * samples,
        label=np.zeros(samples, dtype=np.int64),
        input_ids=tuple(draw.integers(WORDS, size=(samples, tokens - 1), dtype=np.int32)),
        completion_ids=(np.array([1], dtype=np.int32),) * samples,
    )


def _name(recipe: Recipe) -> str:
    if device_here().type == "cuda":
        return str(torch.cuda.get_device_name(device_here()))
    return f"{recipe.engine.torch_threads} threads of {platform.machine()}"


def _memory_gib() -> float:
    if device_here().type == "cuda":
        return float(torch.cuda.get_device_properties(device_here()).total_memory / GIB)
    return machine_memory_gib()
