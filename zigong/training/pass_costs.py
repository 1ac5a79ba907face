"""FLOP and memory of passes of a causal language model, for ``zigong plan``.

FLOP: 2 per weight and token forward, 2 for the gradients of the inputs, 2 for those of trained weights (Kaplan 2020,
section 2.1); attention has 2 x tokens x width per token and layer forward, half of the full square, and twice that
backward. Gradient checkpointing repeats the forward pass.
"""

from __future__ import annotations

from zigong.recipe import AgentTraining, ContinuedBase, FinalTraining
from zigong.training.model_size import ModelSize

GIB = 1024**3
TRAINED_BYTES = 16  # of a trained weight in fp32: itself, its gradient, two moments of AdamW
BYTES = {"fp32": 4, "bf16": 2}
NF4_BYTES = 0.516  # 4 bits a weight, and of 64 weights a scale of 8 bits
# Numbers that a layer keeps for its backward pass, per token: of width and of the width of the feed-forward part.
KEPT_OF_WIDTH, KEPT_OF_FFN = 12, 5


def training_flop(size: ModelSize, tokens: float, *, all_weights: bool, repeated: bool) -> float:
    """FLOP of forward and backward pass of one sample.

    Args:
        size: the model.
        tokens: tokens of the sample.
        all_weights: whether all weights are trained; else only the gradients of inputs and of an adapter are computed.
        repeated: whether gradient checkpointing repeats the forward pass.
    """
    of_weights = (6 if all_weights else 4) + 2 * repeated
    of_attention = 2 * tokens * size.width * size.layers * (3 + repeated)
    return tokens * (of_weights * size.of_layers + of_attention)


def answering_flop(size: ModelSize, tokens: float) -> float:
    """FLOP of one forward pass of a sample of so many tokens."""
    return tokens * (2 * size.of_layers + 2 * tokens * size.width * size.layers)


def training_memory_gib(
    size: ModelSize, settings: FinalTraining | AgentTraining, tokens: int, *, shards: int = 1
) -> float:
    """Memory of a worker that trains batches of the longest samples: weights, optimiser, gradients, activations.

    Args:
        size: the model.
        settings: recipe section ``agent`` or ``finetune``.
        tokens: tokens of the longest sample.
        shards: workers that divide the frozen weights of the layers.
    """
    frozen = 0.0 if settings.lora is None else _frozen_bytes(size, settings, shards)
    trained = size.adapter(settings.lora) * TRAINED_BYTES
    logits = 0
    if isinstance(settings, FinalTraining) and settings.next_event_weight:
        logits = settings.batch_size * tokens * size.words * 4 * 2
    return (frozen + trained + logits + _activations(size, settings, settings.batch_size * tokens)) / GIB


def _frozen_bytes(size: ModelSize, settings: FinalTraining | AgentTraining, shards: int) -> float:
    bytes_each = BYTES[settings.precision]
    of_layers = bytes_each if settings.quantise is None else NF4_BYTES
    return size.of_layers * of_layers / shards + (size.parameters - size.of_layers) * bytes_each


def pretraining_flop(size: ModelSize, tokens: float, *, repeated: bool) -> float:
    """FLOP of forward and backward pass of one piece of text, all of whose tokens are predicted."""
    of_words = 6 * tokens * size.words * size.width
    return of_words + training_flop(size, tokens, all_weights=True, repeated=repeated)


def pretraining_memory_gib(size: ModelSize, settings: ContinuedBase) -> float:
    """Memory of the process that trains a base further: as :func:`training_memory_gib`, with the logits of a step."""
    logits = settings.batch_tokens * size.words * 4 * 2
    return (size.parameters * TRAINED_BYTES + logits + _activations(size, settings, settings.batch_tokens)) / GIB


def _activations(size: ModelSize, settings: FinalTraining | AgentTraining | ContinuedBase, tokens: int) -> int:
    """Bytes that a batch of so many tokens keeps for its backward pass."""
    of_layer = KEPT_OF_WIDTH * size.width + KEPT_OF_FFN * size.ffn
    kept = size.layers * of_layer
    if settings.gradient_checkpointing:
        kept = size.layers * size.width + of_layer
    return tokens * kept * BYTES[settings.precision]
