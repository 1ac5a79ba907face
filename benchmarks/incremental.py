"""The cost of a new date and of a corrected partition compared with full builds, by Spark's own metrics.

Runs the job build_sequences on a simulated lender of about 1.5 million events; after each step the rows are compared
with those of a full build. (1) A month is added and its T built from the state. (2) The source corrects its largest day
for 1% of the users, chosen at random; (3) the same for 1% who share one bucket. Before (2) and (3) profiles and points
are written again, as a nightly ingest and labels leave them. Prints a table and merges its figures into
build/bench/sequences.json.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from rich.console import Console
from rich.table import Table

from benchmarks.builders.data import write_input
from benchmarks.builders.ours import open_engine
from benchmarks.spark_metrics import Work, watched
from jobs.build_sequences import build_sequences
from schemas.contracts import table_contract
from schemas.mappings import load_mapping
from zigong.behavior.observation import observation_points
from zigong.behavior.timeline import user_timelines
from zigong.lakehouse.commits import create_if_missing
from zigong.lakehouse.paths import LakehousePaths
from zigong.lakehouse.tables import latest_version, open_pinned
from zigong.recipe import Cohort, load_recipe
from zigong.recipe.population import population_of
from zigong.runs.dates import Dates
from zigong.runs.job import Job
from zigong.runs.run import open_run

HOME = Path(__file__).resolve().parent.parent
FOLDER, OUT = HOME / "build" / "bench" / "data" / "incremental", HOME / "build" / "bench" / "sequences.json"
EVENTS, BUCKETS, THREADS = 1_500_000, 8, 2
FIRST, NEXT, END = date(2025, 11, 1), date(2025, 12, 1), date(2025, 12, 2)  # two T; the simulated log has 36 months
TOUCHED = ("random", "clustered")
READ = ("behavior_events", "user_timelines", "user_sequences", "user_profiles", "observation_points")
SETTINGS = (
    f"lakehouse.root={FOLDER / 'lakehouse'}", "business_timezone=UTC", f"lakehouse.user_buckets={BUCKETS}",
    "as_of=2025-12-02", "observations.train.first=2025-01-01", "observations.train.last=2025-02-01",
    "observations.validation.first=2025-04-01", "observations.validation.last=2025-04-01",
    f"observations.oot.first={FIRST}", f"observations.oot.last={FIRST}", f"observations.score={NEXT}",
)  # fmt: skip
PATHS = LakehousePaths.at(str(FOLDER / "lakehouse"))


@dataclass(frozen=True, kw_only=True)
class Build:
    """A build: Spark's work for it, and the rows it published."""

    work: Work
    published: int


def main(events: int = EVENTS) -> None:
    """Measures and reports."""
    spark = open_engine(THREADS, events)
    log = prepared(spark, events)
    learn(log.where(F.col("known_date") < F.lit(FIRST)), FIRST)
    build("first")
    learn(log, FIRST, NEXT)
    new = log.where((F.col("known_date") >= F.lit(FIRST)) & (F.col("known_date") < F.lit(NEXT))).count()
    builds = dict(zip(("new date", "whole"), compared(spark, "next"), strict=True))
    day = fullest_day(log)
    for name, chosen in (("random", one_in(100)), ("clustered", (F.col("user_bucket") == 0) & one_in(100 / BUCKETS))):
        mend(spark, day, chosen)
        builds[name], _ = compared(spark, name)
    report(builds, new, log.count())
    spark.stop()


