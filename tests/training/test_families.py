"""Losses, trees, answers and influence of every supported family, against Hugging Face's own forward pass."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from tests.support.families import (
    FAMILIES,
    LINES,
    ONE_TOKEN,
    QUESTION,
    SEVERAL_TOKENS,
    WORDS,
    make_family,
    their_likelihood,
    their_loss,
    theirs,
)
from tests.support.influence_oracle import naive_gradients
from tests.support.tiny_models import make_agent_settings
from tests.support.tiny_trees import samples_of
from zigong.errors import ConfigError
from zigong.evaluation.answers import answer_prompts
from zigong.evaluation.generation import generated_texts
from zigong.influence.capture import OpenAgent, open_agent
from zigong.influence.score import score_samples
from zigong.influence.target_sums import target_gradients
from zigong.instructions.encode import LineEncoder
from zigong.recipe import Influence, Lora
from zigong.tokens.batches import branch_losses, tree_batch
from zigong.tokens.losses import sample_losses
from zigong.tokens.samples import Samples, batch_of
from zigong.tokens.tree import token_tree
from zigong.training.base import load_model
from zigong.training.checkpoints import read_checkpoints
from zigong.training.trainer import train_agent

END_ID = 0  # the first end token of every family here


class Opened:
    """A base of one family as ZiGong and as Hugging Face load it, and the samples of one client in its tokens."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, make_family(name, folder)
        self.encoder = LineEncoder.of(self.folder)
        self.ours, self.theirs = load_model(self.folder), theirs(self.folder)
        self.samples = self.samples_with(ONE_TOKEN)

    def samples_with(self, choices: tuple[str, ...]) -> Samples:
        """A history that grows, with the question after each of its lines."""
        encoder = self.encoder
        prompts = [[*encoder.history(LINES[:size]), *encoder.branch([QUESTION])] for size in (1, 3, 4, 4)]
        answers = [encoder.completion(choices[number % len(choices)]) for number in range(len(prompts))]
        return samples_of("u", prompts, answers)

    def pairs(self, samples: Samples) -> list[tuple[Any, Any]]:
        return list(zip(samples.input_ids, samples.completion_ids, strict=True))


@pytest.fixture(scope="module", params=FAMILIES)
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Opened:
    torch.set_num_threads(1)
    return Opened(request.param, tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("choices", [ONE_TOKEN, SEVERAL_TOKENS], ids=["one token", "several"])
def test_losses_of_samples_and_trees_are_those_of_the_family_s_own_forward_pass(
    opened: Opened, choices: tuple[str, ...]
) -> None:
    samples = opened.samples_with(choices)
    assert (max(map(len, samples.completion_ids)) == 1) == (choices == ONE_TOKEN)
    expected = torch.stack([their_loss(opened.theirs, *pair) for pair in opened.pairs(samples)]).detach()
    separate = sample_losses(opened.ours, batch_of(samples, np.arange(len(samples)))).detach()
    tree = token_tree(samples, splits=["train"] * len(samples))
    assert len(tree) < tree.sample_tokens
    torch.testing.assert_close(separate, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(branch_losses(opened.ours, tree_batch([tree])).detach(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("owned", [False, True], ids=["samples", "trees"])
@pytest.mark.parametrize("choices", [ONE_TOKEN, SEVERAL_TOKENS], ids=["one token", "several"])
def test_answers_are_those_of_the_family_s_own_forward_pass(
    opened: Opened, choices: tuple[str, ...], owned: bool
) -> None:
    samples, tokens = opened.samples, [opened.encoder.completion(choice) for choice in choices]
    owners = samples.user_id if owned else None
    found = answer_prompts(
        opened.ours, samples.sample_id, samples.input_ids, tokens, batch_tokens=400, owners=owners
    ).to_pylist()
    for row, prompt in zip(found, samples.input_ids, strict=True):
        likelihoods = np.array([their_likelihood(opened.theirs, prompt, choice) for choice in tokens])
        greedy = int(opened.theirs(input_ids=torch.tensor(prompt)[None].long()).logits[0, -1].argmax())
        shares = np.exp(likelihoods - likelihoods.max())
        assert row["p_bad"] == pytest.approx(shares[0] / shares.sum(), rel=1e-4)
        assert row["answer"] == int(likelihoods.argmax())
        assert row["miss"] == (greedy not in {choice[0] for choice in tokens})


def _agent(opened: Opened, folder: Path) -> tuple[OpenAgent, Samples, Samples]:
    """An agent of one checkpoint, its samples, and targets observed after their labels."""
    samples = opened.samples
    later = {"sample_id": tuple(f"t{key}" for key in samples.sample_id), "observation_date": (date(2023, 9, 1),) * 4}
    targets = Samples(**{**{name: getattr(samples, name) for name in samples.__dataclass_fields__}, **later})
    settings = make_agent_settings(
        1, count_eos=True, context_length=200, lora=Lora(r=2, alpha=4, targets=("q_proj", "v_proj", "down_proj"))
    )
    train_agent(opened.folder, samples, settings, seed=1, torch_threads=1, folder=folder, data={})
    return open_agent(opened.folder, read_checkpoints(folder), torch_threads=1), samples, targets.take([0, 1])


def test_influence_is_the_product_of_the_gradients_of_the_family_s_own_forward_pass(
    opened: Opened, tmp_path: Path
) -> None:
    agent, samples, targets = _agent(opened, tmp_path / "agent")
    adapter = agent.manifest.folder / agent.manifest.checkpoints[0].adapter
    ours = torch.stack(naive_gradients(opened.folder, adapter, samples, end=END_ID))
    asked = torch.stack(naive_gradients(opened.folder, adapter, targets, end=END_ID)).mean(0)
    expected = (ours @ asked).numpy() * agent.manifest.checkpoints[0].eta
    for engine in ("samples", "trees"):
        settings = Influence.model_validate({"engine": engine, "decay": "none"})
        gradients = target_gradients(agent, targets, settings, business_timezone="UTC")
        if engine == "trees" and opened.name == "qwen2_windowed":
            with pytest.raises(
                ConfigError, match=r"forward mode supports .* found sliding windows in some of its layers"
            ):
                score_samples(agent, gradients, samples, settings)
            continue
        found = score_samples(agent, gradients, samples, settings)["score"].to_numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_free_text_ends_before_any_of_the_end_tokens(opened: Opened) -> None:
    tokenizer, prompts = opened.encoder.tokenizer, opened.samples.input_ids
    with torch.inference_mode():
        free = [_greedy(opened.theirs, prompt.tolist(), 5) for prompt in prompts]
    ends = (WORDS - 1, free[0][3])
    before, opened.ours.config.eos_token_id = opened.ours.config.eos_token_id, list(ends)
    try:
        found = generated_texts(opened.ours, tokenizer, prompts, most_tokens=5, batch_tokens=150)
    finally:
        opened.ours.config.eos_token_id = before
    cut = [next((tokens[:place] for place, token in enumerate(tokens) if token in ends), tokens) for tokens in free]
    assert len(cut[0]) <= 3
    assert found == [tokenizer.decode(tokens) for tokens in cut]


def _greedy(model: PreTrainedModel, prompt: list[int], most: int) -> list[int]:
    """Greedy tokens, each from a new pass over the whole text so far."""
    tokens: list[int] = []
    for _ in range(most):
        tokens.append(int(model(input_ids=torch.tensor([[*prompt, *tokens]])).logits[0, -1].argmax()))
    return tokens
