"""Isolates keys whose computation ends the worker process, and computes the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from zigong.errors import InfraError
from zigong.fanout.rounds import ShardWork, compute
from zigong.fanout.staged import Shard, read_shard, remove_shard

ISOLATED_ATTEMPTS = 2  # a single death may be accidental
PARTS = 16  # a shard of n keys costs about log(n) / log(PARTS) rounds
MAX_ISOLATED_KEYS = 20  # with more keys than this, the workers themselves are at fault


@dataclass(kw_only=True)
class _Suspect:
    """A shard whose worker died at every attempt, and the state of its keys."""

    shard: Shard
    computed: list[Shard] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def isolate(work: ShardWork, shards: Sequence[Shard], keys_of: Callable[[Shard], Sequence[str]] | None) -> None:
    """Computes suspect shards in ever smaller parts; a single key that ends its worker again is refused.

    In the end each shard is staged completely, as if it had been computed at once, without the refused keys.

    Raises:
        InfraError: the keys are unknown, or more than ``MAX_ISOLATED_KEYS`` keys end their worker.
    """
    if keys_of is None:
        raise InfraError(
            f"{len(shards)} shards end their worker each time, first {shards[0]['shard']}",
            action="read the logs of the cluster (memory is the usual cause), then run the step again: it resumes",
        )
    suspects = {shard["shard"]: _Suspect(shard=shard) for shard in shards}
    open_parts: list[Shard] = [part for shard in shards for part in _parts(shard, shard["shard"], keys_of(shard))]
    while open_parts:
        missing = [part for part in open_parts if work.manifest(part) is None]
        dead = compute(work, missing, attempts=ISOLATED_ATTEMPTS, finished=lambda _: None)
        for part in open_parts:
            if part not in dead:
                suspects[part["of"]].computed.append(part)
        for part in dead:
            if len(part["only"]) == 1:
                suspects[part["of"]].refused += part["only"]
        _require_few([key for suspect in suspects.values() for key in suspect.refused])
        open_parts = [
            smaller for part in dead if len(part["only"]) > 1 for smaller in _parts(part, part["of"], part["only"])
        ]
    for suspect in suspects.values():
        _join(work, suspect)
    work.forget_deaths()


def _parts(shard: Shard, of: str, keys: Sequence[str]) -> list[Shard]:
    """At most ``PARTS`` parts of equal size, in key order."""
    size = -(-len(keys) // PARTS)
    chunks = [list(keys[start : start + size]) for start in range(0, len(keys), size)]
    return [
        {**shard, "shard": f"{shard['shard']}.{index}", "of": of, "only": chunk, "rows": len(chunk)}
        for index, chunk in enumerate(chunks)
    ]


def _require_few(refused: Sequence[str]) -> None:
    if len(refused) > MAX_ISOLATED_KEYS:
        raise InfraError(
            f"{len(refused)} samples end their worker's process, first {refused[0]}: too many to blame the samples",
            action="read the logs of the cluster (memory is the usual cause), then run the step again: it resumes",
        )


def _join(work: ShardWork, suspect: _Suspect) -> None:
    parts = [read_shard(work.stage_folder, part) for part in suspect.computed]
    if parts:
        rows = pa.concat_tables(parts)
        rows = rows.sort_by(rows.column_names[0])
    else:
        rows = pa.table({"key": pa.array([], pa.string())})
    work.write(rows, suspect.shard, refused=suspect.refused)
    for part in suspect.computed:
        remove_shard(work.stage_folder, part)
