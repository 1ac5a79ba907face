"""Settings of a lakehouse: fixed by its first run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.finished import TINY
from zigong.errors import ConfigError
from zigong.lakehouse.settings import FILE
from zigong.recipe import load_recipe
from zigong.runs.run import open_run


def opened(root: Path, run_id: str, *changes: str) -> None:
    open_run(load_recipe(TINY, [f"lakehouse.root={root}", *changes]), root / "_runs", run_id)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("lakehouse.user_buckets=3", r"lakehouse\.user_buckets is fixed .* first run had 2, this one has 3"),
        ("business_timezone=Europe/Berlin", r"business_timezone .* had Asia/Shanghai, this one has Europe/Berlin"),
        ("lakehouse.key=env", r"the key of the pseudonyms \(lakehouse\.key, ZIGONG_USER_KEY\) is fixed"),
    ],
)
def test_another_setting_is_refused_and_the_error_states_what_a_change_requires(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, message: str
) -> None:
    monkeypatch.setenv("ZIGONG_USER_KEY", "another key of 16 characters")
    opened(tmp_path, "first")
    with pytest.raises(ConfigError, match=message) as refused:
        opened(tmp_path, "second", change)
    assert "a rebuild: a new lakehouse.root" in refused.value.action
    assert not (tmp_path / "_runs" / "second").exists()


def test_other_cells_are_named(tmp_path: Path) -> None:
    opened(tmp_path, "first")
    stated = json.loads((tmp_path / FILE).read_text())
    stated["cells"]["behavior_events"] = ["known_month"]
    (tmp_path / FILE).write_text(json.dumps(stated))
    with pytest.raises(ConfigError, match=r"had behavior_events \(known_month\), this one has behavior_events"):
        opened(tmp_path, "second")


def test_a_step_without_the_key_works_and_the_first_ingest_fixes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ZIGONG_USER_KEY", raising=False)
    monkeypatch.setattr("zigong.recipe.user_key._taken", {})
    opened(tmp_path, "first", "lakehouse.key=env")
    monkeypatch.setenv("ZIGONG_USER_KEY", "a key of more than 16 characters")
    opened(tmp_path, "second", "lakehouse.key=env")
    assert "a key of" not in (tmp_path / FILE).read_text()
    monkeypatch.setenv("ZIGONG_USER_KEY", "another key of 16 characters")
    with pytest.raises(ConfigError, match="the key of the pseudonyms"):
        opened(tmp_path, "third", "lakehouse.key=env")
    monkeypatch.setattr("zigong.recipe.user_key._taken", {})
    opened(tmp_path, "fourth", "lakehouse.key=env")
