"""Old runs go with everything in their folders; what something still needs stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.finished import TINY
from zigong.cli import app
from zigong.errors import ConfigError
from zigong.recipe import load_recipe
from zigong.runs.lease import take_lease
from zigong.runs.prune import AT_WORK, CHAMPION, NEWEST, REPEATED, judged_runs
from zigong.runs.run import list_runs, open_run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Six runs of one recipe and an older one of another; each with a staged file."""
    for name, run_ids in (("other", ["x"]), ("tiny", ["a", "b", "c", "d", "e", "f"])):
        recipe = load_recipe(TINY, [f"lakehouse.root={tmp_path}", f"name={name}"])
        for run_id in run_ids:
            open_run(recipe, tmp_path / "_runs", run_id)
            (tmp_path / "_staging" / run_id).mkdir(parents=True)
            (tmp_path / "_staging" / run_id / "shard").touch()
    (tmp_path / "_runs/c/corrections.json").write_text("{}")
    return tmp_path / "_runs"


def test_the_newest_of_each_recipe_stay_and_what_is_needed(runs: Path) -> None:
    with take_lease(runs / "b", "build_labels"):
        judged = judged_runs(list_runs(runs), keep=2, champions={"a"})
    assert {item.run.run_id: item.kept for item in judged} == {
        "x": NEWEST,
        "a": CHAMPION,
        "b": AT_WORK,
        "c": REPEATED,
        "d": "",
        "e": NEWEST,
        "f": NEWEST,
    }
    assert all(item.size > 0 for item in judged)
    with pytest.raises(ConfigError, match="--keep 0 would leave no run"):
        judged_runs([], keep=0, champions=())


def test_the_command_removes_what_it_has_shown(runs: Path) -> None:
    arguments = ["runs", "prune", "--root", str(runs.parent), "--keep", "1"]
    tried = CliRunner().invoke(app, [*arguments, "--dry-run"])
    assert (tried.exit_code, len(list_runs(runs))) == (0, 7)
    assert "4 of 7 runs" in tried.output
    done = CliRunner().invoke(app, arguments)
    assert (done.exit_code, [run.run_id for run in list_runs(runs)]) == (0, ["x", "c", "f"])
    assert sorted(folder.name for folder in (runs.parent / "_staging").iterdir()) == ["c", "f", "x"]
    assert {folder.name for folder in runs.iterdir()} == {"x", "c", "f"}
