"""How the frozen weights of a base are held in a training: numbers of 4 bits, and the kernel of the attention."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from transformers import BitsAndBytesConfig
from transformers.utils import is_flash_attn_2_available

from zigong.errors import ConfigError
from zigong.recipe import Training

ATTENTION = {"sdpa": "sdpa", "flash": "flash_attention_2"}  # names in transformers


def frozen_options(settings: Training) -> dict[str, Any]:
    """Arguments of ``from_pretrained`` for the base of a training whose own weights are not trained.

    NF4 with nested scales is QLoRA's form (Dettmers et al. 2023, section 3): products are computed in the precision of
    the passes.

    Raises:
        ConfigError: a package that the settings need is not installed, or flash attention finds no GPU.
    """
    options: dict[str, Any] = {"attn_implementation": ATTENTION[settings.attention]}
    if settings.attention == "flash" and not is_flash_attn_2_available():
        raise ConfigError(
            "attention: flash needs the package flash-attn and a GPU that it supports",
            action="install flash-attn on the workers, or set attention: sdpa",
        )
    if settings.quantise is None:
        return options
    if find_spec("bitsandbytes") is None:
        raise ConfigError(
            f"quantise: {settings.quantise} needs the package bitsandbytes",
            action="install zigong[quantise] on the workers, or leave quantise out",
        )
    return options | {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=settings.quantise,
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16 if settings.precision == "bf16" else torch.float32,
        )
    }
