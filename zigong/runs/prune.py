"""Removes the folders of old runs: the versions of tables that they pin are then free for `zigong maintain`."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from zigong.errors import ConfigError
from zigong.lakehouse.paths import LakehousePaths
from zigong.runs.lease import holder_of
from zigong.runs.replay import CORRECTIONS
from zigong.runs.run import Run

NEWEST, AT_WORK, CHAMPION, REPEATED = "among the newest", "at work", "released the champion", "its replay is repeated"


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What becomes of a run.

    Attributes:
        kept: why it stays; empty: it goes.
        size: bytes of its folder.
    """

    run: Run
    recipe: str
    created_at: str
    size: int
    kept: str = ""


def judged_runs(runs: Sequence[Run], *, keep: int, champions: Collection[str]) -> list[Judged]:
    """Which runs stay: the newest of each recipe, and those that something still needs.

    Args:
        runs: all runs of a lakehouse, oldest first.
        keep: how many of each recipe stay at least.
        champions: ids of the runs that released a model which is champion now.

    Raises:
        ConfigError: ``keep`` is below 1.
    """
    if keep < 1:
        raise ConfigError(f"--keep {keep} would leave no run", action="give a number from 1 on")
    manifests = [run.manifest() for run in runs]
    by_recipe: defaultdict[str, list[str]] = defaultdict(list)
    for manifest in manifests:
        by_recipe[manifest["recipe"]].append(manifest["run_id"])
    newest = {run_id for listed in by_recipe.values() for run_id in listed[-keep:]}
    return [
        Judged(
            run=run,
            recipe=manifest["recipe"],
            created_at=manifest["created_at"],
            size=sum(file.stat().st_size for file in run.folder.rglob("*") if file.is_file()),
            kept=_why_kept(run, newest=newest, champions=champions),
        )
        for run, manifest in zip(runs, manifests, strict=True)
    ]


def remove_run(paths: LakehousePaths, run: Run) -> None:
    """Removes a run's folder, its record first, so that a stop in between leaves no run with missing files."""
    (run.folder / "manifest.json").unlink(missing_ok=True)
    shutil.rmtree(run.folder, ignore_errors=True)
    shutil.rmtree(paths.local("_staging", run.run_id), ignore_errors=True)


def _why_kept(run: Run, *, newest: Collection[str], champions: Collection[str]) -> str:
    holder = holder_of(run.folder)
    if holder is not None and holder.seems_alive:
        return AT_WORK
    if run.run_id in champions:
        return CHAMPION
    if (run.folder / CORRECTIONS).is_file():
        return REPEATED  # a whole delivery that brings the rows again applies its corrections again
    return NEWEST if run.run_id in newest else ""
