"""The device on which this process computes."""

from __future__ import annotations

import os

import torch


def device_here() -> torch.device:
    """The GPU that is reserved for this process, else the CPU.

    Ray shows an actor only the GPUs that it has reserved. The workers of a training on one node see those of all of
    them, and LOCAL_RANK is their place.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
