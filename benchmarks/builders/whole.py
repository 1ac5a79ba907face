"""The sequences of `ours.py` in all columns of their contract: `whole.py INPUT OUTPUT YYYY-MM-DD THREADS`."""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.builders.clock import measure_warm, print_figures
from benchmarks.builders.ours import open_engine, sequences
from schemas.contracts import table_contract


def main(source: str, target: str, day: str, threads: str) -> None:
    """Builds twice and reports."""
    spark = open_engine(int(threads), int(Path(source, "count").read_text()))
    columns = table_contract("user_sequences").column_names

    def build() -> None:
        built = sequences(spark, source, date.fromisoformat(day))
        built.select(*columns).write.mode("overwrite").parquet(target)

    print_figures(measure_warm(build))
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
