"""The folders in which attempts of a run stage rows before they are promoted: each attempt has its own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zigong.lakehouse.paths import LakehousePaths


@contextmanager
def staged_files(paths: LakehousePaths, stage: str, table: str) -> Iterator[str]:
    """Removes staged files on success and on failure: a rerun stages again, and a full disk needs the space."""
    try:
        yield stage
    finally:
        if paths.is_local:
            for name in (table, f"{table}.no"):
                shutil.rmtree(Path(paths.staging(f"{stage}/{name}")), ignore_errors=True)


def staging_name(run_id: str, token: int) -> str:
    """The folder, below the staging area, of one attempt of a run: no other attempt writes or removes its files."""
    return f"{run_id}/attempt-{token:06d}"


def remove_former_staging(paths: LakehousePaths, run_id: str, token: int) -> None:
    """Removes what killed attempts of a run have left staged."""
    if paths.is_local:
        own = Path(paths.staging(staging_name(run_id, token)))
        for folder in own.parent.glob("attempt-*"):
            if folder.name < own.name:
                shutil.rmtree(folder, ignore_errors=True)
