"""Records of erasures. A record holds counts only; runs and table versions older than an erasure are refused."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from zigong.errors import ConfigError, ConflictError
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
        not_found: tombstones of the users of whom nothing was found when the erasure began.
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
    not_found: tuple[str, ...] = ()
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
    return sorted(map(_record, items), key=lambda erasure: erasure.requested_at)


def _record(content: Mapping[str, Any]) -> Erasure:
    """A record as any version wrote it: fields that this one does not know are left out."""
    known = {item.name: content[item.name] for item in fields(Erasure) if item.name in content}
    lists = {"models": tuple(AffectedModel(**model) for model in content.get("models", ()))}
    return Erasure(**{**known, **lists, "not_found": tuple(content.get("not_found", ()))})


def erasures_after(root: Path, moment: str) -> list[Erasure]:
    """The erasures that began at a time or later, or have not ended by then, oldest first."""
    since = datetime.fromisoformat(moment)
    return [
        erasure
        for erasure in erasures(root)
        if datetime.fromisoformat(erasure.requested_at) >= since
        or not erasure.completed_at
        or datetime.fromisoformat(erasure.completed_at) >= since
    ]


def refuse_open(found: Iterable[Erasure]) -> None:
    """Refuses to read or publish while an erasure is under way: tables hold users in part.

    Raises:
        ConflictError: one of the erasures has not ended.
    """
    for erasure in found:
        if not erasure.completed_at:
            raise ConflictError(
                f"erasure {erasure.erasure_id} of {erasure.users} users, begun at {erasure.requested_at}, has not "
                "ended",
                action="wait until it has, or start `zigong erase` with the same users again if it was interrupted; "
                "then run the same run id again",
            )


def refuse_overtaken(root: Path, known: Collection[str]) -> None:
    """Refuses a step that an erasure has overtaken: what it read before may hold erased users.

    Args:
        root: root of the lakehouse.
        known: ids of the erasures that had ended when the step began; no clocks are compared.

    Raises:
        ConflictError: an erasure has begun since.
    """
    later = [erasure for erasure in erasures(root) if erasure.erasure_id not in known]
    refuse_open(later)
    if later:
        raise ConflictError(
            f"erasure {later[-1].erasure_id} removed {later[-1].users} users while this step ran; what it read before "
            "is not published",
            action="run the same run id again: its steps are built again from what the erasure left",
        )


def ended_erasures(root: Path) -> frozenset[str]:
    """The ids of all erasures of a lakehouse, none of which is under way.

    Raises:
        ConflictError: one of them is.
    """
    found = erasures(root)
    refuse_open(found)
    return frozenset(erasure.erasure_id for erasure in found)


def affected_models(root: Path) -> dict[str, str]:
    """By model id, the earliest date by which each model trained on erased users has to be replaced."""
    dates: dict[str, str] = {}
    for model in (model for erasure in erasures(root) for model in erasure.models):
        dates[model.model_id] = min(model.retrain_by, dates.get(model.model_id, model.retrain_by))
    return dates


def refuse_replay(root: Path, run_id: str, created_at: str) -> None:
    """Refuses a finished run that was created before an erasure: its table versions hold, or held, erased users.

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