def prepared(spark: SparkSession, events: int) -> DataFrame:
    """The log of a simulated lender in the columns of behavior_events, and its profiles in an empty lakehouse."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    write_input(spark, FOLDER, events)
    put(spark.read.parquet(str(FOLDER / "profiles")), "user_profiles", "true")
    return spark.read.parquet(str(FOLDER / "events")).select(
        "*", F.lit(None).cast("string").alias("loan_id"), F.lit("measured").alias("known_at_basis")
    )


def put(frame: DataFrame, table: str, where: str) -> None:
    """Replaces rows of a table, one file per partition."""
    contract = table_contract(table)
    create_if_missing(PATHS, contract)
    rows = frame.select(*contract.column_names)
    spread = rows.repartition(*contract.partitions) if contract.partitions else rows
    spread.write.format("delta").mode("overwrite").option("replaceWhere", where).save(PATHS.table(table))


def learn(log: DataFrame, *days: date) -> None:
    """Ingests a log, and observes everybody who is in it at some dates."""
    first = "true" if days[0] == days[-1] else f"known_date >= DATE'{FIRST}'"
    put(log.where(first), "behavior_events", first)
    timelines, cohort = user_timelines(log, "UTC"), Cohort(open_loan=False)
    points = observation_points(
        timelines,
        dates=days,
        timezone="UTC",
        cohort=cohort,
        mapping=load_mapping("simulated"),
        population=population_of(load_recipe(HOME / "tests" / "tiny.yaml", SETTINGS)),
    )
    put(points, "observation_points", "true")


def mend(spark: SparkSession, day: date, chosen: Column) -> None:
    """The source states one day again, differently for the chosen users; profiles and points are written anew."""
    newest = {table: open_pinned(spark, PATHS, table, latest_version(PATHS, table)) for table in READ}
    stated = F.when(chosen, F.coalesce("days_past_due", F.lit(0)) + 1).otherwise(F.col("days_past_due"))
    corrected = newest["behavior_events"].where(F.col("known_date") == F.lit(day)).withColumn("days_past_due", stated)
    put(corrected, "behavior_events", f"known_date = DATE'{day}'")
    for table in ("user_profiles", "observation_points"):
        put(newest[table], table, "true")


def one_in(share: float) -> Column:
    """About one user in so many, whatever their bucket."""
    return F.pmod(F.xxhash64("user_id"), F.lit(10_000)) < F.lit(round(10_000 / share))


def fullest_day(log: DataFrame) -> date:
    """The known_date before the first T with most rows: a day of statements, which every user has."""
    days = log.where(F.col("known_date") < F.lit(FIRST)).groupBy("known_date").count()
    (row,) = days.orderBy(F.desc("count")).limit(1).collect()
    found: date = row["known_date"]
    return found


def build(run_id: str, *, whole: bool = False) -> int:
    """Runs the job for the dates whose points are there; returns the rows it published."""
    recipe = load_recipe(HOME / "tests" / "tiny.yaml", [*SETTINGS, f"engine.incremental={str(not whole).lower()}"])
    run = open_run(recipe, PATHS.local("_runs"), run_id)
    dates = Dates(first=FIRST, end=NEXT if run_id == "first" else END)
    job = Job(step="build_sequences", run=run, paths=PATHS, dates=dates)
    build_sequences(job)
    published: int = job.tables["user_sequences"]["published"]
    return published


def compared(spark: SparkSession, run_id: str) -> tuple[Build, Build]:
    """An incremental and a full build of the same; different rows stop the benchmark."""
    built = measured(spark, run_id)
    rows = checksum(spark)
    whole = measured(spark, f"{run_id}-whole", whole=True)
    if checksum(spark) != rows:
        raise SystemExit(f"{run_id}: a full build has other rows: the figures are invalid")
    return built, whole


def measured(spark: SparkSession, run_id: str, *, whole: bool = False) -> Build:
    """Runs a build and measures Spark's work for it."""
    published: list[int] = []
    work = watched(spark, lambda: published.append(build(run_id, whole=whole)), tables=READ)
    return Build(work=work, published=published[0])


def checksum(spark: SparkSession) -> tuple[object, ...]:
    """Rows, and the sum of a digest of every row with all its columns: independent of their order."""
    rows = open_pinned(spark, PATHS, "user_sequences", latest_version(PATHS, "user_sequences"))
    # Every map is built by the same code from sorted entries, so equal ones are written alike.
    text = F.to_json(F.struct(*rows.columns), {"timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS"})
    return tuple(rows.agg(F.count("*"), F.sum(F.xxhash64(text).cast("decimal(38,0)"))).collect()[0])


def report(builds: dict[str, Build], new: int, log_rows: int) -> None:
    """A table, and the figures in the flat file.

    The least that the layout allows: the log is laid out by date and not by user, so a correction of a user reads it
    once, and Parquet files are replaced completely, so all rows of a touched cell are read and written. Rows are
    written twice, staged and promoted.
    """
    whole = builds["whole"].work
    table = Table(title=f"builds over {log_rows:,} event versions, two T, {BUCKETS} buckets", title_justify="left")
    for column in ("build", "events read", "least", "sequences read", "written", "least", "shuffle MB", "of whole"):
        table.add_column(column, justify="left" if column == "build" else "right")
    for name, built in builds.items():
        work, least = built.work, {"new date": new}.get(name, log_rows)
        read = (work.scanned["behavior_events"], least, work.scanned["user_sequences"])
        share = work.shuffled_bytes / whole.shuffled_bytes
        written = (work.written_rows, built.published)
        cells = (f"{count:,}" for count in (*read, *written))
        table.add_row(name, *cells, f"{work.shuffled_bytes / 1e6:.2f}", f"{share:.4f}")
    ratios = {name: builds[name].work.shuffled_bytes / whole.shuffled_bytes for name in TOUCHED}
    figures = {
        "incremental_event_rows_ratio": builds["new date"].work.scanned["behavior_events"] / new,
        "touched_shuffle_ratio": max(ratios.values()),
        **{f"touched_shuffle_ratio_{name}": ratio for name, ratio in ratios.items()},
        **{f"touched_event_reads_{name}": builds[name].work.scanned["behavior_events"] / log_rows for name in TOUCHED},
        **{f"touched_rows_{name}": float(builds[name].published) for name in TOUCHED},
    }
    known = json.loads(OUT.read_text(encoding="utf-8")) if OUT.is_file() else {}
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(known | figures, indent=1), encoding="utf-8")
    console = Console(width=110)
    console.print(table)
    for name, value in figures.items():
        console.print(f"{name} {value:.4f}")
    console.print(f"newly known event rows {new:,}; written to {OUT.relative_to(HOME)}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
