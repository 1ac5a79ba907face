"""Whatever is killed, every sample is scored once, bit for bit as in the undisturbed run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from tests.support.finished import REPOSITORY
from tests.support.paced_influence import PacedInfluence, RecordedTargets
from tests.support.scored_lake import ScoredLake, make_scored_lake, merged_targets
from zigong.fanout.shards import map_shards
from zigong.fanout.staged import complete_shard, staged_rows, write_shard
from zigong.influence import scorer, target_groups
from zigong.influence.target_file import read_targets
from zigong.influence.worker import InfluenceWorker
from zigong.recipe import Engine

SIZE, RUNS, KILLS = 56, 20, 3
ENGINE = Engine(ray_cpus=2, ray_object_store_mb=100)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> ScoredLake:
    return make_scored_lake(tmp_path_factory.mktemp("kills"), SIZE)


@pytest.fixture(scope="module")
def undisturbed(lake: ScoredLake) -> pa.Table:
    """The scores without Ray."""
    worker = InfluenceWorker(**lake.arguments())
    return pa.concat_tables([worker(shard) for shard in lake.shards()]).sort_by("sample_id")


def workers(notes: Path) -> list[int]:
    """Live processes among those that recorded their id."""
    return [int(file.name) for file in notes.iterdir() if is_ray_worker(int(file.name))]


def is_ray_worker(pid: int) -> bool:
    try:
        return b"ray::" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False  # it ended, perhaps between opening and reading the file


def score(lake: ScoredLake, folder: Path, *, deadly: tuple[str, ...] = (), **more: Any) -> pa.Table:
    """Scores on Ray with shards staged in ``folder``; the deadly samples must be refused."""
    (folder / "notes").mkdir(exist_ok=True)
    manifests = map_shards(
        lake.shards(),
        PacedInfluence,
        {**lake.arguments(), "notes": folder / "notes", "deadly": deadly},
        stage_folder=folder / "stage",
        fingerprint="f",
        engine=ENGINE,
        keys_of=lake.keys_of,
        **more,
    )
    assert tuple(key for item in manifests for key in item.refused) == deadly
    return staged_rows(folder / "stage", manifests, lake.members["sample_id"])


def kill_once(notes: Path, killed: list[int], done: int, total: int) -> None:
    """A report of progress that kills all workers the first time there are some."""
    alive = workers(notes) if notes.is_dir() else []
    if alive and not killed:
        killed.extend(alive)
        for pid in alive:
            os.kill(pid, signal.SIGKILL)


@pytest.mark.soak
def test_target_gradients_have_the_same_bits_after_a_killed_worker_and_are_computed_once(
    lake: ScoredLake, local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target_groups, "SHARD_TARGETS", {"population": 2})
    alone = read_targets(merged_targets(lake, lake.target_shards(), tmp_path / "alone"))
    notes, killed, reports = tmp_path / "notes", list[int](), list[tuple[int, int]]()
    notes.mkdir()
    monkeypatch.setattr(scorer, "TargetWorker", partial(RecordedTargets, notes=notes))

    def report(done: int, total: int) -> None:
        reports.append((done, total))
        kill_once(notes, killed, done, total)

    task, stage = lake.arguments()["task"], tmp_path / "stage"
    opened = partial(
        scorer.open_scorer, task, business_timezone="UTC", stage_folder=stage, engine=ENGINE, progress=report
    )
    found = opened().gradients
    passes = 2 * len(found.target_ids)  # of two checkpoints
    assert (reports[0], reports[-1]) == ((0, passes), (passes, passes))
    assert len(list(notes.iterdir())) > len(killed) > 0
    assert (found.groups, found.fingerprint) == (alone.groups, alone.fingerprint)
    for ours, theirs in zip(found.sums, alone.sums, strict=True):
        assert all(
            torch.equal(one, other) for pair in zip(ours, theirs, strict=True) for one, other in zip(*pair, strict=True)
        )
    shutil.rmtree(stage)
    assert opened().gradients.groups == found.groups
    assert not stage.exists()


@pytest.mark.soak
def test_scores_survive_half_written_shards_and_a_killed_worker(
    lake: ScoredLake, undisturbed: pa.Table, local_ray: None, tmp_path: Path
) -> None:
    stage, killed = tmp_path / "stage", list[int]()
    stage.mkdir()
    for shard in lake.shards():
        keys = pc.is_in(undisturbed["sample_id"], pa.array(lake.keys_of(shard)))
        write_shard(undisturbed.filter(keys), shard, stage_folder=stage, fingerprint="f")
    cut, bare, garbled, lost, *complete = (shard["shard"] for shard in lake.shards())
    half = (stage / f"{cut}.parquet").read_bytes()
    (stage / f"{cut}.parquet").write_bytes(half[: len(half) // 2])
    (stage / f"{bare}.json").unlink()
    (stage / f"{garbled}.json").write_text('{"shard": "')
    (stage / f"{lost}.parquet").unlink()
    before = {name: (stage / f"{name}.parquet").stat().st_mtime_ns for name in complete}
    assert score(lake, tmp_path, progress=partial(kill_once, tmp_path / "notes", killed)).equals(undisturbed)
    assert killed
    assert len(list((tmp_path / "notes").iterdir())) > len(killed)
    assert {name: (stage / f"{name}.parquet").stat().st_mtime_ns for name in complete} == before


@pytest.mark.soak
def test_a_sample_that_kills_its_worker_is_refused_and_the_others_keep_their_bits(
    lake: ScoredLake, undisturbed: pa.Table, local_ray: None, tmp_path: Path
) -> None:
    culprit = lake.keys_of(lake.shards()[1])[2]
    rest = undisturbed.filter(pc.not_equal(undisturbed["sample_id"], culprit))
    assert score(lake, tmp_path, deadly=(culprit,)).equals(rest)


@pytest.fixture
def cluster() -> Iterator[str]:
    """The address of a local Ray that outlives the killed drivers."""
    program = (
        "import ray; c = ray.init(address='local', num_cpus=4, object_store_memory=10**8, include_dashboard=False,"
        " log_to_driver=False); print(c.address_info['gcs_address'], flush=True); input()"
    )
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    environment.pop("RAY_ADDRESS", None)
    keeper = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**environment, "PYTHONPATH": str(REPOSITORY)},
        cwd=REPOSITORY,
    )
    assert keeper.stdout is not None
    yield keeper.stdout.readline().strip()
    keeper.communicate("\n", timeout=60)


def start_driver(folder: Path, address: str, actors: int) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "RAY_ADDRESS": address, "PYTHONPATH": str(REPOSITORY), "RAY_AUTH_MODE": "disabled"}
    with (folder / "driver.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.support.paced_influence", str(folder), str(SIZE), str(actors), "0.4"],
            cwd=REPOSITORY,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,  # when a driver dies, Ray ends its process group, which must not be ours
        )


def damage(stage: Path, chance: np.random.Generator) -> None:
    """Simulates a power loss: truncates a file, or removes a manifest."""
    for file in sorted(stage.glob("*.parquet"))[:1]:
        if chance.random() < 0.5:
            file.write_bytes(file.read_bytes()[:100])
        else:
            file.with_suffix(".json").unlink(missing_ok=True)


def disturb(folder: Path, address: str, actors: int, chance: np.random.Generator) -> dict[str, int]:
    """Runs the driver to completion through ``KILLS`` kills, each some time after a worker has started."""
    counts = {"worker": 0, "driver": 0}
    driver = start_driver(folder, address, actors)
    while sum(counts.values()) < KILLS:
        begun = {int(file.name) for file in (folder / "notes").iterdir()}
        while driver.poll() is None and not any(is_ray_worker(pid) for pid in begun):
            time.sleep(0.05)
            begun = {int(file.name) for file in (folder / "notes").iterdir()}
        time.sleep(chance.uniform(0, 0.8))
        alive = workers(folder / "notes")
        if driver.poll() is not None or not alive:
            assert driver.returncode in {0, None}, (folder / "driver.log").read_text()[-3000:]
            shutil.rmtree(folder / "stage")  # it finished before all kills: start again
            driver = start_driver(folder, address, actors)
        elif chance.random() < 0.6:
            os.kill(int(chance.choice(alive)), signal.SIGKILL)
            counts["worker"] += 1
        else:
            driver.kill()
            driver.wait()
            counts["driver"] += 1
            damage(folder / "stage", chance)
            for file in (folder / "notes").iterdir():
                file.unlink()
            driver = start_driver(folder, address, actors)
    assert driver.wait(timeout=300) == 0, (folder / "driver.log").read_text()[-3000:]
    return counts


@pytest.mark.soak
def test_every_sample_is_scored_once_with_the_same_bits_whatever_is_killed(
    lake: ScoredLake, undisturbed: pa.Table, cluster: str, tmp_path: Path
) -> None:
    kills = {"worker": 0, "driver": 0}
    for run in range(RUNS):
        folder = tmp_path / f"run-{run}"
        shutil.copytree(lake.folder, folder)
        (folder / "notes").mkdir()
        moved = ScoredLake(folder=folder, samples=lake.samples)
        for kind, count in disturb(folder, cluster, 1 + run % 3, np.random.default_rng(run)).items():
            kills[kind] += count
        manifests = [complete_shard(folder / "stage", shard, "f") for shard in moved.shards()]
        assert all(item is not None and not item.refused for item in manifests)
        rows = staged_rows(folder / "stage", [item for item in manifests if item], moved.members["sample_id"])
        assert rows.equals(undisturbed), f"run {run}"
    assert sum(kills.values()) == RUNS * KILLS
    assert min(kills.values()) > 0
