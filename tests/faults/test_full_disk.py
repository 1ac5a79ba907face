"""A full disk: a named error, the published version remains readable, and the same run resumes later."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.support.shop import GOOD, HEADER, Shop, accounted


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # a table may still be held open


@pytest.mark.soak
def test_a_full_disk_is_an_infra_error_and_the_same_run_resumes_once_there_is_space(
    spark: SparkSession, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", 48):
        shop = Shop(tmp_path, tmp_path / "disk" / "lake", count())
        assert shop.ingest({"rows.csv": GOOD}, "rows.csv").kind == "ok"
        before, filler = shop.published(), tmp_path / "disk" / "filler"
        larger = HEADER + b"".join(b"r%d,c%d,1,2023-03-25,order,%d,\n" % (n, n, n * n % 9973) for n in range(20_000))

        fill(filler, spare=400_000)
        outcome = shop.ingest({"rows.csv": larger}, "rows.csv", run_id="full")

        assert (outcome.kind, outcome.code, outcome.retryable) == ("infra", 5, True), outcome.message
        assert "No space left on device" in outcome.message
        assert "same run id" in outcome.action
        assert shop.published() == before
        assert not list((shop.root / "_staging").rglob("*.parquet"))
        recorded = shop.root / "_runs" / "full" / "outcome.json"  # may be missing where not even it found space
        assert not recorded.exists() or json.loads(recorded.read_text())["kind"] == "infra"
        assert not list(recorded.parent.rglob("*.part"))

        filler.unlink()
        again = shop.ingest({"rows.csv": larger}, "rows.csv", run_id="full")
        assert (again.kind, accounted(again)) == ("ok", True), again.message
        assert json.loads(recorded.read_text())["kind"] == "ok"
        assert len(shop.published()["behavior_events"][1]) == 20_000


def fill(file: Path, *, spare: int) -> None:
    """Takes all of a disk but ``spare`` bytes."""
    free = os.statvfs(file.parent)
    with file.open("wb") as filler:
        os.posix_fallocate(filler.fileno(), 0, free.f_bavail * free.f_frsize - spare)
