"""The input of the training benchmark, generated from seeds, and the answer of a program.

Imports nothing of ours, so that the environment of the peers reads the same. The model is that of the influence
benchmark, with a fresh adapter.
"""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM

from benchmarks.scorers.inputs import LENGTHS, LINE, QUESTION, RANK, TARGETS, VOCABULARY, SampleSet

SAMPLES, BATCH, RATE = 192, 32, 1e-3
USERS, POINTS = 12, 12  # of the set "trees": a history is twice as long as a user has points
ANSWERS = (1, 2)  # tokens of the two answers


def training_set(name: str) -> SampleSet:
    """The set of a name: ragged or trees."""
    generator = np.random.default_rng(5)
    return _ragged(generator) if name == "ragged" else _timelines(generator)


def _ragged(generator: np.random.Generator) -> SampleSet:
    low, high = np.log(LENGTHS)
    lengths = np.exp(generator.uniform(low, high, SAMPLES)).astype(int)
    prompts = [_words(generator, int(length) - 1) for length in lengths]
    return SampleSet(prompts=prompts, answers=_answers(prompts), users=[f"u{index}" for index in range(SAMPLES)])


def _timelines(generator: np.random.Generator) -> SampleSet:
    prompts, users = [], []
    for user in range(USERS):
        history = _words(generator, 2 * POINTS * LINE)
        for month in range(POINTS + 1, 2 * POINTS + 1):
            prompts.append(history[: month * LINE] + _words(generator, QUESTION))
            users.append(f"u{user}")
    return SampleSet(prompts=prompts, answers=_answers(prompts), users=users)


def _answers(prompts: list[list[int]]) -> list[list[int]]:
    """An answer that the prompt's first word determines."""
    return [[ANSWERS[prompt[0] % 2]] for prompt in prompts]


def _words(generator: np.random.Generator, size: int) -> list[int]:
    words: list[int] = generator.integers(3, VOCABULARY, size).tolist()
    return words


def fresh_model(folder: Path) -> PeftModel:
    """The base with a fresh adapter."""
    torch.manual_seed(3)
    base = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32, attn_implementation="sdpa")
    return get_peft_model(base, lora())


def lora() -> LoraConfig:
    """The adapter's settings."""
    return LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=list(TARGETS), task_type="CAUSAL_LM")


def padded(samples: SampleSet, batch: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, mask and labels of a batch, padded on the right."""
    rows = [(samples.prompts[index], samples.answers[index]) for index in batch]
    longest = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids, mask, labels = (torch.full((len(rows), longest), value) for value in (0, 0, -100))
    for row, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        ids[row, :end] = torch.tensor(prompt + answer)
        mask[row, :end] = 1
        labels[row, len(prompt) : end] = torch.tensor(answer)
    return ids, mask, labels


@contextmanager
def answered() -> Iterator[dict[str, float]]:
    """Times the body, and prints the seconds with the figures that it leaves as one line of JSON on standard output."""
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print while they train
    torch.set_num_threads(1)
    figures = dict[str, float]()
    wall, cpu = time.perf_counter(), time.process_time()
    yield figures
    spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    print(
        json.dumps({**spent, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, **figures}), file=output
    )
    output.flush()
