"""Per-sample LoRA gradients, factorised: what the hooks see is enough, and no per-sample gradient is ever built.

With h = x A^T and y = h B^T of a LoRA pair A [r, D], B [O, r], and dy = dl/dy (autograd's, which contains the scale
alpha / r), a sample's gradients are gB = dy^T h and gA = (dy B)^T x, summed over its positions. Their product with one
vector (VA [r, D], VB [O, r]) is

    <gA, VA> + <gB, VB> = sum_s <(dy B)_s, (x VA^T)_s> + sum_s <(dy VB)_s, h_s>,

contracted on the r side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from zigong.errors import DataError
from zigong.training.adapters import new_adapter
from zigong.training.base import base_digest
from zigong.training.checkpoints import CheckpointManifest
from zigong.training.losses import sample_losses
from zigong.training.samples import LabelledBatch

Matrices = tuple[tuple[Tensor, Tensor], ...]  # one (A [r, D], B [O, r]) for each LoRA pair, in the order of the pairs


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenAgent:
    """The agent in memory: one model, and the k adapters that are swapped inside it.

    Attributes:
        manifest: names, order, t_i and eta_i of the checkpoints.
        model: the base model with one LoRA adapter; every parameter is frozen and dropout is off.
        names: of the LoRA pairs.
        pairs: their two linear layers.
        adapters: weights of every checkpoint, in the order of the manifest.
    """

    manifest: CheckpointManifest
    model: PreTrainedModel
    names: tuple[str, ...]
    pairs: tuple[tuple[nn.Linear, nn.Linear], ...]
    adapters: tuple[Matrices, ...]

    @property
    def eos_id(self) -> int:
        """Id of the end token."""
        return int(self.model.config.eos_token_id)


def open_agent(base_folder: Path, manifest: CheckpointManifest, *, torch_threads: int) -> OpenAgent:
    """Loads the base model once and the adapters of all checkpoints.

    Args:
        base_folder: the base model the agent was trained on.
        manifest: of the agent.
        torch_threads: threads of one operation.

    Raises:
        ConfigError: a file is missing or pickled.
        DataError: base model or an adapter is not the one that the manifest names.
    """
    found = base_digest(base_folder)
    if found != manifest.base_digest:
        raise DataError(
            f"{base_folder}: digest {found[:12]} differs from the agent's base {manifest.base_digest[:12]}",
            action="score with the base model that the agent was trained on",
        )
    torch.set_num_threads(torch_threads)
    adapted: PeftModel = new_adapter(base_folder, manifest.lora, seed=0)
    adapted.eval().requires_grad_(False)
    layers = {name: layer for name, layer in adapted.named_modules() if isinstance(layer, LoraLayer)}
    weights = [manifest.weights(checkpoint) for checkpoint in manifest.checkpoints]
    return OpenAgent(
        manifest=manifest,
        model=adapted.get_base_model(),
        names=tuple(layers),
        pairs=tuple((layer.lora_A["default"], layer.lora_B["default"]) for layer in layers.values()),
        adapters=tuple(
            tuple((one[f"{name}.lora_A.weight"], one[f"{name}.lora_B.weight"]) for name in layers) for one in weights
        ),
    )


def use_checkpoint(agent: OpenAgent, index: int) -> None:
    """Puts the weights of one checkpoint into the model."""
    with torch.no_grad():
        for (a, b), (weight_a, weight_b) in zip(agent.pairs, agent.adapters[index], strict=True):
            a.weight.copy_(weight_a)
            b.weight.copy_(weight_b)


def contracted_gradients(agent: OpenAgent, batch: LabelledBatch, vector: Matrices) -> Tensor:
    """<gradient of each sample's loss, vector> at the weights in use: [N] in fp64.

    Only the LoRA outputs ask for gradients, so autograd computes no weight gradient at all.
    """
    products = torch.zeros(len(batch), dtype=torch.float64)
    with _contracting(agent.pairs, vector, products):
        sample_losses(agent.model, batch).sum().backward()  # type: ignore[no-untyped-call]
    return products


@contextmanager
def _contracting(pairs: Sequence[tuple[nn.Linear, nn.Linear]], vector: Matrices, products: Tensor) -> Iterator[None]:
    handles = []
    for (a, b), (vector_a, vector_b) in zip(pairs, vector, strict=True):
        inputs: list[Tensor] = []
        handles.append(a.register_forward_hook(partial(_keep_input, inputs)))
        handles.append(b.register_forward_hook(partial(_contract_output, inputs, vector_a, vector_b, products)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _keep_input(inputs: list[Tensor], _: nn.Module, arguments: tuple[Tensor], __: Tensor) -> None:
    inputs[:] = [arguments[0].detach()]


def _contract_output(
    inputs: list[Tensor],
    vector_a: Tensor,
    vector_b: Tensor,
    products: Tensor,
    b: nn.Linear,
    arguments: tuple[Tensor],
    output: Tensor,
) -> Tensor:
    (x,), h = inputs, arguments[0].detach()

    def contract(dy: Tensor) -> None:
        through_a = (dy @ b.weight) * (x @ vector_a.T)
        through_b = (dy @ vector_b) * h
        products.add_((through_a + through_b).sum((1, 2)))

    # In the first layer nothing before the LoRA output asks for gradients, so the output itself must.
    output = output if output.requires_grad else output.requires_grad_(True)
    output.register_hook(contract)  # type: ignore[no-untyped-call]
    return output


def summed_gradient(agent: OpenAgent, batch: LabelledBatch) -> Matrices:
    """Gradient of the SUM of the samples' losses with respect to the LoRA weights in use."""
    weights = [matrix.weight for pair in agent.pairs for matrix in pair]
    for weight in weights:
        weight.requires_grad_(True)
    gradients = torch.autograd.grad(sample_losses(agent.model, batch).sum(), weights)
    for weight in weights:
        weight.requires_grad_(False)
    return tuple(zip(gradients[::2], gradients[1::2], strict=True))
