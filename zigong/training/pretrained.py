"""Pretrained bases: where one lies, whether its family is supported, and what a recipe may ask of it.

Everything that refuses a base by name is here, and needs no weights: it is checked before a step spends time.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import AutoConfig, PretrainedConfig

from zigong.errors import ConfigError
from zigong.recipe import Recipe
from zigong.recipe.base import Base
from zigong.training.folders import read_json, refuse_pickles, required

# The families whose losses, answers, influence and trees are tested against Hugging Face's own forward pass.
FAMILIES = {
    "llama": "Llama 2 and 3, SmolLM2",
    "mistral": "Mistral v0.1 and v0.3",
    "qwen2": "Qwen 2 and 2.5",
    "qwen3": "Qwen 3",
}
# What others do to their logits after the output layer, which losses and answers here would leave out.
REFUSED = {
    "granite": "it divides its logits (logits_scaling)",
    "cohere": "it multiplies its logits (logit_scale)",
    "gemma": "it soft-caps or scales its logits and states, and alternates sliding windows",
}
ROTARY_TYPES = ("default", "linear", "llama3", "yarn")  # types whose angles do not depend on the length of the batch
CONFIG, TOKENIZER = "config.json", "tokenizer.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")


def require_usable(recipe: Recipe) -> Path | None:
    """The folder of ``base.path`` of a recipe, after every check that needs no weights; None if it names none.

    The header of a GGUF file is checked in the same way.

    Raises:
        ConfigError: the base is not on this machine, lacks files, is of another family, has fewer positions than a
            ``context_length`` of the recipe, or its tokenizer has more tokens than its embeddings.
    """
    if recipe.base.gguf is not None:
        from zigong.training.gguf_files import open_gguf

        _require_contexts(recipe, open_gguf(gguf_file(recipe.base)))
        return None
    if recipe.base.path is None:
        return None
    folder = located(recipe.base)
    weight_files(folder)
    config = open_config(folder)
    _require_contexts(recipe, config)
    require_tokens(folder, config)
    return folder


def _require_contexts(recipe: Recipe, config: PretrainedConfig) -> None:
    for section in ("agent", "finetune"):
        require_context(config, getattr(recipe, section).context_length, name=f"{section}.context_length")
    if recipe.base.continued is not None:
        require_context(config, recipe.base.continued.context_length, name="base.continued.context_length")


def gguf_file(base: Base) -> Path:
    """The path of ``base.gguf``."""
    return Path(str(base.gguf)).expanduser().resolve()


def located(base: Base) -> Path:
    """The folder of ``base.path``: a folder, or a model of the hub in the local cache. Nothing is downloaded.

    Raises:
        ConfigError: it is neither.
    """
    name = str(base.path)
    folder = Path(name).expanduser().resolve()
    if folder.is_dir():
        return folder
    if not HUB_ID.fullmatch(name):
        raise ConfigError(f"base.path {name} is not a folder", action="name a model folder in Hugging Face format")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=base.revision, local_files_only=True))
    except LocalEntryNotFoundError as error:
        revision = f" --revision {base.revision}" if base.revision else ""
        raise ConfigError(
            f"base.path {name} is neither a folder nor a model in the local cache of the Hugging Face hub",
            action=f"run `hf download {name}{revision} --include '*.json' 'model*.safetensors'`; jobs download nothing",
        ) from error


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The files that Hugging Face loads the weights of a folder from.

    Raises:
        ConfigError: the folder has no safetensors weights, lacks a file of its index, or has pickled weights.
    """
    refuse_pickles(folder)
    index = folder / INDEX
    if (folder / WEIGHTS).is_file():
        return (folder / WEIGHTS,)
    if not index.is_file():
        raise ConfigError(f"{folder} holds no *.safetensors weights", action="give base.path a Hugging Face folder")
    files = tuple(folder / name for name in sorted(set(required(read_json(index), "weight_map", where=INDEX).values())))
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise ConfigError(f"{folder} lacks {', '.join(missing)}", action=f"fetch every file that {INDEX} names")
    return files


def open_config(folder: Path) -> PretrainedConfig:
    """The configuration of a base of a supported family.

    Raises:
        ConfigError: it is missing, of another family, or has a setting that is not supported.
    """
    family = required(read_json(folder / CONFIG), "model_type", where=str(folder / CONFIG))
    if family not in FAMILIES:
        why = next((why for name, why in REFUSED.items() if family.startswith(name)), "it is not tested here")
        raise ConfigError(
            f"{folder} is of the family {family}, which is not supported: {why}",
            action=f"name a base of one of {', '.join(FAMILIES)} ({'; '.join(FAMILIES.values())})",
        )
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    _require_supported_settings(folder, config)
    return config


def _require_supported_settings(folder: Path, config: PretrainedConfig) -> None:
    rotary = config.rope_parameters["rope_type"]
    if rotary not in ROTARY_TYPES:
        raise ConfigError(
            f"{folder} has rotary positions of type {rotary}, whose angles depend on the longest sample of a batch",
            action=f"name a base with rotary positions of type {', '.join(ROTARY_TYPES)}",
        )
    if getattr(config, "quantization_config", None) is not None:
        raise ConfigError(
            f"{folder} holds quantised weights, which cannot be trained or differentiated here",
            action="name the folder of the same model in bf16 or fp32, or its file as base.gguf",
        )


def require_context(config: PretrainedConfig, tokens: int, *, name: str) -> None:
    """Checks a number of tokens against the positions that a base knows.

    Args:
        config: configuration of the base.
        tokens: largest number of tokens of a sample.
        name: the recipe's key of it.

    Raises:
        ConfigError: there are fewer positions.
    """
    known = int(config.max_position_embeddings)
    if tokens > known:
        raise ConfigError(
            f"{name} is {tokens}, but the base knows {known} positions (max_position_embeddings)",
            action=f"set {name} to {known} or less, so that older months are folded, or name another base",
        )


def require_tokens(folder: Path, config: PretrainedConfig) -> None:
    """Checks that every token of a folder's tokenizer has an embedding.

    Raises:
        ConfigError: there is no fast tokenizer, or it has more tokens.
    """
    file = folder / TOKENIZER
    if not file.is_file():
        raise ConfigError(f"{file} does not exist", action="give base.path a folder with a fast tokenizer")
    last = max(Tokenizer.from_file(str(file)).get_vocab(with_added_tokens=True).values())
    if last >= config.vocab_size:
        raise ConfigError(
            f"{file} has a token of id {last}, but the base has {config.vocab_size} embeddings",
            action="use the tokenizer that the base was trained with",
        )


def end_ids(config: PretrainedConfig) -> tuple[int, ...]:
    """The ids of the tokens that end a text, the one that training appends first; empty if a base has none."""
    ends: Any = config.eos_token_id
    if ends is None:
        return ()
    return tuple(int(end) for end in ends) if isinstance(ends, list | tuple) else (int(ends),)
