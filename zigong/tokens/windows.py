"""Sliding windows: which of a token's ancestors each layer of a decoder attends to."""

from __future__ import annotations

from torch import Tensor
from transformers import PretrainedConfig

WINDOWED_LAYERS = ("qwen2", "qwen3")  # families that name the kind of each layer


def layer_windows(config: PretrainedConfig) -> tuple[int | None, ...]:
    """The window of each layer: a token attends to itself and to the window - 1 tokens before it; None: to all.

    Args:
        config: of a supported family; a family without windows ignores a ``sliding_window`` in its configuration, as
            Hugging Face's model does.
    """
    layers = int(config.num_hidden_layers)
    if config.model_type == "mistral":
        return (config.sliding_window,) * layers
    if config.model_type in WINDOWED_LAYERS:
        kinds = config.layer_types[:layers]
        return tuple(config.sliding_window if kind == "sliding_attention" else None for kind in kinds)
    return (None,) * layers


def windowed_masks(config: PretrainedConfig, mask: Tensor, positions: Tensor) -> Tensor | dict[str, Tensor]:
    """A dense mask as the layers of a model expect it, limited to their windows.

    Args:
        config: of a supported family.
        mask: [B, 1, T, T] bool, True where the token of a row attends to that of a column.
        positions: [B, T] number of tokens before each on its path.

    Returns:
        One mask for all layers, or one for each kind of layer where a model has both kinds.
    """
    windows = set(layer_windows(config))
    sizes = [window for window in windows if window is not None]
    if not sizes:
        return mask
    sliding = mask & (positions[:, None, :, None] - positions[:, None, None, :] < min(sizes))
    return sliding if len(windows) == 1 else {"full_attention": mask, "sliding_attention": sliding}
