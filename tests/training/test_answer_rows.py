from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
)

from tests.support.tiny_models import CHOICES, QUESTION, TINY, WORDS
from zigong.errors import ConfigError
from zigong.training.answer_rows import answer_range, require_attainable, separate_answer_rows
from zigong.training.base import load_model, train_base
from zigong.training.tokenizer import train_tokenizer

SMALL = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
LAYERED = {**SMALL, "intermediate_size": 32}
CONFIGS: dict[str, PretrainedConfig] = {
    "mistral": MistralConfig(**LAYERED, num_key_value_heads=2),
    "llama, tied head": LlamaConfig(**LAYERED, tie_word_embeddings=True),
    "qwen2": Qwen2Config(**LAYERED, num_key_value_heads=2),
    "gpt2, LayerNorm": GPT2Config(vocab_size=40, n_embd=32, n_layer=1, n_head=2),
}


def random_model(name: str, seed: int) -> PreTrainedModel:
    """A model of a family with random weights, including its final norm."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(CONFIGS[name]).eval()
    norm = getattr(model.base_model, "norm", None) or model.base_model.ln_f
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter, 0.5, 0.5)
    return model


def log_odds(model: PreTrainedModel, states: torch.Tensor, bad: int, good: int) -> torch.Tensor:
    """Difference of two logits for states before the final norm: [N]."""
    norm = getattr(model.base_model, "norm", None) or model.base_model.ln_f
    with torch.inference_mode():
        logits: torch.Tensor = model.get_output_embeddings()(norm(states))
    return logits[:, bad] - logits[:, good]


@pytest.mark.parametrize("name", CONFIGS)
def test_the_range_of_answers_is_attained_and_never_exceeded(name: str) -> None:
    model = random_model(name, 1)
    found = answer_range(model, [[5], [9]])
    anywhere = log_odds(model, torch.randn(2000, 32) * 5, 5, 9)
    assert found.low <= float(anywhere.min())
    assert float(anywhere.max()) <= found.high
    state = torch.randn(1, 32, requires_grad=True)
    norm = getattr(model.base_model, "norm", None) or model.base_model.ln_f
    head = model.get_output_embeddings().weight.detach()
    for sign, end in ((1, found.high), (-1, found.low)):
        climber = torch.optim.Adam([state], lr=0.2)
        for _ in range(150):
            climber.zero_grad()
            (-sign * norm(state) @ (head[5] - head[9])).sum().backward()
            climber.step()
        assert float(log_odds(model, state.detach(), 5, 9)) == pytest.approx(end, abs=0.02 * (found.high - found.low))


def test_choices_of_several_tokens_count_from_their_first_difference() -> None:
    model = random_model("mistral", 1)
    assert answer_range(model, [[3, 5, 7], [3, 9]]) == answer_range(model, [[5], [9]])


def test_the_narrowest_pair_bounds_several_choices() -> None:
    model = random_model("mistral", 1)
    pairs = [answer_range(model, [[5], [good]]) for good in (9, 11)]
    assert answer_range(model, [[5], [9], [11]]).high == min(pair.high for pair in pairs)


def test_a_choice_that_is_a_prefix_of_another_is_rejected() -> None:
    with pytest.raises(ConfigError, match="is a prefix of another choice"):
        answer_range(random_model("mistral", 1), [[5], [5, 6]])


def test_a_model_with_an_unknown_final_norm_is_rejected_by_name() -> None:
    config = OPTConfig(**SMALL, ffn_dim=32, word_embed_proj_dim=32)
    with pytest.raises(ConfigError, match="OPTForCausalLM does not end in"):
        answer_range(AutoModelForCausalLM.from_config(config), [[5], [9]])


@pytest.fixture(scope="module", params=[False, True], ids=["equal rows", "separated"])
def base(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[bool, Path, list[list[int]]]:
    """A tiny base whose timelines end in either answer equally often."""
    tokenizer = train_tokenizer([" ".join(WORDS)], [QUESTION, *CHOICES])
    question, *choices = (tokenizer.encode(line, add_special_tokens=False) for line in (QUESTION, *CHOICES))
    generator = np.random.default_rng(1)
    timelines = [[*generator.integers(3, 23, 12).tolist(), *question, *choices[number % 2]] for number in range(400)]
    tiny = TINY.model_copy(update={"epochs": 8, "learning_rate": 0.005})
    folder = tmp_path_factory.mktemp("base") / "base"
    groups = [[choice[0] for choice in choices]] if request.param else []
    train_base(timelines, tokenizer, tiny, answers=groups, seed=1, torch_threads=1, folder=folder)
    return request.param, folder, choices


@pytest.mark.parametrize("bad_rate", [0.01, 0.05, 0.3])
def test_a_tiny_base_attains_any_probability_a_scorecard_needs(
    base: tuple[bool, Path, list[list[int]]], bad_rate: float
) -> None:
    separated, folder, choices = base
    model = load_model(folder)
    if separated:
        low, high = require_attainable(model, choices, bad_rate=bad_rate).p_bad
        assert low < bad_rate / 20 < 1 - bad_rate < high
    else:
        with pytest.raises(ConfigError, match="can answer p_bad only between"):
            require_attainable(model, choices, bad_rate=bad_rate)


def test_separated_answers_stay_equally_likely_at_the_question(
    base: tuple[bool, Path, list[list[int]]],
) -> None:
    _, folder, (bad, good) = base
    model = load_model(folder)
    tokenizer = train_tokenizer([" ".join(WORDS)], [QUESTION, *CHOICES])
    question = tokenizer.encode(QUESTION, add_special_tokens=False)
    prompts = torch.tensor([[*np.random.default_rng(n).integers(3, 23, 12).tolist(), *question] for n in range(100)])
    with torch.inference_mode():
        logits = model(input_ids=prompts).logits[:, -1]
    assert float((logits[:, bad[0]] - logits[:, good[0]]).mean()) == pytest.approx(0, abs=0.5)
    assert set(logits.argmax(1).tolist()) <= {bad[0], good[0]}


def test_questions_that_share_an_answer_are_separated_together() -> None:
    model = random_model("mistral", 2)
    separate_answer_rows(model, [[5, 9], [9, 11]], torch.randn(32), seed=1)
    for bad, good in ((5, 9), (9, 11), (5, 11)):
        assert answer_range(model, [[bad], [good]]).high >= 10 - 1e-3
    assert math.isclose(min(answer_range(model, [[5], [g]]).high for g in (9, 11)), 10, abs_tol=2)
