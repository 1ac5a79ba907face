"""The commands of docs/operations.md, run verbatim in an environment that has no ZiGong installed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest
import yaml
from deltalake import DeltaTable

REPOSITORY = Path(__file__).resolve().parents[2]
BARE = REPOSITORY / "build/venv-bare/bin"
ARCHIVE = REPOSITORY / "dist/zigong.zip"
RUN_ID = "launched"
OURS = re.compile(r"^(PYTHON|PYSPARK|SPARK|RAY|ZIGONG|VIRTUAL_ENV)")


def commands(section: str) -> list[str]:
    """The fenced bash blocks of a section of the operations page."""
    page = (REPOSITORY / "docs/operations.md").read_text(encoding="utf-8")
    text = page.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(r"^```bash\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Shell:
    """A shell in the folder of the release, with the bare environment active."""

    environment: dict[str, str]

    def __call__(self, command: str, *, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euc", command],
            check=False,
            cwd=cwd,
            env=self.environment,
            text=True,
            capture_output=True,
            timeout=400,
        )

    def succeeds(self, command: str) -> None:
        done = self(command)
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"


def bare_shell(recipe: Path, **settings: str) -> Shell:
    kept = {name: value for name, value in os.environ.items() if not OURS.match(name)}
    path = f"{BARE}{os.pathsep}{kept['PATH']}"
    # One compiler saves half of the processor time of short runs, given enough memory for compiled code.
    quick = {"JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m"}
    return Shell(environment={**kept, **quick, "PATH": path, "RECIPE": str(recipe), "RUN_ID": RUN_ID, **settings})


def write_recipe(file: Path, model: Path, root: Path, *, users: int | None = None) -> None:
    """The recipe ``model`` with another lakehouse: the printed commands have no --set."""
    recipe = yaml.safe_load(model.read_text(encoding="utf-8"))
    recipe["lakehouse"]["root"] = str(root)
    if users is not None:
        recipe["source"]["simulation"]["users"] = users
    file.write_text(yaml.safe_dump(recipe), encoding="utf-8")


def outcome(root: Path, run_id: str, step: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((root / "_runs" / run_id / "steps" / step / "outcome.json").read_text("utf-8"))
    return content


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    if not (BARE / "python").is_file() or not ARCHIVE.is_file():
        pytest.fail("build/venv-bare or dist/zigong.zip is missing: run `make bare-env dist`")


def test_the_bare_environment_has_no_zigong(tmp_path: Path) -> None:
    found = bare_shell(tmp_path)("python -c 'import pyspark, ray, torch'; python -c 'import zigong'", cwd=tmp_path)
    assert found.returncode == 1
    assert "No module named 'zigong'" in found.stderr


def test_the_archive_contains_the_code_of_this_tree() -> None:
    with zipfile.ZipFile(ARCHIVE) as archive:
        shipped = {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}
    tree = [file for folder in ("zigong", "schemas", "jobs") for file in (REPOSITORY / folder).rglob("*.py")]
    here = {str(file.relative_to(REPOSITORY)): file.read_bytes() for file in tree}
    differing = sorted(name for name in here if shipped.get(name) != here[name])
    assert not differing, f"dist/zigong.zip differs from the tree in {differing}: run `make dist`"


# Spark


@pytest.fixture(scope="module")
def spark_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lakehouse that the first of the printed spark-submit commands, an ingest, has filled."""
    folder = tmp_path_factory.mktemp("spark-submit")
    write_recipe(folder / "recipe.yaml", REPOSITORY / "tests/tiny.yaml", folder / "lake", users=40)
    bare_shell(folder / "recipe.yaml").succeeds(commands("spark-submit")[0])
    return folder / "lake"


@pytest.mark.soak
def test_the_documented_spark_command_publishes_events(spark_root: Path) -> None:
    steps = [re.search(r"jobs/(\w+)\.py", command)[1] for command in commands("spark-submit")]  # type: ignore[index]
    assert steps == ["ingest_events", "build_labels"]
    require_published(spark_root, "ingest_events")


@pytest.mark.soak
def test_the_documented_spark_command_publishes_labels(spark_root: Path) -> None:
    command = commands("spark-submit")[1]
    assert "jobs/build_labels.py" in command
    bare_shell(spark_root.parent / "recipe.yaml").succeeds(command)
    require_published(spark_root, "build_labels")


def require_published(root: Path, step: str) -> None:
    recorded = outcome(root, RUN_ID, step)
    assert recorded["kind"] == "ok"
    for table in set(recorded["tables"]) - {"raw_simulated"}:
        rows = DeltaTable(str(root / "tables" / table)).to_pyarrow_dataset().count_rows()
        assert rows == recorded["tables"][table]["published"] > 0


