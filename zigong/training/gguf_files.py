"""A GGUF file as a base: its weights, dequantised to fp32, become a folder in Hugging Face format.

Its tokenizer is the ``tokenizer.json`` beside the file: the one inside a GGUF file names its rules instead of holding
them, so that a tokenizer made from it may divide some texts otherwise.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig
from transformers.utils.logging import disable_progress_bar

from zigong.errors import ConfigError
from zigong.files.atomic import promoted_folder
from zigong.training.pretrained import TOKENIZER, open_config, require_tokens

ARCHITECTURES = ("llama", "qwen2", "qwen3")  # llama.cpp names Mistral and SmolLM2 llama, too
# What a file may state and transformers does not read: the model would compute something else without an error.
UNREAD = {
    "{}.rope.scaling.type": "scaled rotary positions",
    "{}.attention.sliding_window": "a sliding window",
    "split.count": "weights in several files",
}
FREQUENCIES = "rope_freqs.weight"


def open_gguf(file: Path) -> PretrainedConfig:
    """The configuration of the model in a GGUF file; its weights are not read.

    Raises:
        ConfigError: the file or its tokenizer is missing, or its architecture or a setting is not supported.
    """
    if not file.is_file():
        raise ConfigError(f"base.gguf {file} does not exist", action="name a GGUF file on this machine")
    try:
        reader = GGUFReader(file)
        architecture = reader.get_field("general.architecture").contents()
    except (ValueError, AttributeError) as error:
        raise ConfigError(
            f"base.gguf {file} is not a GGUF file: {error}", action="name a complete GGUF file"
        ) from error
    if architecture not in ARCHITECTURES:
        raise ConfigError(
            f"{file} is of the architecture {architecture}, which is not supported",
            action=f"name a file of one of {', '.join(ARCHITECTURES)} (llama: Llama, Mistral v0.3 and SmolLM2)",
        )
    _require_read(file, reader, architecture)
    config = AutoConfig.from_pretrained(file.parent, gguf_file=file.name, local_files_only=True)
    size = reader.get_field(f"{architecture}.attention.key_length")
    if size is not None:
        config.head_dim = int(size.contents())
    if config.model_type == "mistral":
        config.sliding_window = None  # transformers' default, not a value of the file
    require_tokens(file.parent, config)
    return config


def _require_read(file: Path, reader: Any, architecture: str) -> None:
    found = {named: reader.get_field(key.format(architecture)) for key, named in UNREAD.items()}
    unread = [named for named, field in found.items() if field is not None and field.contents() not in ("none", 0, 1)]
    if any(tensor.name == FREQUENCIES for tensor in reader.tensors):
        unread.append(f"scaled rotary positions ({FREQUENCIES})")
    if unread:
        raise ConfigError(
            f"{file} has {' and '.join(unread)}, which cannot be read from a GGUF file",
            action="name the folder of the same model in Hugging Face format as base.path",
        )


def convert_gguf(file: Path, folder: Path) -> int:
    """Writes the model of a GGUF file as a folder in Hugging Face format, in fp32, and returns its number of weights.

    Args:
        file: a GGUF file with ``tokenizer.json`` beside it.
        folder: folder of the model; written atomically.

    Raises:
        ConfigError: as in :func:`open_gguf`.
    """
    config = open_gguf(file)
    disable_progress_bar()
    read = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, config=config, dtype=torch.float32, local_files_only=True
    )
    # The same model without transformers' marks of a quantised one, which it refuses to save.
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    model.load_state_dict(read.state_dict(), assign=True)
    model.tie_weights()
    with promoted_folder(folder) as partial:
        model.save_pretrained(partial)
        shutil.copyfile(file.parent / TOKENIZER, partial / TOKENIZER)
        open_config(partial)
    return sum(parameter.numel() for parameter in model.parameters())
