from __future__ import annotations

import gc
import json
import os
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from tests.support.shard_workers import Deadly, Hanging, Squares, die_at_build, refuse_to_build
from zigong.errors import ConfigError, DataError, InfraError
from zigong.fanout.cluster import WorkerError
from zigong.fanout.shards import map_shards
from zigong.fanout.staged import ShardManifest
from zigong.fanout.waiting import wait_for_cpus
from zigong.recipe import Engine

ENGINE = Engine(ray_cpus=2, ray_object_store_mb=100)
IMPATIENT = ENGINE.model_copy(update={"ray_worker_timeout_s": 2})
pytestmark = pytest.mark.usefixtures("local_ray")


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    (tmp_path / "notes").mkdir()
    return tmp_path / "notes"


def _shards(count: int) -> list[dict[str, Any]]:
    return [{"shard": f"part-{index}", "numbers": [10 * index + 1, 10 * index + 2]} for index in range(1, count + 1)]


def _run(shards: list[dict[str, Any]], notes: Path, *, fingerprint: str = "f", **more: Any) -> list[ShardManifest]:
    arguments = {"notes": notes, **more.pop("arguments", {})}
    stage = notes.parent / "stage"
    worker, engine = more.pop("worker", Squares), more.pop("engine", ENGINE)
    return map_shards(shards, worker, arguments, stage_folder=stage, fingerprint=fingerprint, engine=engine, **more)


def _computed(notes: Path) -> set[str]:
    names = {file.name.split("_")[0] for file in notes.iterdir() if file.name.startswith("part-")}
    for file in list(notes.iterdir()):
        file.unlink()
    return names


def test_shards_contain_the_rows_of_the_worker_and_one_actor_builds_once(notes: Path) -> None:
    seen: list[tuple[int, int]] = []
    manifests = _run(_shards(4), notes, progress=lambda *done: seen.append(done))
    assert [item.shard for item in manifests] == [f"part-{index}" for index in range(1, 5)]
    assert {(item.rows, item.keys, item.fingerprint) for item in manifests} == {(2, 2, "f")}
    assert pq.read_table(notes.parent / "stage" / "part-3.parquet")["value"].to_pylist() == [31**2, 32**2]
    content = json.loads((notes.parent / "stage" / "part-1.json").read_text())
    assert ShardManifest(**{**content, "refused": ()}) == manifests[0]
    assert seen == [(done, 4) for done in range(5)]
    assert len([file for file in notes.iterdir() if file.name.startswith("built")]) == 1
    assert not [file for file in (notes.parent / "stage").iterdir() if file.name.startswith(".")]