@pytest.mark.soak
def test_the_documented_backfill_replaces_exactly_its_dates(spark_root: Path) -> None:
    (command,) = commands("Backfill")
    first, end = re.findall(r"(?:--from-date|--to-date) (\S+)", command)
    before = DeltaTable(str(spark_root / "tables/behavior_events"))
    files_before, rows_before = set(before.file_uris()), before.to_pyarrow_table().num_rows
    bare_shell(spark_root.parent / "recipe.yaml").succeeds(command)
    after = DeltaTable(str(spark_root / "tables/behavior_events"))
    dates = {re.search(r"known_date=([\d-]+)", uri)[1] for uri in files_before ^ set(after.file_uris())}  # type: ignore[index]
    assert dates
    assert all(first <= day < end for day in dates)
    assert after.to_pyarrow_table().num_rows == rows_before
    recorded = outcome(spark_root, f"{RUN_ID}-backfill", "ingest_events")
    assert recorded["arguments"] == {"from_date": first, "to_date": end}


def test_spark_submit_keeps_the_exit_code_of_a_refused_recipe(tmp_path: Path) -> None:
    refused = bare_shell(tmp_path / "absent.yaml")(commands("spark-submit")[0])
    assert refused.returncode == 2
    assert "absent.yaml does not exist" in " ".join((refused.stdout + refused.stderr).split())


# Ray


@pytest.fixture
def ray_dashboard() -> Iterator[str]:
    """The address of a cluster of one node; its whole process group ends with the test."""
    folder = tempfile.mkdtemp(prefix="zg", dir="/tmp")  # socket paths must be short
    port, dashboard, client, agent = free_ports(4)
    start = f"ray start --head --block --disable-usage-stats --num-cpus 2 --object-store-memory 200000000 \
        --node-ip-address 127.0.0.1 --port {port} --ray-client-server-port {client} \
        --dashboard-host 127.0.0.1 --dashboard-port {dashboard} --dashboard-agent-listen-port {agent} \
        --temp-dir {folder}"
    environment = bare_shell(Path(), RAY_AUTH_MODE="disabled").environment
    with Path(folder, "cluster.log").open("wb") as log:
        cluster = subprocess.Popen(
            ["bash", "-euc", f"exec {start}"],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for(dashboard, cluster, Path(folder, "cluster.log"))
        yield f"http://127.0.0.1:{dashboard}"
    finally:
        for ending in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(cluster.pid, ending)
            with contextlib.suppress(subprocess.TimeoutExpired):
                cluster.wait(timeout=10)
        shutil.rmtree(folder, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [server.getsockname()[1] for server in held]
    for server in held:
        server.close()
    return ports


def wait_for(port: int, cluster: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(120):
        assert cluster.poll() is None, log.read_text("utf-8")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(1)
    pytest.fail(f"the cluster did not answer: {log.read_text('utf-8')}")


@pytest.mark.soak
def test_the_documented_ray_commands_compute_the_scores_of_the_local_run(
    tiny_run: Any, ray_dashboard: str, tmp_path: Path
) -> None:
    """The same run, without its agent and its scores, is continued on a cluster."""
    root = tmp_path / "lake"
    shutil.copytree(tiny_run.root, root)
    local = influence_scores(root)
    shutil.rmtree(root / "tables/influence_scores")
    for part in (root / "_staging" / tiny_run.run_id, root / "_runs" / tiny_run.run_id / "artifacts/agent"):
        shutil.rmtree(part, ignore_errors=True)
    write_recipe(tmp_path / "recipe.yaml", tiny_run.recipe_file, root)
    shell = bare_shell(
        tmp_path / "recipe.yaml",
        RUN_ID=tiny_run.run_id,
        RAY_API_SERVER_ADDRESS=ray_dashboard,
        RAY_AUTH_MODE="disabled",
    )
    for command in commands("ray job submit"):
        shell.succeeds(command)
    assert [outcome(root, tiny_run.run_id, step)["kind"] for step in ("train_agent", "score_influence")] == ["ok"] * 2
    launched = influence_scores(root)
    assert launched["sample_id"].equals(local["sample_id"])
    span = pc.max(pc.abs(local["score"])).as_py()
    assert pc.max(pc.abs(pc.subtract(launched["score"], local["score"]))).as_py() <= 1e-4 * span


def influence_scores(root: Path) -> Any:
    return DeltaTable(str(root / "tables/influence_scores")).to_pyarrow_table().sort_by("sample_id")
