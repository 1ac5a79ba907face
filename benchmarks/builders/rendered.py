"""Rendering compared with building, in one process: `rendered.py INPUT OUTPUT YYYY-MM-DD ROUNDS THREADS`.

A round builds the sequences of INPUT and writes them, then renders and encodes what it wrote and writes the samples.
Prints one line of JSON: wall and CPU seconds of the fastest round of each, the events rendered, and of the first batch
of a worker the events, the distinct lines, and the CPU seconds of rendering without Spark.
"""

from __future__ import annotations

import sys
import time
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.builders.clock import measure, print_figures
from benchmarks.builders.ours import open_engine, sequences
from zigong.instructions.build import RenderPlan, instruction_samples
from zigong.instructions.corpus import history_lines
from zigong.instructions.histories import event_columns, events_in, render_histories
from zigong.recipe import Horizon, Instructions
from zigong.training.tokenizer import train_tokenizer

SETTINGS, HORIZON, TIMEZONE = Instructions(), Horizon(window_months=6, dpd_threshold=30), "UTC"
CONTEXT_LENGTH = 1024  # nothing folds: 120 events take about 500 tokens
USERS_OF_THE_TOKENIZER, ROWS_OF_A_BATCH = 20_000, 10_000


def plan_of(tokenizer: Path) -> RenderPlan:
    """The default instructions: amounts, days past due, attributes and the profile."""
    return RenderPlan(
        settings=SETTINGS,
        horizon=HORIZON,
        timezone=TIMEZONE,
        tokenizer_folder=str(tokenizer),
        context_length=CONTEXT_LENGTH,
    )


def write_tokenizer(built: DataFrame, day: date, plan: RenderPlan) -> None:
    """A tokenizer of the words of some users' lines and profiles, as a run trains it for its tiny base."""
    template, some = plan.template, built.limit(USERS_OF_THE_TOKENIZER)
    rendered = history_lines(some, SETTINGS, cutoff=day, timezone=TIMEZONE)
    lines = rendered.select(F.explode("lines").alias("line")).distinct().collect()
    pairs = some.select(F.explode("profile").alias("key", "value")).distinct().collect()
    profiles = [template.profile.format(words=f"{row['key']}={row['value']}") for row in pairs]
    fixed = [template.ask(HORIZON), *template.choices]
    train_tokenizer([*(row["line"] for row in lines), *profiles], fixed).save_pretrained(plan.tokenizer_folder)


def first_batch(built: Path, plan: RenderPlan) -> dict[str, float]:
    """Size and CPU seconds of rendering the first rows of one file, as in a worker."""
    file = pq.ParquetFile(min(built.glob("*.parquet")))
    events = next(file.iter_batches(ROWS_OF_A_BATCH, columns=["events"]))["events"]
    fields = {name: events.values.field(name) for name in event_columns(SETTINGS)}
    fields["event_at"] = fields["event_at"].cast(pa.timestamp("us", tz="UTC"))
    lists = [pa.ListArray.from_arrays(events.offsets, values) for values in fields.values()]
    batch, before = pa.RecordBatch.from_arrays(lists, names=list(fields)), time.process_time()
    rendered = render_histories(
        events_in(batch, event_columns(SETTINGS)), template=plan.template, settings=SETTINGS, zone=ZoneInfo(TIMEZONE)
    )
    cpu = time.process_time() - before
    return {"batch_events": len(rendered.codes), "batch_lines": len(rendered.lines), "batch_cpu": cpu}


def fastest(rounds: list[dict[str, float]]) -> dict[str, float]:
    """The lowest wall and the lowest CPU seconds."""
    return {name: min(found[name] for found in rounds) for name in ("wall", "cpu")}


def measured(spark: SparkSession, source: str, target: Path, day: date, rounds: int) -> dict[str, float]:
    """Builds and renders in turn; the first round, in which Spark compiles its code, counts as the others."""
    built, samples, plan = target / "sequences", target / "samples", plan_of(target / "tokenizer")

    def build() -> None:
        made = sequences(spark, source, day, SETTINGS.max_events)
        made.write.mode("overwrite").parquet(str(built))

    def render() -> None:
        instruction_samples(spark.read.parquet(str(built)), plan).write.mode("overwrite").parquet(str(samples))

    built_in, rendered_in = [], []
    for number in range(rounds):
        built_in.append(measure(build))
        if number == 0:
            write_tokenizer(spark.read.parquet(str(built)), day, plan)
        rendered_in.append(measure(render))
        print(built_in[-1], rendered_in[-1], file=sys.stderr, flush=True)
    kept = spark.read.parquet(str(built)).agg(F.sum("counts.kept").alias("events")).collect()[0]["events"]
    return {
        "events": kept,
        **{f"build_{name}": value for name, value in fastest(built_in).items()},
        **{f"render_{name}": value for name, value in fastest(rendered_in).items()},
        **first_batch(built, plan),
    }


def main(source: str, target: str, day: str, rounds: str, threads: str) -> None:
    """Measures and reports."""
    spark = open_engine(int(threads), int(Path(source, "count").read_text()))
    print_figures(measured(spark, source, Path(target), date.fromisoformat(day), int(rounds)))
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
