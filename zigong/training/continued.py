"""A named base that is trained further on the lender's event text, without labels."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from zigong.files.atomic import promoted_folder
from zigong.recipe import ContinuedBase
from zigong.tokens.samples import TokenIds
from zigong.training.base import BaseManifest, load_model, write_manifest
from zigong.training.devices import device_here
from zigong.training.optimise import Progress
from zigong.training.pretrained import TOKENIZER
from zigong.training.pretraining import pieces_of, pretrain


def continue_base(
    base_folder: Path,
    timelines: Sequence[TokenIds],
    settings: ContinuedBase,
    *,
    seed: int,
    torch_threads: int,
    folder: Path,
    progress: Progress | None = None,
) -> BaseManifest:
    """Trains all weights of a base by next-token prediction and saves them in fp32 with the base's tokenizer file.

    Args:
        base_folder: folder of the base, which stays as it is.
        timelines: token ids of each user's events; long ones are divided into pieces of ``settings.context_length``.
        settings: recipe section ``base.continued``.
        seed: seed of the order. Equal seeds and thread counts give equal weights.
        torch_threads: threads of one operation.
        folder: folder of the new base; written atomically.
        progress: called with step, steps and loss.

    Raises:
        DataError: no timeline has two tokens.
        ConfigError: the base is not usable.
    """
    pieces, started = pieces_of(timelines, settings.context_length), time.monotonic()
    torch.set_num_threads(torch_threads)
    model = load_model(base_folder).to(device_here())
    if settings.gradient_checkpointing:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    losses = pretrain(model, pieces, settings, seed=seed, progress=progress, bf16=settings.precision == "bf16")
    model.activation_checkpointing_disable()
    with promoted_folder(folder) as partial:
        model.save_pretrained(partial)
        shutil.copyfile(base_folder / TOKENIZER, partial / TOKENIZER)  # byte for byte: its digest names samples
        return write_manifest(
            partial, model, losses, started=started, seed=seed, config=settings.model_dump(mode="json")
        )
