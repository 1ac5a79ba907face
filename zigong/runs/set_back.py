"""Sets a run back that an erasure overtook: its steps are built again, from what the erasure left.

Table versions that the run pinned are gone, and its files may hold what was learned from erased users. So nothing of
it is kept but its recipe and the record of what happened; its steps run again under the same run id.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

from zigong.console import LOG
from zigong.files.atomic import write_json
from zigong.lakehouse.erasures import Erasure, erasures_after, refuse_open, refuse_replay
from zigong.runs.run import Run
from zigong.runs.steps import steps_of

_KEPT = ("recipe.json", "manifest.json", "lease", "steps", "spark.log")


def go_on(run: Run, root: Path) -> None:
    """Lets a run go on that is older than an erasure; does nothing for other runs.

    Args:
        run: the run, opened again.
        root: root of the lakehouse.

    Raises:
        ConflictError: the erasure has not ended yet.
        ConfigError: all steps of the run had ended, so there is nothing to go on with.
    """
    manifest = run.manifest()
    known = manifest.get("set_back", [])
    later = erasures_after(root, known[-1]["at"] if known else manifest["created_at"])
    if not later:
        return
    outcomes = [run.outcome(step.name) for step in steps_of(run.recipe)]
    if all(outcome is not None and outcome.code == 0 for outcome in outcomes):
        refuse_replay(root, run.run_id, manifest["created_at"])
    refuse_open(later)
    _set_back(run, later[-1])
    done = sum(outcome is not None for outcome in outcomes)
    LOG.warning(
        f"erasure {later[-1].erasure_id} overtook run {run.run_id}: its {done} steps are built again",
        extra={"fields": {"run_id": run.run_id, "erasure_id": later[-1].erasure_id, "steps": done}},
    )


def _set_back(run: Run, erasure: Erasure) -> None:
    """The record in the manifest is written last: a killed attempt is repeated."""
    note = {"erasure_id": erasure.erasure_id, "at": datetime.now(UTC).isoformat(timespec="milliseconds")}
    for step in steps_of(run.recipe):
        run.supersede(step.name, reason=note)
    for entry in run.folder.iterdir():
        if entry.name in _KEPT:
            continue
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    manifest = run.manifest()
    record = [*manifest.get("set_back", []), note]
    write_json(run.folder / "manifest.json", {**manifest, "tables": {}, "values": {}, "set_back": record})
