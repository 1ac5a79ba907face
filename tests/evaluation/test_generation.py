from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from tests.support.tiny_models import make_base, make_samples
from zigong.evaluation.generation import generated_texts, parsed_choice
from zigong.training.base import load_model

PROMPTS = make_samples(12).input_ids


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[PreTrainedModel, Tokenizer]:
    folder: Path = make_base(tmp_path_factory.mktemp("generation") / "base")
    return load_model(folder), Tokenizer.from_file(str(folder / "tokenizer.json"))


def one_by_one(model: PreTrainedModel, prompt: list[int], most: int) -> list[int]:
    """Greedy tokens, each from a new pass over the whole text so far."""
    tokens: list[int] = []
    for _ in range(most):
        logits = model(input_ids=torch.tensor([[*prompt, *tokens]])).logits
        tokens.append(int(logits[0, -1].argmax()))
        if tokens[-1] == model.config.eos_token_id:
            return tokens[:-1]
    return tokens


@pytest.mark.parametrize("batch_tokens", [1, 150, 10_000])
def test_texts_are_the_greedy_ones_whatever_the_batches(
    loaded: tuple[PreTrainedModel, Tokenizer], batch_tokens: int
) -> None:
    model, tokenizer = loaded
    expected = [tokenizer.decode(one_by_one(model, prompt.tolist(), 5)) for prompt in PROMPTS]
    assert generated_texts(model, tokenizer, PROMPTS, most_tokens=5, batch_tokens=batch_tokens) == expected
    assert all(expected)


def test_the_text_ends_before_the_end_token(loaded: tuple[PreTrainedModel, Tokenizer]) -> None:
    model, tokenizer = loaded
    free = one_by_one(model, PROMPTS[3].tolist(), 6)
    before, model.config.eos_token_id = model.config.eos_token_id, free[2]
    try:
        expected = tokenizer.decode(free[: free.index(free[2])])
        assert generated_texts(model, tokenizer, PROMPTS[3:4], most_tokens=6, batch_tokens=100) == [expected]
    finally:
        model.config.eos_token_id = before


def test_a_choice_is_found_in_any_case_and_the_listed_order_decides() -> None:
    assert parsed_choice("It is BAD, not Good", ["good", "bad"]) == 0
    assert parsed_choice(" Bad", ["good", "bad"]) == 1
    assert parsed_choice("I do not know", ["yes", "no"]) == 1
    assert parsed_choice("", ["yes", "no"]) is None
