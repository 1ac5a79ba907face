"""A tiny base model and ragged samples for the tests of the torch packages."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np

from zigong.recipe import AgentTraining, Lora, TinyBase
from zigong.tokens.samples import Samples
from zigong.training.base import train_base
from zigong.training.tokenizer import train_tokenizer

WORDS = [f"w{number:02d}" for number in range(20)]
CHOICES = ("bad", "good")
QUESTION = "Will the client be late ?"
TINY = TinyBase(hidden_size=32, layers=2, heads=2, ffn_size=48, context_length=64, epochs=1, batch_tokens=512)
LORA = Lora(r=3, alpha=6, targets=("q_proj", "k_proj", "v_proj", "down_proj"))


def make_base(folder: Path, *, seed: int = 1, tiny: TinyBase = TINY) -> Path:
    """Trains a tiny base on random walks over the words; its answers have random output rows, so no score saturates."""
    tokenizer = train_tokenizer([" ".join(WORDS)], [QUESTION, *CHOICES])
    generator = np.random.default_rng(seed)
    timelines = [
        (3 + np.cumsum(generator.integers(0, 3, size)) % 20).tolist() for size in generator.integers(2, 90, 40)
    ]
    train_base(timelines, tokenizer, tiny, seed=seed, torch_threads=1, folder=folder)
    return folder


def make_agent_settings(checkpoints: int, **changes: object) -> AgentTraining:
    """Settings with a learning rate that moves B far from zero in a few steps."""
    settings = {"learning_rate": 0.02, "warmup_steps": 2, "batch_size": 4, "context_length": 64, "lora": LORA}
    return AgentTraining.model_validate({**settings, "checkpoints": checkpoints, **changes})


def make_samples(
    size: int,
    *,
    seed: int = 0,
    dates: tuple[date, ...] = (date(2023, 1, 1),),
    window_months: int = 3,
    prefix: str = "s",
) -> Samples:
    """Ragged samples; the first has a prompt of one token. The label depends on the last prompt token."""
    generator = np.random.default_rng(seed)
    prompts = [generator.integers(3, 23, length).astype(np.int32) for length in generator.integers(2, 40, size)]
    prompts[0] = prompts[0][:1]
    labels = np.array([int(prompt[-1] % 2) for prompt in prompts])
    observed = [dates[index % len(dates)] for index in range(size)]
    return Samples(
        sample_id=tuple(f"{prefix}{index:03d}" for index in range(size)),
        user_id=tuple(f"u{index % 7}" for index in range(size)),
        observation_date=tuple(observed),
        matured_at=tuple(_months_later(day, window_months) for day in observed),
        label=labels,
        input_ids=tuple(prompts),
        completion_ids=tuple(
            np.array([23 + label, *generator.integers(3, 23, index % 3)], dtype=np.int32)
            for index, label in enumerate(labels)
        ),
    )


def _months_later(day: date, months: int) -> datetime:
    month = day.year * 12 + day.month - 1 + months
    return datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC)
