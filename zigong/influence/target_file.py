"""Reads and writes target gradients as safetensors: computed once, read by every scoring process."""

from __future__ import annotations

import json
from datetime import date, datetime
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file

from zigong.errors import ConfigError
from zigong.files.atomic import promoted_file
from zigong.influence.targets import TargetGradients, TargetGroup


def save_targets(targets: TargetGradients, file: Path) -> None:
    """Writes the gradients as safetensors, with groups and fingerprint in the header."""
    tensors = {
        f"{checkpoint}/{name}/{side}": tensor
        for checkpoint, matrices in enumerate(targets.sums)
        for name, pair in zip(targets.names, matrices, strict=True)
        for side, tensor in zip("AB", pair, strict=True)
    }
    groups = [
        [
            group.observation_date.isoformat(),
            group.observation_at.isoformat(),
            group.label,
            group.half,
            group.count,
            group.user_id,
        ]
        for group in targets.groups
    ]
    header = {
        "targets": targets.target_ids,
        "names": list(targets.names),
        "checkpoints": len(targets.sums),
        "groups": groups,
    }
    with promoted_file(file) as partial:
        save_file(tensors, partial, metadata={"fingerprint": targets.fingerprint, "header": json.dumps(header)})


def read_targets(file: Path) -> TargetGradients:
    """Reads the file that :func:`save_targets` wrote.

    Raises:
        ConfigError: the file is missing.
    """
    if not file.is_file():
        raise ConfigError(f"{file} does not exist", action="compute the target gradients first")
    with safe_open(file, framework="pt") as content:
        metadata = content.metadata()
        header = json.loads(metadata["header"])
        sums = tuple(
            tuple(
                (content.get_tensor(f"{checkpoint}/{name}/A"), content.get_tensor(f"{checkpoint}/{name}/B"))
                for name in header["names"]
            )
            for checkpoint in range(header["checkpoints"])
        )
    groups = tuple(
        TargetGroup(
            observation_date=date.fromisoformat(day),
            observation_at=datetime.fromisoformat(moment),
            label=label,
            half=half,
            count=count,
            user_id=user_id,
        )
        for day, moment, label, half, count, user_id in header["groups"]
    )
    return TargetGradients(
        fingerprint=metadata["fingerprint"],
        target_ids=tuple(header["targets"]),
        names=tuple(header["names"]),
        groups=groups,
        sums=sums,
    )
