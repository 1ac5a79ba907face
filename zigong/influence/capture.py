"""The agent in memory: k adapters that are swapped in one frozen model, and gradients of its samples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from zigong.errors import DataError
from zigong.influence.decoder import ForwardMode, open_forward_mode
from zigong.influence.factorised import Matrices, Sink, captured
from zigong.influence.lora import LoraPair, lora_pairs, shared_inputs
from zigong.influence.sinks import Collection
from zigong.tokens.losses import sample_losses
from zigong.tokens.samples import LabelledBatch
from zigong.training.adapters import CONFIG, load_adapted
from zigong.training.base import base_digest
from zigong.training.checkpoints import CheckpointManifest
from zigong.training.folders import read_json
from zigong.training.pretrained import end_ids

Precision = Literal["fp32", "bf16"]
CPU = torch.device("cpu")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenAgent:
    """The agent in memory: one model, and the k adapters that are swapped in it.

    Attributes:
        manifest: names, order, t_i and eta_i of the checkpoints.
        model: the base model with one LoRA adapter; every parameter is frozen and dropout is off.
        pairs: its LoRA layers.
        groups: pairs that read the same tensor, in call order.
        adapters: weights of every checkpoint, in manifest order.
    """

    manifest: CheckpointManifest
    model: PreTrainedModel
    pairs: tuple[LoraPair, ...]
    groups: tuple[tuple[int, ...], ...]
    adapters: tuple[Matrices, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the LoRA pairs."""
        return tuple(pair.name for pair in self.pairs)

    @cached_property
    def forward_mode(self) -> ForwardMode:
        """The model for passes over token trees; a second copy of its projections, created on first use.

        Raises:
            ConfigError: forward mode does not support the architecture, the adapter or the precision.
        """
        return open_forward_mode(self.model, [(pair.a, pair.b) for pair in self.pairs])

    @property
    def ends(self) -> tuple[int, ...]:
        """Ids of the end tokens; the one that training appends is first."""
        return end_ids(self.model.config)


def open_agent(
    base_folder: Path,
    manifest: CheckpointManifest,
    *,
    torch_threads: int,
    precision: Precision = "fp32",
    gradient_checkpointing: bool = False,
    device: torch.device = CPU,
) -> OpenAgent:
    """Loads the base model once and the adapters of all checkpoints.

    Args:
        base_folder: the base model the agent was trained on.
        manifest: manifest of the agent.
        torch_threads: threads of one operation.
        precision: precision of the passes; scores are summed in fp32 or fp64.
        gradient_checkpointing: keep one tensor per layer and recompute the others in the backward pass.
        device: device of the passes.

    Raises:
        ConfigError: a file is missing or pickled, or the adapters train something other than A and B of linear layers.
        DataError: base model or an adapter differs from the manifest, or the adapters differ in their settings.
    """
    found = base_digest(base_folder)
    if found != manifest.base_digest:
        raise DataError(
            f"{base_folder}: digest {found[:12]} differs from the agent's base {manifest.base_digest[:12]}",
            action="score with the base model that the agent was trained on",
        )
    torch.set_num_threads(torch_threads)
    _require_same_settings(manifest)
    weights = [manifest.weights(checkpoint) for checkpoint in manifest.checkpoints]
    adapted = load_adapted(base_folder, manifest.folder / manifest.checkpoints[0].adapter)
    adapted.requires_grad_(False)
    pairs, model = lora_pairs(adapted), adapted.get_base_model()
    for parameter in adapted.parameters():  # buffers, such as rotary frequencies, stay in fp32
        parameter.data = parameter.data.to(DTYPES[precision])
    model.to(device)
    if gradient_checkpointing:
        _checkpoint_layers(model)
    return OpenAgent(
        manifest=manifest,
        model=model,
        pairs=pairs,
        groups=shared_inputs(model, pairs),
        adapters=tuple(
            tuple((one[f"{pair.name}.lora_A.weight"], one[f"{pair.name}.lora_B.weight"]) for pair in pairs)
            for one in weights
        ),
    )


def _require_same_settings(manifest: CheckpointManifest) -> None:
    first, *others = [read_json(manifest.folder / item.adapter / CONFIG) for item in manifest.checkpoints]
    for item, config in zip(manifest.checkpoints[1:], others, strict=True):
        differing = sorted(key for key in first.keys() | config.keys() if first.get(key) != config.get(key))
        if differing:
            raise DataError(
                f"checkpoint {item.name} differs from {manifest.checkpoints[0].name} in {', '.join(differing)}",
                action="train all checkpoints with one lora section",
            )


def _checkpoint_layers(model: PreTrainedModel) -> None:
    """Enables gradient checkpointing: only the decoder layers are in training mode, and their dropout stays off."""
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.training = True


def use_checkpoint(agent: OpenAgent, index: int) -> None:
    """Loads the weights of one checkpoint into the model."""
    with torch.no_grad():
        for pair, (weight_a, weight_b) in zip(agent.pairs, agent.adapters[index], strict=True):
            pair.a.weight.copy_(weight_a)
            pair.b.weight.copy_(weight_b)


def pass_through(agent: OpenAgent, batch: LabelledBatch, sink: Sink) -> Tensor:
    """One forward and one backward pass of the SUM of the samples' losses; passes the factors to ``sink``.

    Returns:
        Mean loss of each sample over its label tokens, [N].
    """
    with captured(agent.pairs, agent.groups, sink):
        losses = sample_losses(agent.model, batch.to(agent.model.device))
        losses.sum().backward()  # type: ignore[no-untyped-call]
    return losses.detach()


def sample_gradients(agent: OpenAgent, batch: LabelledBatch) -> Matrices:
    """Gradient of each sample's loss with respect to the loaded LoRA weights: (A [N, r, D], B [N, O, r]) in fp32."""
    sink = Collection(len(agent.pairs))
    pass_through(agent, batch, sink)
    return sink.gradients
