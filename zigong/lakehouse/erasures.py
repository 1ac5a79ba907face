"""Records of erasures. A record holds counts only; runs and table versions older than an erasure are refused."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from zigong.errors import ConfigError
from zigong.lakehouse.paths import LakehousePaths


@dataclass(frozen=True, kw_only=True)
class AffectedModel:
    """A model that was trained on erased users.

    Attributes:
        trained_on: erased users among the samples of its dataset's training split.
        pretrained_on: erased users among the events its own base could read; 0 where the recipe uses an existing base.
        retrain_by: ISO date by which the model has to be replaced.
    """

    run_id: str
    model_id: str
    trained_on: int
    pretrained_on: int
    retrain_by: str


@dataclass(frozen=True, kw_only=True)
class Erasure:
    """One erasure.

    Attributes:
        users_digest: digest of the tombstones; a repeated request with the same digest resumes the erasure.
        completed_at: empty until the erasure is complete.
        rows: deleted rows by table.
        files: number of files outside the tables by action: rewritten, redacted, removed.
        versions: by table, the first version that may be read.
    """

    erasure_id: str
    requested_at: str
    users: int
    users_digest: str
    completed_at: str = ""
    rows: dict[str, int] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    models: tuple[AffectedModel, ...] = ()


def erasures_folder(root: Path) -> Path:
    """The folder of a lakehouse that holds the records."""
    return root / "_erasures"


def erasures(root: Path) -> list[Erasure]:
    """All erasures of a lakehouse, oldest first."""
    items = [json.loads(file.read_text(encoding="utf-8")) for file in erasures_folder(root).glob("*.json")]
    found = [Erasure(**{**item, "models": tuple(AffectedModel(**model) for model in item["models"])}) for item in items]
    return sorted(found, key=lambda erasure: erasure.requested_at)


def affected_models(root: Path) -> dict[str, str]:
    """By model id, the earliest date by which each model trained on erased users has to be replaced."""
    dates: dict[str, str] = {}
    for model in (model for erasure in erasures(root) for model in erasure.models):
        dates[model.model_id] = min(model.retrain_by, dates.get(model.model_id, model.retrain_by))
    return dates


def refuse_replay(root: Path, run_id: str, created_at: str) -> None:
    """Refuses a run that was created before an erasure: its table versions hold, or held, erased users.

    Raises:
        ConfigError: there was such an erasure; the message names it and its date.
    """
    for erasure in reversed(erasures(root)):
        if datetime.fromisoformat(created_at) <= datetime.fromisoformat(erasure.requested_at):
            raise ConfigError(
                f"run {run_id} was created at {created_at}, before erasure {erasure.erasure_id} of "
                f"{erasure.requested_at} removed {erasure.users} users from its inputs: it cannot be replayed",
                action="start a new run (leave --run-id out)",
            )


def refuse_erased(paths: LakehousePaths, table: str, version: int) -> None:
    """Refuses a version of a table that an erasure removed.

    Raises:
        ConfigError: there was such an erasure; the message names it and its date.
    """
    if not paths.is_local:
        return
    for erasure in reversed(erasures(Path(paths.root))):
        first = erasure.versions.get(table, 0)
        if version < first:
            raise ConfigError(
                f"table {table} version {version} was removed by erasure {erasure.erasure_id} of "
                f"{erasure.requested_at}; the first version after it is {first}",
                action="start a new run, which reads the newest version",
            )
