"""Verifies that no key of an erased user is left on disk; planted keys prove that the search works."""

from __future__ import annotations

import json
import multiprocessing
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from zigong.erasure.traces import SHORTEST_RAW_ID, Traces, files_below, found_in
from zigong.errors import DataError
from zigong.lakehouse.erasures import erasures_folder
from zigong.lakehouse.paths import LakehousePaths

FILES_A_TASK = 64
_PLANTED = ("planted.json", "planted.parquet")
_NESTED = pa.list_(pa.struct([("attributes", pa.map_(pa.string(), pa.string()))]))


@dataclass(frozen=True, kw_only=True)
class ErasureVerification:
    """The result of a verification.

    Attributes:
        files: number of files read, Parquet decoded.
        keys: number of pseudonyms and raw ids searched for.
        too_short: raw ids too short to be searched for; their pseudonyms were.
        left: by file, the number of keys it still contains.
        unread: files that cannot be read: jobs that run meanwhile are still writing them, or they are broken.
    """

    files: int
    keys: int
    too_short: int
    left: dict[Path, int]
    unread: tuple[Path, ...] = ()


def verify_erased(paths: LakehousePaths, traces: Traces) -> ErasureVerification:
    """Reads every file below the root of a lakehouse, whether a table refers to it or not, in several processes.

    Jobs may run meanwhile: what they remove is left out, and what they have not finished is reported as unread.

    Raises:
        DataError: the planted keys were not found, so the verification proves nothing.
    """
    root = paths.local()
    planted = Traces(
        pseudonyms=frozenset({secrets.token_hex(32)}), raw_ids=frozenset({f"planted-{secrets.token_hex(8)}"})
    )
    folder = erasures_folder(root) / f"planted-{secrets.token_hex(4)}"
    wanted = replace(
        traces,
        pseudonyms=traces.pseudonyms | planted.pseudonyms,
        raw_ids=traces.raw_ids | planted.raw_ids,
        _anchors={},
    )
    try:
        _plant(folder, planted)
        found = dict(_searched([*files_below(root)], wanted))
    finally:
        shutil.rmtree(folder)
    plants = {*planted.pseudonyms, *planted.raw_ids}
    seen = {file.name: keys for file, keys in found.items() if file.parent == folder}
    missed = [name for name in _PLANTED if seen.get(name) != plants]
    if missed:
        raise DataError(f"the verification did not find planted keys in {', '.join(missed)}", action="report this")
    kept = {file: keys for file, keys in found.items() if file.parent != folder and keys is not None}
    return ErasureVerification(
        files=len(kept),
        keys=len(traces.pseudonyms) + len(traces.raw_ids),
        too_short=sum(1 for raw_id in traces.raw_ids if len(raw_id) < SHORTEST_RAW_ID),
        left={file: len(keys) for file, keys in kept.items() if keys},
        unread=tuple(sorted(file for file, keys in found.items() if keys is None)),
    )


def _searched(files: Sequence[Path], wanted: Traces) -> Iterator[tuple[Path, set[str] | None]]:
    """Each file that still exists with the keys in it, None if it cannot be read."""
    workers = max(1, min(len(os.sched_getaffinity(0)), len(files) // FILES_A_TASK))
    if workers == 1:
        yield from _found(files, wanted)
        return
    tasks = [files[place : place + FILES_A_TASK] for place in range(0, len(files), FILES_A_TASK)]
    # Not by fork: this process has threads, of the JVM's gateway among others.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _take, (wanted,)) as pool:
        for found in pool.map(_found, tasks):
            yield from found


_wanted = Traces(pseudonyms=frozenset())  # of a worker process, so that the keys are sent to it once


def _take(wanted: Traces) -> None:
    global _wanted  # noqa: PLW0603
    _wanted = wanted


def _found(files: Sequence[Path], wanted: Traces | None = None) -> list[tuple[Path, set[str] | None]]:
    traces = wanted or _wanted
    found: list[tuple[Path, set[str] | None]] = []
    for file in files:
        try:
            found.append((file, found_in(file, traces)))
        except FileNotFoundError:
            continue  # a job has removed it since it was listed
        except (pa.ArrowException, OSError):
            found.append((file, None))
    return found


def _plant(folder: Path, planted: Traces) -> None:
    """Writes the planted keys to a text file and into nested columns of a Parquet file."""
    folder.mkdir(parents=True)
    keys = sorted(planted.pseudonyms | planted.raw_ids)
    text, table = _PLANTED
    (folder / text).write_text(json.dumps(keys), encoding="utf-8")
    rows = [[{"attributes": [("word", key)]}] for key in keys]
    pq.write_table(pa.table({"events": pa.array(rows, _NESTED)}), folder / table)
