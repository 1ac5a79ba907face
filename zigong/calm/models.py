"""Language models of the benchmark: the tiny base or a named one, tuned on the training prompts of tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from zigong.calm.answers import Answers
from zigong.calm.prepared import Prepared
from zigong.calm.prompts import ANSWER, EXAMPLE, TEXT
from zigong.calm.records import Record
from zigong.evaluation.answers import answer_prompts
from zigong.evaluation.generation import generated_texts
from zigong.instructions.encode import LineEncoder
from zigong.recipe import FinalTraining, Lora, TinyBase
from zigong.tokens.samples import Samples, TokenIds, sample_lengths
from zigong.training.adapters import load_merged
from zigong.training.base import train_base
from zigong.training.optimise import Progress
from zigong.training.tokenizer import train_tokenizer
from zigong.training.trainer import train_adapter

TINY = TinyBase(hidden_size=64, layers=2, heads=4, ffn_size=192, epochs=10, batch_tokens=2048)
_ALL_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
TINY_TRAINING = FinalTraining(
    lora=Lora(r=16, alpha=32, dropout=0.1, targets=_ALL_LAYERS),
    epochs=16,
    learning_rate=1e-3,
    batch_size=32,
    weight_decay=0.1,
    count_eos=True,
)
NAMED_TRAINING = FinalTraining(epochs=3, learning_rate=3e-4, batch_size=8, accumulation=4, count_eos=True)
MOST_GENERATED, BATCH_TOKENS = 8, 8192
_DAY, _MOMENT = date(2023, 10, 1), datetime(2023, 10, 1, tzinfo=UTC)  # the records have no dates


@dataclass(frozen=True, kw_only=True)
class TunedModel:
    """The folders of a base and of the adapter that was trained on it."""

    base: Path
    adapter: Path


def encoded(encoder: LineEncoder, prompt: str) -> TokenIds:
    """Token ids of a prompt."""
    *lines, last = prompt.split("\n")
    return np.array([*encoder.history(lines), *encoder.branch([last])], dtype=np.int32)


def tuned(
    tasks: Sequence[Prepared],
    base: Path | None,
    *,
    seed: int,
    torch_threads: int,
    folder: Path,
    progress: Progress | None = None,
) -> TunedModel:
    """Trains one model on the training records of all ``tasks``.

    Args:
        tasks: tasks whose prompts are shown in random order.
        base: folder of a model in Hugging Face format; None: a tiny base is pre-trained on the training prompts.
        seed: seed of base, adapter and order.
        torch_threads: threads of one operation.
        folder: folder of the trained parts.
        progress: called with step, steps and loss of the tuning.

    Raises:
        ConfigError: the named base is not usable.
    """
    place = folder / "base" if base is None else base
    if base is None:
        _pretrain(tasks, seed=seed, torch_threads=torch_threads, folder=place)
    samples = training_samples(tasks, LineEncoder.of(place))
    settings = TINY_TRAINING if base is None else NAMED_TRAINING
    longest = int(sample_lengths(samples).max()) + 1  # the end token
    train_adapter(
        place,
        samples,
        settings.model_copy(update={"context_length": longest}),
        seed=seed,
        torch_threads=torch_threads,
        folder=folder / "adapter",
        progress=progress,
    )
    return TunedModel(base=place, adapter=folder / "adapter")


def training_samples(tasks: Sequence[Prepared], encoder: LineEncoder) -> Samples:
    """The training records of all tasks as samples."""
    rows = [(prepared, record) for prepared in tasks for record in prepared.train]
    names = [f"{prepared.task.name}-{number:06d}" for number, (prepared, _) in enumerate(rows)]
    return Samples(
        sample_id=tuple(names),
        user_id=tuple(names),
        observation_date=(_DAY,) * len(rows),
        matured_at=(_MOMENT,) * len(rows),
        label=np.array([record.truth == prepared.task.bad for prepared, record in rows], dtype=np.int64),
        input_ids=tuple(encoded(encoder, prepared.form.prompt(record.values)) for prepared, record in rows),
        completion_ids=tuple(np.array(encoder.completion(record.truth), dtype=np.int32) for _, record in rows),
    )


def answers_of(model: TunedModel, prepared: Prepared, records: Sequence[Record]) -> dict[str, Answers]:
    """Answers by the likeliest choice (``choices``, with probabilities) and by free generation (``generated``)."""
    encoder, choices = LineEncoder.of(model.base), prepared.task.bad_first
    loaded = load_merged(model.base, model.adapter)
    prompts = [encoded(encoder, prepared.form.prompt(record.values)) for record in records]
    found = answer_prompts(
        loaded,
        [str(record.row) for record in records],
        prompts,
        [encoder.completion(choice) for choice in choices],
        batch_tokens=BATCH_TOKENS,
    )
    truth = tuple(record.truth for record in records)
    texts = generated_texts(
        loaded,
        Tokenizer.from_file(str(model.base / "tokenizer.json")),
        prompts,
        most_tokens=MOST_GENERATED,
        batch_tokens=BATCH_TOKENS,
    )
    likeliest = tuple(choices[index] for index in found["answer"].to_pylist())
    return {
        "choices": Answers(truth=truth, logit=likeliest, p_bad=tuple(found["p_bad"].to_pylist())),
        "generated": Answers(truth=truth, logit=tuple(texts)),
    }


def _pretrain(tasks: Sequence[Prepared], *, seed: int, torch_threads: int, folder: Path) -> None:
    """Pre-trains a tiny base on the training prompts without their answers: the choices alternate after them.

    Every constant line and every field of a training record is one token; a value that occurs only in other splits
    is read word by word.
    """
    prompts = [
        (prepared, prepared.form.prompt(values))
        for prepared in tasks
        for values in sorted({record.values for record in prepared.train})
    ]
    lines = sorted({line for _, prompt in prompts for line in prompt.split("\n")})
    choices = sorted({tuple(prepared.task.choices) for prepared in tasks})
    fixed = {TEXT, EXAMPLE, ANSWER, *(choice for group in choices for choice in group)}
    fixed |= {line.removeprefix(f"{TEXT} ") for line in lines if not line.startswith(f"{ANSWER} ")}
    tokenizer = train_tokenizer(lines, sorted(fixed))
    encoder = LineEncoder(tokenizer.backend_tokenizer)
    timelines = [
        [*encoded(encoder, prompt), *encoder.completion(prepared.task.choices[number % 2])]
        for number, (prepared, prompt) in enumerate(prompts)
    ]
    train_base(
        timelines,
        tokenizer,
        TINY.model_copy(update={"context_length": max(map(len, timelines)) + MOST_GENERATED}),
        answers=[[token for choice in group for token in encoder.completion(choice)] for group in choices],
        seed=seed,
        torch_threads=torch_threads,
        folder=folder,
    )
