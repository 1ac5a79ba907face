"""Where the weights of a training lie: on the device of the process, or divided among all of them (FSDP2).

Divided, each worker keeps its part of every layer, and a layer is put together while its pass needs it. Trained weights
are few and stay whole in every worker, so steps, snapshots and adapters are those of a training that is not sharded.
"""

from __future__ import annotations

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import PreTrainedModel

from zigong.recipe import AgentTraining, FinalTraining
from zigong.training.devices import device_here
from zigong.training.team import Team


def placed(model: PreTrainedModel, settings: FinalTraining | AgentTraining, team: Team) -> PreTrainedModel:
    """The model on the device of this process, its frozen weights in the precision of the passes.

    With ``team.sharded``, which needs an adapter and no quantised weights, a layer goes to the device as this process's
    part of it. Embeddings, norms outside of the layers and output layer stay whole.
    """
    if settings.precision == "bf16":
        for parameter in model.parameters():
            if not parameter.requires_grad and parameter.is_floating_point():
                parameter.data = parameter.data.to(torch.bfloat16)
    if team.sharded:
        mesh = init_device_mesh(device_here().type, (team.size,))
        for layer in model.model.layers:
            fully_shard(layer, mesh=mesh, ignored_params={item for item in layer.parameters() if item.requires_grad})
    return model.to(device_here())
