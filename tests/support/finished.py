"""A complete run of tests/tiny.yaml for tests to inspect."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from zigong.lakehouse.paths import LakehousePaths
from zigong.recipe import load_recipe
from zigong.runs.run import Run
from zigong.runs.runner import execute, start

REPOSITORY = Path(__file__).resolve().parents[2]
TINY = REPOSITORY / "tests" / "tiny.yaml"


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A complete run of tests/tiny.yaml in its own lakehouse."""

    recipe_file: Path
    run: Run

    @property
    def root(self) -> str:
        return self.run.recipe.lakehouse.root

    @property
    def run_id(self) -> str:
        return self.run.run_id

    @property
    def paths(self) -> LakehousePaths:
        return LakehousePaths.at(self.root)


def finish(root: Path, run_id: str, *changes: str) -> FinishedRun:
    """Runs tests/tiny.yaml, with changes such as ``a.b=c``, to completion in this process, in lakehouse ``root``."""
    recipe_file = root / "recipe.yaml"
    content = yaml.safe_load(TINY.read_text(encoding="utf-8"))
    content["lakehouse"]["root"] = str(root)
    recipe_file.write_text(yaml.safe_dump(content), encoding="utf-8")
    run = start(load_recipe(recipe_file, changes), run_id)
    for _, outcome, _ in execute(run):
        assert outcome.code == 0, f"{outcome.step}: {outcome.message}"
    return FinishedRun(recipe_file=recipe_file, run=run)