def test_a_rerun_computes_exactly_the_incomplete_shards(notes: Path) -> None:
    shards, stage = _shards(5), notes.parent / "stage"
    first = _run(shards, notes)
    assert _computed(notes) == {f"part-{index}" for index in range(1, 6)}
    assert _run(shards, notes) == first
    assert _computed(notes) == set()
    (stage / "part-1.parquet").unlink()
    (stage / "part-2.json").unlink()
    with (stage / "part-3.parquet").open("ab") as file:
        file.write(b"x")
    shards[3]["numbers"] = [7]
    (stage / "part-5.json").write_text((stage / "part-5.json").read_text()[:40])
    again = _run(shards, notes)
    assert _computed(notes) == {"part-1", "part-2", "part-3", "part-4", "part-5"}
    assert [item.rows for item in again] == [2, 2, 2, 1, 2]
    cut = (stage / "part-2.parquet").read_bytes()
    (stage / "part-2.parquet").write_bytes(cut[: len(cut) // 2])
    assert _run(shards, notes) == again
    assert _computed(notes) == {"part-2"}
    _run(shards, notes, fingerprint="g")
    assert _computed(notes) == {f"part-{index}" for index in range(1, 6)}


def test_a_zigong_error_keeps_its_type_message_and_action(notes: Path) -> None:
    with pytest.raises(DataError, match="13 is refused") as caught:
        _run([*_shards(1), {"shard": "bad", "numbers": [13]}], notes)
    assert caught.value.action == "leave it out"
    assert not (notes.parent / "stage" / "bad.json").exists()


def test_a_failed_computation_returns_its_cpus_while_its_error_is_kept(notes: Path) -> None:
    with pytest.raises(DataError, match="13 is refused") as kept:
        _run([{"shard": "bad", "numbers": [13]}, *_shards(3)], notes)
    until = time.monotonic() + 30
    while ray.available_resources().get("CPU") != ENGINE.ray_cpus and time.monotonic() < until:
        time.sleep(0.2)
    assert ray.available_resources().get("CPU") == ENGINE.ray_cpus
    assert kept.value.__traceback__ is not None


def test_any_other_error_reports_its_type_message_and_traceback(notes: Path) -> None:
    with pytest.raises(WorkerError, match=r"(?s)ZeroDivisionError: 0 is no number of ours.*shard_workers\.py"):
        _run([{"shard": "zero", "numbers": [0]}], notes)


def test_a_worker_that_cannot_be_built_raises_its_error(notes: Path) -> None:
    with pytest.raises(DataError, match="cannot be built"):
        _run(_shards(1), notes, worker=refuse_to_build)


def test_a_killed_actor_is_replaced_and_nothing_is_lost(notes: Path) -> None:
    shards = _shards(3)
    shards[1]["kill_once"] = True
    assert [item.rows for item in _run(shards, notes)] == [2, 2, 2]
    assert (notes / "killed").exists()


@pytest.mark.soak
def test_a_worker_that_hangs_is_ended_and_its_shard_is_computed_by_the_next_attempt(notes: Path) -> None:
    shards = _shards(3)
    shards[1]["hangs"] = "once"
    assert [item.rows for item in _run(shards, notes, worker=Hanging, engine=IMPATIENT)] == [2, 2, 2]


@pytest.mark.soak
def test_a_shard_on_which_every_worker_hangs_is_named_with_the_stacks_of_the_hang(notes: Path) -> None:
    shards = _shards(2)
    shards[1]["hangs"] = "always"
    more: dict[str, Any] = {"worker": Hanging, "engine": IMPATIENT, "keys_of": lambda shard: shard["numbers"]}
    with pytest.raises(InfraError, match="shard part-2: its worker gave no result within 2 s at each of 3") as caught:
        _run(shards, notes, **more)
    stacks = (notes.parent / "stage" / ".part-2.starts").read_text()
    assert str(notes.parent / "stage" / ".part-2.starts") in caught.value.action
    assert stacks.count("shard_workers.py") == 3
    assert pq.read_table(notes.parent / "stage" / "part-1.parquet").num_rows == 2


@pytest.mark.soak
@pytest.mark.parametrize(("size", "deadly"), [(5, ("8",)), (20, ("23", "38"))], ids=["singles", "nested"])
def test_keys_that_end_their_worker_each_time_are_isolated_and_the_others_are_computed(
    notes: Path, size: int, deadly: tuple[str, ...]
) -> None:
    shards = [{"shard": f"s{part}", "numbers": [str(size * part + key) for key in range(size)]} for part in range(3)]
    more: dict[str, Any] = {"worker": Deadly, "keys_of": lambda shard: shard["numbers"]}
    first = _run(shards, notes, arguments={"deadly": deadly}, **more)
    assert [item.refused for item in first] == [(), deadly, ()]
    found = pa.concat_tables([pq.read_table(notes.parent / "stage" / f"s{part}.parquet") for part in range(3)])
    assert sorted(found["key"].to_pylist()) == sorted({str(number) for number in range(3 * size)} - set(deadly))
    assert found["value"].to_pylist() == [int(key) ** 2 for key in found["key"].to_pylist()]
    assert len((notes / "tries_s1").read_text()) == 3
    assert {file.suffix for file in (notes.parent / "stage").iterdir()} == {".parquet", ".json"}
    assert len(list((notes.parent / "stage").iterdir())) == 6
    _computed(notes)
    assert _run(shards, notes, arguments={"deadly": deadly}, **more) == first
    assert not list(notes.iterdir())


@pytest.mark.soak
def test_a_shard_that_kills_its_worker_and_has_unknown_keys_is_an_infra_error(notes: Path) -> None:
    with pytest.raises(InfraError, match="1 shards end their worker each time, first s0"):
        _run([{"shard": "s0", "numbers": ["1"]}], notes, worker=Deadly, arguments={"deadly": ["1"]})


@pytest.mark.soak
@pytest.mark.parametrize(("size", "message"), [(1, "die before they start"), (4, "died 3 times while they were built")])
def test_workers_that_die_before_they_start_blame_no_sample(notes: Path, size: int, message: str) -> None:
    with pytest.raises(InfraError, match=message):
        _run(_shards(size), notes, worker=die_at_build, keys_of=lambda shard: shard["numbers"])


@pytest.mark.parametrize("names", [["a", "a"], ["", "b"], ["../a", "b"], [".a", "b"]])
def test_shard_names_are_unique_file_names(notes: Path, names: list[str]) -> None:
    with pytest.raises(ConfigError, match="unique names"):
        _run([{"shard": name, "numbers": [1]} for name in names], notes)


def test_a_relative_stage_folder_is_rejected() -> None:
    with pytest.raises(ConfigError, match="not absolute"):
        map_shards(_shards(1), Squares, {}, stage_folder=Path("stage"), fingerprint="f", engine=ENGINE)


@pytest.mark.soak
def test_a_computation_gives_its_cpus_back_even_to_a_driver_that_then_only_waits(notes: Path) -> None:
    """Python collects cycles only while it allocates; a driver that waits for Ray Train does not."""
    engine = Engine(ray_cpus=2, ray_object_store_mb=100, ray_actors=2)
    everything = ray.cluster_resources()["CPU"]
    gc.collect()
    gc.disable()
    try:
        stage, arguments = notes.parent / "stage", {"notes": notes}
        map_shards(_shards(4), Squares, arguments, stage_folder=stage, fingerprint="f", engine=engine)
        with pytest.raises(DataError, match="13 is refused"):
            refused = [{"shard": "part-x", "numbers": [13]}, {"shard": "part-y", "numbers": [2]}]
            map_shards(refused, Squares, arguments, stage_folder=stage, fingerprint="f", engine=engine)
        until = time.monotonic() + 20
        while ray.available_resources().get("CPU", 0) < everything and time.monotonic() < until:
            time.sleep(0.1)
        assert ray.available_resources().get("CPU", 0) == everything
    finally:
        gc.enable()


def test_a_wait_for_cpus_is_logged_and_ends(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = ray.cluster_resources()["CPU"]
    monkeypatch.setattr("zigong.console.LOG.propagate", True)
    with (
        caplog.at_level("INFO", logger="zigong"),
        pytest.raises(InfraError, match=f"waited . s for {everything + 1:g}"),
    ):
        wait_for_cpus(everything + 1, purpose="a test", longest_seconds=0.3)
    assert [record.message for record in caplog.records] == ["waiting for CPUs of Ray"]


def test_workers_have_the_priority_of_their_driver() -> None:
    niceness = ray.get(ray.remote(lambda: os.nice(0)).remote())
    assert niceness == os.nice(0)
