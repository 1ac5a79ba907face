"""The run context: run id, recipe digest, manifest and the outcome of every step; the basis of a resume."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from zigong.errors import ConfigError
from zigong.files.atomic import json_text, write_json, write_once
from zigong.lakehouse.settings import require_settings
from zigong.recipe import Recipe, parse_recipe
from zigong.recipe.source import known_key
from zigong.runs import handover, stored_values
from zigong.runs.value import Artefact, V, Value

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,80}")  # of the complete id: it becomes a folder and part of SQL
GROUP_READS = 0o640  # the group that operates the jobs reads outcomes, whatever the umask of the job; others do not
SCHEMA_VERSION = 3  # of manifest.json; 2 did not name the mix of the final model, 1 had untyped facts


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a step or a run ended; it replaces the exit codes that some launchers lose.

    Attributes:
        kind: ok, or the kind of the error (config, data, conflict, infra, internal).
        code: exit code.
        tables: counts of the publish of each table.
        takes: names of the values it took or looked up; see ``zigong.runs.handover``.
        leaves: names of the values it wrote.
        attempt: fencing token of the attempt; see ``zigong.runs.lease``.
        warnings: what the step found that does not stop it but that somebody should know.
    """

    step: str
    kind: str
    code: int
    retryable: bool
    message: str
    action: str
    started_at: str
    seconds: float
    arguments: dict[str, str | None] = field(default_factory=dict)
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    takes: list[str] = field(default_factory=list)
    leaves: list[str] = field(default_factory=list)
    attempt: int = 0
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run in its folder ``<lakehouse>/_runs/<run id>``.

    Attributes:
        given: the recipe it is opened with; None: read from the run's own record on first use.
    """

    run_id: str
    folder: Path
    given: Recipe | None = None

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe of the run.

        Raises:
            ConfigError: the run's recipe is of a version of ZiGong that this one cannot read.
        """
        if self.given is not None:
            return self.given
        file = self.folder / "recipe.json"
        try:
            return parse_recipe(json.loads(file.read_text(encoding="utf-8")), origin=str(file))
        except ConfigError as error:
            raise ConfigError(
                f"run {self.run_id} was made with a recipe that this version cannot read: {error.message}",
                action=f"use the version that made it, or delete the run with its folder {self.folder}",
            ) from error

    def artefact_folder(self, kind: type[Artefact]) -> Path:
        """The folder in which a step writes the files of an artefact."""
        return self.folder / kind.SUBFOLDER

    def scratch(self, step: str) -> Path:
        """The folder for files that only the step itself reads."""
        return self.folder / "scratch" / step

    def outcome(self, step: str) -> Outcome | None:
        """The outcome of a step, None when it never ended."""
        file = self.folder / "steps" / step / "outcome.json"
        return Outcome(**json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None

    def ask(self, until: str | None) -> None:
        """Records the last step that the run was requested to reach; None: all."""
        write_json(self.folder / "asked.json", {"until": until})

    @property
    def asked_until(self) -> str | None:
        """The last step that the run was requested to reach; None: all its steps."""
        file = self.folder / "asked.json"
        until: str | None = json.loads(file.read_text(encoding="utf-8"))["until"] if file.is_file() else None
        return until

    def supersede(self, step: str, *, reason: Mapping[str, str] | None = None) -> None:
        """Sets the outcome of a step aside, because the step was requested again or for another reason.

        What the step has published so far does not count for its next attempt, even if it left no outcome.
        """
        folder = self.folder / "steps" / step
        aside = folder / "superseded" / f"{self.reruns(step) + 1:04d}.json"
        aside.parent.mkdir(parents=True, exist_ok=True)
        known = folder / "outcome.json"
        if known.is_file():
            known.replace(aside)
        else:
            write_json(aside, dict(reason or {}))

    def reruns(self, step: str) -> int:
        """How often a step was requested again after it had finished."""
        return sum(1 for _ in (self.folder / "steps" / step / "superseded").glob("*.json"))

    def write_outcome(self, outcome: Outcome) -> None:
        """Records how a step ended, in the step's folder and as the run's last outcome; the group may read both."""
        step = self.folder / "steps" / outcome.step
        for folder in (step, self.folder):
            write_json(folder / "outcome.json", asdict(outcome), mode=GROUP_READS)
        for folder in (step, step.parent, self.folder):
            if folder.stat().st_uid == os.getuid():
                folder.chmod(folder.stat().st_mode | 0o050)

    def manifest(self) -> dict[str, Any]:
        """The tables, values and recipe digest of this run."""
        content: dict[str, Any] = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))
        return content

    def pinned_version(self, table: str) -> int | None:
        """The version of a table this run pinned or wrote, None before either."""
        version: int | None = self.manifest()["tables"].get(table)
        return version

    def pin(self, table: str, version: int) -> None:
        """Pins a table to a version for the rest of the run."""
        manifest = self.manifest()
        manifest["tables"][table] = version
        write_json(self.folder / "manifest.json", manifest)

    def leave(self, value: Value) -> None:
        """Writes a value into the manifest, replacing that of an earlier attempt."""
        manifest = self.readable_manifest()
        manifest["values"][type(value).__name__] = stored_values.as_json(value, self.folder)
        write_json(self.folder / "manifest.json", manifest)

    def take(self, kind: type[V]) -> V:
        """The value an earlier step left, its files compared with their digests.

        Raises:
            ConfigError: no step has left it yet, or manifest or folder differ from what it left.
        """
        value = self.find(kind)
        if value is None:
            raise stored_values.missing(kind, run_id=self.run_id)
        if isinstance(value, Artefact):
            stored_values.require_intact(value, run_id=self.run_id)
        return value

    def find(self, kind: type[V]) -> V | None:
        """The value in the manifest, whether its files still exist or not; None if no step has left it.

        Raises:
            ConfigError: the value in the manifest is invalid.
        """
        content = self.readable_manifest()["values"].get(kind.__name__)
        if content is None:
            return None
        return stored_values.from_json(kind, content, run_id=self.run_id, run_folder=self.folder)

    def values(self) -> tuple[Value, ...]:
        """All values that steps have left, as in the manifest."""
        found = (self.find(kind) for kind in handover.VALUES)
        return tuple(value for value in found if value is not None)

    def readable_manifest(self) -> dict[str, Any]:
        """The manifest of a run that this version can continue.

        Raises:
            ConfigError: another version wrote it.
        """
        manifest = self.manifest()
        made = manifest.get("schema_version", 1)
        if made != SCHEMA_VERSION:
            raise ConfigError(
                f"run {self.run_id} was made by another version: its manifest.json has schema version {made}, this "
                f"version reads {SCHEMA_VERSION}",
                action=f"start a new run; read this one with the version that made it, or delete it with {self.folder}",
            )
        return manifest

    def metrics(self) -> dict[str, float]:
        """The flat figures of the run: name to number."""
        file = self.folder / "metrics.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}

    def add_metrics(self, figures: Mapping[str, float]) -> None:
        """Merges figures into metrics.json."""
        write_json(self.folder / "metrics.json", {**self.metrics(), **figures})

    def replace_metrics(self, prefix: str, figures: Mapping[str, float]) -> None:
        """Writes figures into metrics.json in place of all whose names begin with ``prefix``."""
        kept = {name: value for name, value in self.metrics().items() if not name.startswith(prefix)}
        write_json(self.folder / "metrics.json", {**kept, **figures})

    def write_table(self, name: str, rows: Sequence[Mapping[Any, object]]) -> None:
        """Writes a small table of the run as CSV, for the report and for people."""
        file = self.folder / "tables" / f"{name}.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w", newline="", encoding="utf-8") as out:
            writer = csv.DictWriter(out, fieldnames=list(rows[0]) if rows else [])
            writer.writeheader()
            writer.writerows(rows)

    def small_tables(self) -> dict[str, list[dict[str, str]]]:
        """What :meth:`write_table` wrote, by name."""
        files = sorted((self.folder / "tables").glob("*.csv"))
        return {file.stem: list(csv.DictReader(file.open(encoding="utf-8", newline=""))) for file in files}


