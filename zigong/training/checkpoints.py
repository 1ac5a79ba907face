"""Checkpoints of the agent: one adapter per period, and the manifest with their names, order and weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from zigong.errors import ConfigError, DataError
from zigong.files.atomic import write_json
from zigong.files.digests import files_digest
from zigong.recipe import Lora
from zigong.training.adapters import read_adapter
from zigong.training.folders import read_json, required

CHECKPOINTS, SECOND_MOMENTS = "checkpoints.json", "adam_second_moments.safetensors"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The adapter at the end of one period.

    Attributes:
        name: unique name in the manifest.
        period: 0 is the first.
        last_observation_date: t_i, the last observation date of the period.
        eta: SUM of the learning rates of the period's steps.
        adapter: folder of the adapter, relative to the manifest.
        adapter_digest: SHA-256 over its weights and config.
        second_moments_digest: SHA-256 over AdamW's second moments v, saved with the adapter as safetensors; None if the
            trainer saved none.
        samples: number of samples of the period.
        steps: number of optimiser steps of the period.
    """

    name: str
    period: int
    last_observation_date: date
    eta: float
    adapter: str
    adapter_digest: str
    second_moments_digest: str | None
    samples: int
    steps: int


@dataclass(frozen=True, kw_only=True)
class CheckpointManifest:
    """All checkpoints of one agent, in time order.

    Attributes:
        folder: folder of the manifest.
        checkpoints: checkpoints in the order of their periods.
        base_digest: digest of the base model they were trained on.
        lora: their adapter settings.
        count_eos: whether the end token bore loss.
        context_length: length of the longest sample in tokens.
        months_per_period: calendar months from the first to the last observation date, both included, divided by the
            number of checkpoints, at least 1: the unit of T - t_i.
        data: training data: dataset and table versions, seed.
    """

    folder: Path
    checkpoints: tuple[Checkpoint, ...]
    base_digest: str
    lora: Lora
    count_eos: bool
    context_length: int
    months_per_period: float
    data: Mapping[str, Any]

    def weights(self, checkpoint: Checkpoint) -> dict[str, Tensor]:
        """The adapter's weights, after their digest is verified.

        Raises:
            ConfigError: a file is missing or pickled.
            DataError: the files differ from the manifest.
        """
        return read_adapter(self.folder / checkpoint.adapter, digest=checkpoint.adapter_digest)

    def second_moments(self, checkpoint: Checkpoint) -> dict[str, Tensor]:
        """AdamW's second moments of the adapter's weights, bias-corrected, under the weights' names.

        Raises:
            ConfigError: the checkpoint has none, or the file is missing.
            DataError: the file differs from the manifest.
        """
        file = self.folder / checkpoint.adapter / SECOND_MOMENTS
        action = "train the agent again, or set influence.precondition: none"
        if checkpoint.second_moments_digest is None or not file.is_file():
            raise ConfigError(f"checkpoint {checkpoint.name} has no second moments at {file}", action=action)
        found = files_digest({SECOND_MOMENTS: file})
        if found != checkpoint.second_moments_digest:
            raise DataError(
                f"{file}: digest {found[:12]} differs from the manifest's {checkpoint.second_moments_digest[:12]}",
                action=action,
            )
        moments: dict[str, Tensor] = load_file(file)
        return moments


def period_name(number: int) -> str:
    """The name of a period's checkpoint and of its folder."""
    return f"period_{number:02d}"


def save_second_moments(moments: Mapping[str, Tensor], adapter_folder: Path) -> None:
    """Writes second moments into an adapter's folder."""
    save_file(dict(moments), adapter_folder / SECOND_MOMENTS, metadata={"format": "pt"})


def checkpoints_digest(folder: Path) -> str:
    """SHA-256 of the manifest in ``folder``, which holds the digest of every other file."""
    return files_digest({CHECKPOINTS: folder / CHECKPOINTS})


def months_between(first: date, second: date) -> int:
    """Calendar months from ``first`` to ``second``; days are ignored."""
    return (second.year - first.year) * 12 + second.month - first.month


def months_per_period(dates: Sequence[date], periods: int) -> float:
    """The unit of T - t_i for agents trained on ``dates``; see :class:`CheckpointManifest`."""
    return max(1.0, (months_between(min(dates), max(dates)) + 1) / periods)


def write_checkpoints(manifest: CheckpointManifest, folder: Path) -> None:
    """Writes the manifest into ``folder``, which holds the adapters."""
    write_json(
        folder / CHECKPOINTS,
        {
            "checkpoints": [
                {**asdict(item), "last_observation_date": item.last_observation_date.isoformat()}
                for item in manifest.checkpoints
            ],
            "base_digest": manifest.base_digest,
            "lora": manifest.lora.model_dump(mode="json"),
            "count_eos": manifest.count_eos,
            "context_length": manifest.context_length,
            "months_per_period": manifest.months_per_period,
            "data": dict(manifest.data),
        },
    )


def read_checkpoints(folder: Path) -> CheckpointManifest:
    """Reads the manifest of a folder.

    Raises:
        ConfigError: the manifest is missing, lacks a key, or its periods are not 0, 1, 2, ...
    """
    where = str(folder / CHECKPOINTS)
    content = read_json(folder / CHECKPOINTS)
    keys = [key for key in CheckpointManifest.__dataclass_fields__ if key != "folder"]
    values = {key: required(content, key, where=where) for key in keys}
    checkpoints = tuple(_checkpoint(item, where=where) for item in values["checkpoints"])
    if not checkpoints or [item.period for item in checkpoints] != list(range(len(checkpoints))):
        raise ConfigError(f"{where}: periods must be 0, 1, 2, ... in order", action="train the agent again")
    return CheckpointManifest(
        **{**values, "folder": folder, "checkpoints": checkpoints, "lora": Lora.model_validate(values["lora"])}
    )


def _checkpoint(item: Mapping[str, Any], *, where: str) -> Checkpoint:
    values = {key: required(item, key, where=f"{where}: checkpoints") for key in Checkpoint.__dataclass_fields__}
    return Checkpoint(**{**values, "last_observation_date": date.fromisoformat(values["last_observation_date"])})
