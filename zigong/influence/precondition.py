"""Adam's preconditioner, frozen at each checkpoint."""

from __future__ import annotations

import torch
from torch import Tensor

from zigong.influence.capture import OpenAgent
from zigong.influence.factorised import Matrices
from zigong.recipe import Influence
from zigong.training.optimise import ADAM_EPS


def preconditioners(agent: OpenAgent, settings: Influence) -> tuple[Matrices, ...] | None:
    """1 / (sqrt(v) + eps) of every checkpoint's LoRA weights, or None with ``precondition: none``.

    v are the agent's bias-corrected AdamW second moments when the checkpoint was saved: a step along a gradient g moved
    the weights by about eta g / (sqrt(v) + eps). The factor is applied to test gradients only.

    Raises:
        ConfigError: a checkpoint has no second moments, or their file is missing.
        DataError: the file's digest differs from the manifest's.
    """
    if settings.precondition == "none":
        return None
    manifest, found = agent.manifest, list[Matrices]()
    for checkpoint in manifest.checkpoints:
        moments = manifest.second_moments(checkpoint)
        found.append(
            tuple(
                (_factor(agent, moments, f"{name}.lora_A.weight"), _factor(agent, moments, f"{name}.lora_B.weight"))
                for name in agent.names
            )
        )
    return tuple(found)


def _factor(agent: OpenAgent, moments: dict[str, Tensor], name: str) -> Tensor:
    return (1 / (torch.sqrt(moments[name]) + ADAM_EPS)).to(agent.model.device)
