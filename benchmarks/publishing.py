"""A publish by the one committer beside staging and Delta's own replaceWhere: seconds and bytes of the same rows.

`publishing.py [EVENTS]`: builds the sequences of a simulated lender of about that many events once, and publishes them
in turns both ways, with the same audit. Prints a table and merges its figures into build/bench/platform.json.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from rich.console import Console
from rich.table import Table

from benchmarks.builders.data import write_input
from benchmarks.builders.ours import open_engine, sequences
from schemas.contracts import table_contract
from zigong.lakehouse.commits import create_if_missing
from zigong.lakehouse.few_files import gathered
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.publish import Rules, publish
from zigong.quality.audit import contract_rules
from zigong.quality.measures import AuditContext

HOME = Path(__file__).resolve().parent.parent
FOLDER, OUT = HOME / "build" / "bench" / "data" / "platform", HOME / "build" / "bench" / "platform.json"
TABLE, DAY, CELLS = "user_sequences", date(2025, 11, 1), "population = 'c1'"
EVENTS, THREADS, TURNS = 10_000_000, 2, 3


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What publishes have cost.

    Attributes:
        seconds: of each turn.
        written: bytes of all files that one publish wrote below the lakehouse.
        published: bytes of the files of the published version.
    """

    seconds: list[float]
    written: int
    published: int


def main(events: int = EVENTS) -> None:
    """Measures and reports."""
    spark = open_engine(THREADS, events)
    source = FOLDER / str(events)
    if not (source / "count").is_file():
        write_input(spark, source, events)
    built = source / "built"
    if not (built / "_SUCCESS").is_file():
        rows = sequences(spark, str(source), DAY, max_events=400)
        rows.select(*table_contract(TABLE).column_names).write.mode("overwrite").parquet(str(built))
    frame = spark.read.parquet(str(built))
    ways = {"one committer": committed, "staged, then replaceWhere": replaced}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    costs = {}
    for turn in range(TURNS):
        for name, way in ways.items():
            root = FOLDER / "lakehouse"
            shutil.rmtree(root, ignore_errors=True)
            seconds[name].append(timed(partial(way, spark, root, frame, f"r{turn}")))
            costs[name] = Cost(seconds=seconds[name], written=written(root), published=published(root))
    report(costs, int((source / "count").read_text()), frame.count())
    shutil.rmtree(FOLDER / "lakehouse")
    spark.stop()


def rules_of(root: Path, run_id: str) -> Rules:
    """The rules of the contract, evaluated as of nothing."""
    return contract_rules(root / "_runs" / run_id, AuditContext(run_id=run_id))


def committed(spark: SparkSession, root: Path, frame: DataFrame, run_id: str) -> None:
    """A publish as jobs make it."""
    paths = LakehousePaths.at(str(root))
    publish(spark, paths, frame, table=TABLE, cells=CELLS, run_id=run_id, step="bench", rules=rules_of(root, run_id))


def replaced(spark: SparkSession, root: Path, frame: DataFrame, run_id: str) -> None:
    """Staging in a folder of its own, the same audit, and a commit by Spark, which writes the rows again."""
    contract, rules, paths = table_contract(TABLE), rules_of(root, run_id), LakehousePaths.at(str(root))
    create_if_missing(paths, contract)
    stage = str(root / "_staging" / run_id / TABLE)
    rules.conform(frame, contract).write.mode("overwrite").parquet(stage)
    staged = spark.read.parquet(stage)
    verdict = rules.audit(staged, contract, rejected=0, dropped=0)
    if not verdict.passed:
        raise SystemExit(str(verdict.failures))
    good = staged.where(F.size(rules.reasons) == 0).select(*contract.column_names)
    writer = gathered(good, contract.partitions).write.format("delta").mode("overwrite").option("replaceWhere", CELLS)
    writer.save(paths.table(TABLE))


def timed(work: Callable[[], None]) -> float:
    """Seconds that work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def written(root: Path) -> int:
    """Bytes of the Parquet files of rows below a lakehouse; nothing was removed since the publish began."""
    files = [file for file in root.rglob("*.parquet") if "_delta_log" not in file.parts]
    return sum(file.stat().st_size for file in files if f"/tables/{TABLE}/" in str(file) or "_staging" in file.parts)


def published(root: Path) -> int:
    """Bytes of the files of the newest version."""
    opened = DeltaTable(LakehousePaths.at(str(root)).table(TABLE))
    return sum(Path(uri).stat().st_size for uri in opened.file_uris())


def report(costs: dict[str, Cost], events: int, rows: int) -> None:
    """The table, and the figures."""
    table = Table(title=f"publish of {rows:,} sequences of {events:,} events", title_justify="left")
    for column in ("way", "seconds, median", "of each turn", "MB written", "MB published", "written / published"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for name, cost in costs.items():
        cells = (f"{median(cost.seconds):.1f}", " ".join(f"{second:.1f}" for second in cost.seconds))
        sizes = (f"{cost.written / 1e6:.1f}", f"{cost.published / 1e6:.1f}", f"{cost.written / cost.published:.3f}")
        table.add_row(name, *cells, *sizes)
    Console(width=110).print(table)
    ours, former = costs.values()
    figures = json.loads(OUT.read_text()) if OUT.is_file() else {}
    figures |= {
        "publish_events": events,
        "publish_rows": rows,
        "bytes_written_per_published": ours.written / ours.published,
        "bytes_written_per_published_before": former.written / former.published,
        "publish_seconds": median(ours.seconds),
        "publish_seconds_before": median(former.seconds),
        "publish_seconds_vs_before": median(ours.seconds) / median(former.seconds),
    }
    OUT.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
