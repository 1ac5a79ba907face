"""What a run needs is tried for real, and what is missing is named with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray
from deltalake import DeltaTable
from typer.testing import CliRunner

from tests.support.finished import TINY
from zigong.cli import app
from zigong.cli.doctor_recipe import conditional_commits, examine_recipe
from zigong.errors import InfraError
from zigong.recipe import load_recipe, user_key


@pytest.mark.usefixtures("spark")
def test_every_part_is_tried_and_nothing_is_left(tmp_path: Path) -> None:
    try:
        found = examine_recipe(load_recipe(TINY, [f"lakehouse.root={tmp_path / 'lake'}"]))
    finally:
        ray.shutdown()
    assert [(check.part, check.ok) for check in found] == [
        ("root", True),
        ("key of the pseudonyms", True),
        ("source", True),
        ("commits", True),
        ("spark sees the root", True),
        ("ray sees the root", True),
        ("registry", True),
    ], found
    assert [file.name for file in (tmp_path / "lake").iterdir()] == ["registry"]


def test_what_is_missing_is_named_and_what_depends_on_it_is_not_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ZIGONG_USER_KEY", raising=False)
    monkeypatch.setattr(user_key, "_taken", {})  # another test may have had a key
    (tmp_path / "file").touch()
    sets = [f"lakehouse.root={tmp_path / 'file' / 'lake'}", "lakehouse.key=env"]
    found = {check.part: check for check in examine_recipe(load_recipe(TINY, sets))}
    assert "Not a directory" in found["root"].found
    assert "must hold a secret" in found["key of the pseudonyms"].found
    assert all(check.action for check in found.values() if not check.ok)
    assert [part for part, check in found.items() if check.found == "not tried"] == [
        "commits",
        "spark sees the root",
        "ray sees the root",
        "registry",
    ]
    arguments = ["doctor", "--recipe", str(TINY), *(part for item in sets for part in ("--set", item))]
    assert CliRunner().invoke(app, arguments).exit_code == 5


def test_a_store_on_which_both_writers_succeed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "one was refused" in conditional_commits(str(tmp_path / "here"))
    monkeypatch.setattr(DeltaTable, "create_write_transaction", lambda *_, **__: None)
    with pytest.raises(InfraError, match="of two writers of one version 2 were told that they made it"):
        conditional_commits(str(tmp_path / "there"))
