"""What a contributor meets: hooks, workflow and lint run the same checks."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]


def document(name: str) -> Any:
    return yaml.safe_load((REPOSITORY / name).read_text(encoding="utf-8"))


def test_the_hooks_run_exactly_the_parts_of_lint() -> None:
    (line,) = re.findall(r"^lint: ([a-z -]+)##", (REPOSITORY / "Makefile").read_text("utf-8"), re.MULTILINE)
    hooks = [hook for repo in document(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    assert [hook["entry"] for hook in hooks] == [f"make {part}" for part in line.split()]


def test_the_hooks_are_a_valid_configuration_that_fetches_nothing() -> None:
    assert {repo["repo"] for repo in document(".pre-commit-config.yaml")["repos"]} == {"local"}
    command = [sys.executable, "-m", "pre_commit", "validate-config", ".pre-commit-config.yaml"]
    done = subprocess.run(command, cwd=REPOSITORY, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_workflow_may_only_read_and_runs_pinned_actions_and_make_test() -> None:
    workflow = document(".github/workflows/test.yml")
    assert workflow["permissions"] == {"contents": "read"}
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert all("permissions" not in job for job in workflow["jobs"].values())
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", step["uses"]) for step in steps if "uses" in step)
    assert [step["run"] for step in steps if "run" in step] == ["make test"]


def test_every_decision_is_listed_in_the_index() -> None:
    folder = REPOSITORY / "docs/adr"
    index = (folder / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\((\d{4}-[a-z0-9-]+\.md)\)", index)) == {file.name for file in folder.glob("0*.md")}


def test_locks_hold_hashes_and_name_no_index() -> None:
    for lock in (REPOSITORY / "requirements").glob("*.txt"):
        text = lock.read_text(encoding="utf-8")
        assert "--hash=sha256:" in text, lock.name
        assert not re.search(
            r"^--?(i|index-url|extra-index-url|find-links|trusted-host)\b|https?://", text, re.MULTILINE
        )
