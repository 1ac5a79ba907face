"""The size of a recipe's model, from its settings or its configuration, for ``zigong plan``."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zigong.errors import ConfigError
from zigong.recipe import Lora, Recipe, TinyBase

VOCABULARY = 4096  # most different words of the event lines that the bound of a tiny base allows for
USUAL_LAYERS = 32  # of a model of which only the number of weights is known; each layer has 12 width**2 of them


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """Size of a causal language model.

    Attributes:
        parameters: number of weights.
        layers: number of layers.
        width: width of the hidden states.
        ffn: width of the gated feed-forward part.
        words: rows of the embeddings.
        of_layers: weights that every token is multiplied with. Words are looked up, and logits computed at answers.
    """

    parameters: int
    layers: int
    width: int
    ffn: int
    words: int
    of_layers: int

    def adapter(self, lora: Lora | None) -> int:
        """Weights that are trained: those of an adapter, or all of them."""
        if lora is None:
            return self.parameters
        wide = sum(("gate" in name) + ("up" in name) + ("down" in name) for name in lora.targets)
        narrow = len(lora.targets) - wide
        return self.layers * lora.r * (narrow * 2 * self.width + wide * (self.width + self.ffn))


def model_size(recipe: Recipe) -> ModelSize | None:
    """The size of the base; None if it is not on this machine and the recipe does not say its parameters.

    A base that is known by its number of parameters alone gets the form of a usual model of this number.
    """
    if recipe.base.tiny is not None:
        return _of_tiny(recipe.base.tiny)
    folder, given = base_folder(recipe), recipe.base.parameters
    if folder is not None and recipe.base.gguf is None:
        from zigong.training.pretrained import weight_files

        given = given or sum(_weights_in(file) for file in weight_files(folder))
        config = folder / "config.json"
        if config.is_file():
            return _of_config(json.loads(config.read_text(encoding="utf-8")), given)
    if given is None:
        return None
    width = int(math.sqrt(given / 12 / USUAL_LAYERS))
    return ModelSize(
        parameters=given, layers=USUAL_LAYERS, width=width, ffn=8 * width // 3, words=VOCABULARY, of_layers=given
    )


def base_folder(recipe: Recipe) -> Path | None:
    """The folder of a pretrained base, or of its GGUF file; None if there is none on this machine."""
    if recipe.base.tiny is not None:
        return None
    from zigong.training.pretrained import gguf_file, located

    if recipe.base.gguf is not None:
        return gguf_file(recipe.base).parent
    try:
        return located(recipe.base)
    except ConfigError:
        return None


def _of_tiny(tiny: TinyBase) -> ModelSize:
    width = tiny.hidden_size
    of_layers = tiny.layers * (4 * width**2 + 3 * width * tiny.ffn_size)
    norms = (2 * tiny.layers + 1) * width
    return ModelSize(
        parameters=of_layers + norms + 2 * VOCABULARY * width,
        layers=tiny.layers,
        width=width,
        ffn=tiny.ffn_size,
        words=VOCABULARY,
        of_layers=of_layers,
    )


def _of_config(config: dict[str, Any], parameters: int) -> ModelSize:
    width, heads, ffn = (
        int(config.get(name) or 0) for name in ("hidden_size", "num_attention_heads", "intermediate_size")
    )
    layers, keys = int(config.get("num_hidden_layers") or 0), int(config.get("num_key_value_heads") or heads)
    of_head = int(config.get("head_dim") or width // max(1, heads))
    attention = 2 * width * of_head * (heads + keys)
    return ModelSize(
        parameters=parameters,
        layers=layers,
        width=width,
        ffn=ffn,
        words=int(config.get("vocab_size") or VOCABULARY),
        of_layers=layers * (attention + 3 * width * ffn),
    )


def _weights_in(file: Path) -> int:
    """Number of weights of a safetensors file, from its header: eight bytes of length, then JSON."""
    with file.open("rb") as content:
        header = json.loads(content.read(int.from_bytes(content.read(8), "little")))
    return sum(math.prod(item["shape"]) for name, item in header.items() if name != "__metadata__")