def open_run(recipe: Recipe, runs_folder: Path, run_id: str | None) -> Run:
    """Creates a run, or reopens it to resume.

    Raises:
        ConfigError: the run id is malformed or belongs to another recipe, or the recipe has other settings than its
            lakehouse.
    """
    name = run_id or f"{recipe.name}-{datetime.now(UTC):%Y%m%dT%H%M%S}"
    _require_run_id(name)
    run = Run(run_id=name, folder=runs_folder / name, given=recipe)
    require_settings(
        runs_folder.parent,
        user_buckets=recipe.lakehouse.user_buckets,
        business_timezone=recipe.business_timezone,
        key=known_key(recipe),
    )
    if (run.folder / "manifest.json").is_file():
        _require_same_recipe(run)
        return run
    run.folder.mkdir(parents=True, exist_ok=True)
    write_json(run.folder / "recipe.json", recipe.model_dump(mode="json"))
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "run_id": name,
        "recipe": recipe.name,
        "recipe_digest": recipe.digest(),
        "created_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "tables": {},
        "values": {},
    }
    if not write_once(run.folder / "manifest.json", json_text(manifest)):  # another process has just made this run
        _require_same_recipe(run)
    return run


def known_run(runs_folder: Path, run_id: str) -> Run | None:
    """The run with this id, None if there is none.

    Raises:
        ConfigError: the run id is malformed.
    """
    _require_run_id(run_id)
    run = Run(run_id=run_id, folder=runs_folder / run_id)
    return run if (run.folder / "manifest.json").is_file() else None


def list_runs(runs_folder: Path) -> list[Run]:
    """All runs of a lakehouse, oldest first."""
    runs = [Run(run_id=file.parent.name, folder=file.parent) for file in runs_folder.glob("*/manifest.json")]
    return sorted(runs, key=lambda run: (run.manifest()["created_at"], run.run_id))


def _require_run_id(run_id: str) -> None:
    if not RUN_ID.fullmatch(run_id):
        raise ConfigError(f"run id {run_id!r} must match {RUN_ID.pattern}", action="choose another --run-id")


def _require_same_recipe(run: Run) -> None:
    known, given = run.readable_manifest()["recipe_digest"], run.recipe.digest()
    if known != given:
        raise ConfigError(
            f"run id {run.run_id} belongs to recipe digest {known[:12]}, but this recipe has {given[:12]}",
            action="choose a new --run-id, or use the recipe and --set arguments the run was started with",
        )
