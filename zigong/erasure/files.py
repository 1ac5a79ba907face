"""Erases persons from the files of a lakehouse outside its tables: staged files, landing files, artefacts of runs."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zigong.erasure.traces import Traces, files_below, found_in
from zigong.files.atomic import promoted_file, write_text
from zigong.lakehouse.paths import LakehousePaths

REWRITTEN, REDACTED, REMOVED, LEFT = "rewritten", "redacted", "removed", "left"
_TABLES = "tables"
_OWN = ("_landing", "_staging", "_erasures")

IsErased = Callable[[pa.RecordBatch], pa.Array]


def erase_staging(paths: LakehousePaths) -> Counter[str]:
    """Removes every staged file: runs from before an erasure are set back, and newer ones stage again."""
    folder = paths.local("_staging")
    counts = Counter({REMOVED: sum(1 for _ in files_below(folder))})
    shutil.rmtree(folder, ignore_errors=True)
    return counts


def erase_landing(
    paths: LakehousePaths, user_ids: Collection[str], *, identifiers: Collection[str], digest: Callable[[str], str]
) -> Counter[str]:
    """Rewrites the raw files that ZiGong itself generated, without the rows of erased users.

    Args:
        user_ids: pseudonyms.
        identifiers: names of the columns that hold raw ids.
        digest: maps a raw id to its pseudonym.
    """
    wanted = pa.array(sorted(user_ids), pa.string())

    def is_erased(batch: pa.RecordBatch) -> pa.Array:
        erased = pa.array([False] * len(batch))
        for name in identifiers:
            if name in batch.schema.names:
                raw = pc.dictionary_encode(batch.column(name).cast(pa.string()))
                known = pa.array([digest(text) for text in raw.dictionary.to_pylist()], pa.string())
                erased = pc.or_(erased, pc.is_in(known.take(raw.indices), value_set=wanted))
        return erased

    files = [file for file in files_below(paths.local("_landing")) if file.suffix == ".parquet"]
    return Counter({REWRITTEN: sum(without_rows(file, is_erased) for file in files)})


def erase_artefacts(paths: LakehousePaths, traces: Traces) -> Counter[str]:
    """Erases keys from all other files below the root.

    Parquet files lose the rows that contain a key, and text files the key itself. Any other artefact of a run that
    contains one, such as a gradient file with target keys in its header, is removed: only a replay would need it.
    """
    root, done = paths.local(), Counter[str]()
    for file in files_below(root, without=[root / name for name in (_TABLES, *_OWN)]):
        try:
            if found_in(file, traces):
                done[_erased_file(file, traces, below_runs=file.is_relative_to(root / "_runs"))] += 1
        except FileNotFoundError:
            continue  # a job that still runs has removed it
        except pa.ArrowException:
            done[LEFT] += 1  # not complete yet, or broken: the verification reports it
    return done


def without_rows(file: Path, is_erased: IsErased) -> bool:
    """Rewrites a Parquet file without the erased rows; returns whether there were any."""
    opened = pq.ParquetFile(file)
    if not any(pc.any(is_erased(batch)).as_py() for batch in opened.iter_batches()):
        return False
    with promoted_file(file) as partial:
        with pq.ParquetWriter(partial, opened.schema_arrow) as writer:
            for batch in opened.iter_batches():
                writer.write_batch(batch.filter(pc.invert(is_erased(batch))))
        file.with_name(f".{file.name}.crc").unlink(missing_ok=True)  # Hadoop's checksum of the previous content
    return True


def _erased_file(file: Path, traces: Traces, *, below_runs: bool) -> str:
    if file.suffix == ".parquet":
        without_rows(file, lambda batch: _holds_key(batch, traces))
        return REWRITTEN
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        if below_runs:
            file.unlink()
            return REMOVED
        return LEFT  # the verification reports it
    write_text(file, traces.redacted(text))
    return REDACTED


def _holds_key(batch: pa.RecordBatch, traces: Traces) -> pa.Array:
    held = pa.array([False] * len(batch))
    for column in batch.columns:
        held = pc.or_(held, traces.in_array(column))
    return held
