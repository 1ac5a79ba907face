"""`make release`: what it builds, and what it refuses."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from typer.testing import CliRunner

from zigong import __version__
from zigong.cli import app

REPOSITORY = Path(__file__).resolve().parents[2]
UV = REPOSITORY / "build/uv/bin/uv"
AUTHOR = ("-c", "user.name=Tester", "-c", "user.email=tester@example.com", "-c", "commit.gpgsign=false")


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *AUTHOR, *arguments], cwd=folder, check=True, capture_output=True)


def release(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "UV": str(UV), "PYTHON": "python3.11"}
    command = ["bash", ".ci/release.sh"]
    return subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)


@pytest.fixture(scope="module")
def releasable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of the files of this one, whose changelog holds a dated section of the version and nothing else."""
    folder = tmp_path_factory.mktemp("release") / "zigong"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, folder / name)
    version = re.findall(r'^__version__ = "(.*)"$', (folder / "zigong/__init__.py").read_text("utf-8"), re.MULTILINE)[0]
    (folder / "CHANGELOG.md").write_text(
        f"# Changelog\n\n## Unreleased\n\n## {version} - 2026-01-31\n\n- All.\n", "utf-8"
    )
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "Everything", "--date", "2026-01-31T00:00:00Z")
    return folder


def test_the_same_commit_gives_the_same_bytes_and_their_digests(releasable: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", str(releasable), "again")
    digests = []
    for folder in (releasable, tmp_path / "again"):
        done = release(folder)
        assert done.returncode == 0, done.stderr
        sums = dict(
            line.split()[::-1] for line in (folder / "build/release/SHA256SUMS").read_text("utf-8").splitlines()
        )
        built = {file.name: file.read_bytes() for file in (folder / "build/release").iterdir() if file.name in sums}
        assert sums == {name: hashlib.sha256(content).hexdigest() for name, content in built.items()}
        assert sorted(Path(name).suffix for name in sums) == [".whl", ".zip"]
        digests.append(sums)
    assert digests[0] == digests[1]


def test_the_wheel_carries_license_types_tables_and_the_requirements_of_the_lock(releasable: Path) -> None:
    assert release(releasable).returncode == 0
    (wheel,) = (releasable / "build/release").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name.partition(".dist-info/")[2] or name for name in archive.namelist()}
        metadata = next(name for name in archive.namelist() if name.endswith("METADATA"))
        lines = archive.read(metadata).decode("utf-8").splitlines()
    assert {"licenses/LICENSE", "licenses/NOTICE", "zigong/py.typed", "schemas/py.typed"} <= names
    assert {f"schemas/tables/{file.name}" for file in (REPOSITORY / "schemas/tables").glob("*.yaml")} <= names
    assert "License-Expression: Apache-2.0" in lines
    listed = {Requirement(line.removeprefix("Requires-Dist: ")) for line in lines if line.startswith("Requires-Dist: ")}
    source = (REPOSITORY / "requirements/jobs.in").read_text("utf-8").splitlines()
    written = {Requirement(text) for line in source if (text := line.partition("#")[0].strip())}
    assert {item for item in listed if item.marker is None} == written


def test_a_tree_that_differs_from_its_commit_is_not_released(releasable: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", str(releasable), "changed")
    (tmp_path / "changed/README.md").write_text("changed", "utf-8")
    done = release(tmp_path / "changed")
    assert done.returncode == 2
    assert "README.md" in done.stderr
    assert not (tmp_path / "changed/build").exists()


@pytest.mark.parametrize(
    ("changelog", "reason"),
    [
        ("# Changelog\n\n## Unreleased\n", "no section"),
        ("# Changelog\n\n## Unreleased\n\n- New.\n\n## {version} - 2026-01-31\n", "under 'Unreleased'"),
    ],
)
def test_a_changelog_that_does_not_describe_the_version_is_not_released(
    releasable: Path, tmp_path: Path, changelog: str, reason: str
) -> None:
    git(tmp_path, "clone", "--quiet", str(releasable), "undescribed")
    folder = tmp_path / "undescribed"
    (version,) = re.findall(r"^## (\S+) - ", (folder / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    (folder / "CHANGELOG.md").write_text(changelog.format(version=version), "utf-8")
    git(folder, "commit", "--quiet", "--all", "--message", "Changelog")
    done = release(folder)
    assert done.returncode == 2
    assert reason in done.stderr


def test_a_version_that_is_the_tag_of_another_commit_is_not_released(releasable: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", str(releasable), "tagged")
    folder = tmp_path / "tagged"
    (version,) = re.findall(r"^## (\S+) - ", (folder / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    git(folder, "tag", f"v{version}")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "Next")
    done = release(folder)
    assert done.returncode == 2
    assert f"v{version} is the tag of" in done.stderr


def test_the_command_line_tells_the_version() -> None:
    answer = CliRunner().invoke(app, ["--version"])
    assert (answer.exit_code, answer.output) == (0, f"zigong {__version__}\n")
