"""Writes and reads target gradients as safetensors: merged once, mapped into memory by every scoring process.

One fp32 tensor [G, P] per checkpoint; a row holds the sum of a group, all LoRA weights one after the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from itertools import starmap
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from torch import Tensor

from zigong.errors import ConfigError
from zigong.files.atomic import promoted_file
from zigong.influence.factorised import Matrices
from zigong.influence.target_groups import TargetGroup
from zigong.influence.targets import TargetGradients

Shape = tuple[int, ...]
Row = npt.NDArray[np.float32]
FLOAT_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class TargetHeader:
    """What the file tells about its sums.

    Attributes:
        fingerprint: digest of agent and targets, see :func:`zigong.influence.targets.target_fingerprint`.
        inputs: digest of all inputs of the sums, the contents of the targets included.
        target_ids: keys of the targets, sorted.
        groups: the G groups by name, in the order of the rows.
        checkpoints: number of checkpoints.
    """

    fingerprint: str
    inputs: str
    target_ids: tuple[str, ...]
    groups: Mapping[str, TargetGroup]
    checkpoints: int


def write_targets(
    file: Path, header: TargetHeader, weights: Mapping[str, Shape], sums: Iterable[tuple[int, int, Row]]
) -> None:
    """Writes the file row by row, so that no more than a row of it is in memory.

    Args:
        file: its path.
        header: what it tells about its sums.
        weights: shape of each LoRA weight, NAME/A [r, D] and NAME/B [O, r], in the order of a row.
        sums: every checkpoint and group once, in any order: index of the checkpoint, index of the group, sum [P].
    """
    width = sum(map(prod, weights.values()))
    row_bytes, size = FLOAT_BYTES * width, FLOAT_BYTES * width * len(header.groups)
    tensors = {
        str(checkpoint): {
            "dtype": "F32",
            "shape": [len(header.groups), width],
            "data_offsets": [checkpoint * size, (checkpoint + 1) * size],
        }
        for checkpoint in range(header.checkpoints)
    }
    described = json.dumps({"__metadata__": _metadata(header, weights), **tensors}).encode()
    described += b" " * (-len(described) % 8)
    with promoted_file(file) as partial, partial.open("wb") as out:
        start = out.write(len(described).to_bytes(8, "little") + described)
        for checkpoint, group, row in sums:
            out.seek(start + checkpoint * size + group * row_bytes)
            out.write(row.astype("<f4").tobytes())


def _metadata(header: TargetHeader, weights: Mapping[str, Shape]) -> dict[str, str]:
    groups = [
        [
            group.observation_date.isoformat(),
            group.observation_at.isoformat(),
            group.label,
            group.half,
            group.count,
            group.user_id,
        ]
        for group in header.groups.values()
    ]
    content = {
        "targets": header.target_ids,
        "checkpoints": header.checkpoints,
        "groups": groups,
        "weights": list(weights.items()),
    }
    return {"fingerprint": header.fingerprint, "inputs": header.inputs, "header": json.dumps(content)}


def holds_sums_of(file: Path, inputs: str) -> bool:
    """Whether the file exists and its sums have these inputs."""
    if not file.is_file():
        return False
    with safe_open(file, framework="pt") as content:
        found: str | None = content.metadata().get("inputs")
    return found == inputs


def read_targets(file: Path) -> TargetGradients:
    """Opens the file that :func:`write_targets` wrote; the sums stay in it, and are read when they are used.

    Raises:
        ConfigError: the file is missing.
    """
    if not file.is_file():
        raise ConfigError(f"{file} does not exist", action="compute the target gradients first")
    with safe_open(file, framework="pt") as content:
        metadata = content.metadata()
        header = json.loads(metadata["header"])
        flat = [content.get_tensor(str(checkpoint)) for checkpoint in range(header["checkpoints"])]
    return TargetGradients(
        fingerprint=metadata["fingerprint"],
        target_ids=tuple(header["targets"]),
        names=tuple(name.removesuffix("/A") for name, _ in header["weights"][::2]),
        groups=tuple(starmap(_group, header["groups"])),
        sums=tuple(_matrices(rows, [shape for _, shape in header["weights"]]) for rows in flat),
    )


def _group(day: str, moment: str, label: int, half: int, count: int, user_id: str | None) -> TargetGroup:
    return TargetGroup(
        observation_date=date.fromisoformat(day),
        observation_at=datetime.fromisoformat(moment),
        label=label,
        half=half,
        count=count,
        user_id=user_id,
    )


def _matrices(rows: Tensor, shapes: list[Any]) -> Matrices:
    """Views of rows [G, P] as the LoRA pairs' weights (A [G, r, D], B [G, O, r])."""
    columns = torch.split(rows, [prod(shape) for shape in shapes], dim=1)
    weights = [part.view(-1, *shape) for part, shape in zip(columns, shapes, strict=True)]
    return tuple(zip(weights[::2], weights[1::2], strict=True))
