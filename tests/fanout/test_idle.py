"""A wait for Ray in which nothing happens any more is ended, and fresh actors compute the rest."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.shard_workers import Squares
from zigong.errors import InfraError
from zigong.fanout import rounds
from zigong.fanout.idle import IdleError, ended_if_idle
from zigong.fanout.rounds import ShardWork, compute
from zigong.fanout.staged import Shard
from zigong.recipe import Engine


def wait_for_ever() -> None:
    """Blocks like the driver of a Ray Data computation, on a condition without a timeout."""
    condition = threading.Condition()
    with condition:
        condition.wait()


def test_a_wait_without_work_is_ended() -> None:
    with pytest.raises(IdleError, match=r"nothing happened for 0\.2 s"), ended_if_idle(0.2, lambda: False):
        wait_for_ever()


@pytest.mark.parametrize("working", [True, False])
def test_work_and_signs_keep_a_wait_alive(working: bool) -> None:
    begun = time.monotonic()
    with ended_if_idle(0.3, lambda: working) as sign:
        for _ in range(10):
            time.sleep(0.1)
            sign()
    assert time.monotonic() - begun >= 1, "the block ran to its end, three times longer than it may idle"


def test_ctrl_c_stays_ctrl_c() -> None:
    with pytest.raises(KeyboardInterrupt), ended_if_idle(60, lambda: False):
        os.kill(os.getpid(), signal.SIGINT)
        wait_for_ever()


def test_an_error_of_the_block_stays_as_it_is() -> None:
    with pytest.raises(InfraError, match="lost"), ended_if_idle(60, lambda: False):
        raise InfraError("lost", action="run again")


def work_in(folder: Path) -> ShardWork:
    engine = Engine(ray_idle_timeout_s=1)
    return ShardWork(worker=Squares, arguments={"notes": folder}, stage_folder=folder, fingerprint="f", engine=engine)


def idle_rounds(count: int) -> Callable[..., Iterator[dict[str, Any]]]:
    """Rounds that finish one shard and then wait for ever, ``count`` times; the next computes the rest."""
    begun: list[int] = []

    def outcomes(work: ShardWork, shards: Sequence[Shard], *, retries: int) -> Iterator[dict[str, Any]]:
        begun.append(len(shards))
        for number, shard in enumerate(shards):
            if number == 1 and len(begun) <= count:
                wait_for_ever()
            work.write(work.worker(**work.arguments)(shard), shard)
            yield {"shard": shard["shard"], "outcome": json.dumps({})}

    return outcomes


SHARDS = [{"shard": f"part-{number}", "numbers": [number]} for number in range(1, 6)]


def test_the_rest_of_an_idle_round_is_computed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "_outcomes", idle_rounds(2))
    finished: list[str] = []
    suspects = compute(work_in(tmp_path), SHARDS, attempts=3, finished=lambda shard: finished.append(shard["shard"]))
    assert suspects == []
    assert finished == [shard["shard"] for shard in SHARDS]


def test_a_step_ends_where_ray_idles_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "_outcomes", idle_rounds(9))
    with pytest.raises(InfraError, match="2 shards are not computed: in 3 rounds no worker did anything for 1 s"):
        compute(work_in(tmp_path), SHARDS, attempts=3, finished=lambda _: None)
