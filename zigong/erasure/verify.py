"""Verifies that no key of an erased user is left on disk; planted keys prove that the search works."""

from __future__ import annotations

import json
import secrets
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from zigong.erasure.traces import SHORTEST_RAW_ID, Traces, files_below, found_in
from zigong.errors import DataError
from zigong.lakehouse.erasures import erasures_folder
from zigong.lakehouse.paths import LakehousePaths

_NESTED = pa.list_(pa.struct([("attributes", pa.map_(pa.string(), pa.string()))]))


@dataclass(frozen=True, kw_only=True)
class ErasureVerification:
    """The result of a verification.

    Attributes:
        files: number of files read, Parquet decoded.
        keys: number of pseudonyms and raw ids searched for.
        too_short: raw ids too short to be searched for; their pseudonyms were.
        left: by file, the number of keys it still contains.
    """

    files: int
    keys: int
    too_short: int
    left: dict[Path, int]


def verify_erased(paths: LakehousePaths, traces: Traces) -> ErasureVerification:
    """Reads every file below the root of a lakehouse, whether a table refers to it or not.

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
        found = {file: found_in(file, wanted) for file in files_below(root)}
    finally:
        shutil.rmtree(folder)
    plants = planted.pseudonyms | planted.raw_ids
    missed = [file.name for file, keys in found.items() if file.parent == folder and keys != plants]
    if missed:
        raise DataError(f"the verification did not find planted keys in {', '.join(missed)}", action="report this")
    kept = {file: keys for file, keys in found.items() if file.parent != folder}
    return ErasureVerification(
        files=len(kept),
        keys=len(traces.pseudonyms) + len(traces.raw_ids),
        too_short=sum(1 for raw_id in traces.raw_ids if len(raw_id) < SHORTEST_RAW_ID),
        left={file: len(keys) for file, keys in kept.items() if keys},
    )


def _plant(folder: Path, planted: Traces) -> None:
    """Writes the planted keys to a text file and into nested columns of a Parquet file."""
    folder.mkdir(parents=True)
    keys = sorted(planted.pseudonyms | planted.raw_ids)
    (folder / "planted.json").write_text(json.dumps(keys), encoding="utf-8")
    rows = [[{"attributes": [("word", key)]}] for key in keys]
    pq.write_table(pa.table({"events": pa.array(rows, _NESTED)}), folder / "planted.parquet")
