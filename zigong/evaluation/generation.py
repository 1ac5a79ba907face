"""Free generation: the text that a model continues a prompt with, by greedy decoding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from zigong.tokens.samples import TokenIds, token_budget_batches
from zigong.training.pretrained import end_ids


@torch.inference_mode()
def generated_texts(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    prompts: Sequence[TokenIds],
    *,
    most_tokens: int,
    batch_tokens: int,
) -> list[str]:
    """The text after each prompt, up to the end token or ``most_tokens`` tokens; special tokens are left out.

    Args:
        model: a causal language model in evaluation mode.
        tokenizer: its tokenizer.
        prompts: [N] token ids, at least one each.
        most_tokens: largest number of generated tokens.
        batch_tokens: padded tokens of one batch.
    """
    ends = end_ids(model.config)
    pad = 0 if model.config.pad_token_id is None else model.config.pad_token_id
    texts = [""] * len(prompts)
    for batch in token_budget_batches([len(prompt) + most_tokens for prompt in prompts], batch_tokens):
        width = max(len(prompts[index]) for index in batch)
        ids, mask = np.full((len(batch), width), pad), np.zeros((len(batch), width), dtype=np.int64)
        for row, index in enumerate(batch):  # padded on the left: generation continues at the right end
            ids[row, width - len(prompts[index]) :] = prompts[index]
            mask[row, width - len(prompts[index]) :] = 1
        found = model.generate(
            torch.from_numpy(ids).long().to(model.device),
            attention_mask=torch.from_numpy(mask).to(model.device),
            max_new_tokens=most_tokens,
            do_sample=False,
            eos_token_id=list(ends) or None,
            pad_token_id=pad,
        )
        for index, tokens in zip(batch, found[:, width:].tolist(), strict=True):
            texts[index] = tokenizer.decode(_before_end(tokens, ends), skip_special_tokens=True)
    return texts


def parsed_choice(text: str, choices: Sequence[str]) -> int | None:
    """Index of the first listed choice that the lower-cased text contains; None is a miss (CALM's rule)."""
    lowered = text.lower()
    return next((index for index, choice in enumerate(choices) if choice.lower() in lowered), None)


def _before_end(tokens: list[int], ends: Sequence[int]) -> list[int]:
    return next((tokens[:place] for place, token in enumerate(tokens) if token in ends), tokens)
