"""Valid sequences with planted faults, and their counts: `planted.py BUILT OUTPUT EVENTS THREADS`.

Most rows stay sound. A few of each 1,000 get a fault, chosen by a hash of their key, so that every run plants the same.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from benchmarks.builders.clock import measure, print_figures
from benchmarks.builders.ours import open_engine
from benchmarks.validators import PLANTED_ROWS_OF_A_KEY, contract

SLOT, SLOTS = "_slot", 1000
# The fault of the rows of a slot, and the rules that it breaks.
FAULTS = {
    "no key": ("population_is_present", "sequence_id_is_present"),
    "no user": ("user_id_is_present",),
    "no profile": ("profile_is_present",),
    "no events": ("events_is_present",),
    "no certificate": ("certificate_is_present",),
    "certificate after T": ("certificate_before_t",),
    "folding does not add up": ("nothing_is_lost_in_folding",),
    "no person, and folding does not add up": ("person_id_is_present", "nothing_is_lost_in_folding"),
    "twice": ("key_is_unique",),
}


def with_slots(built: DataFrame, slots: int = SLOTS) -> DataFrame:
    """Adds the slot of every row: the first ones, in the order of ``FAULTS``, get a fault."""
    return built.withColumn(SLOT, F.pmod(F.xxhash64("sequence_id"), F.lit(slots)))


def planted(slotted: DataFrame) -> DataFrame:
    """The rows in the columns of the contract, with their faults."""
    counts, certificate = F.col("counts"), F.col("certificate")
    late = certificate.withField("max_known_at", F.col("observation_at"))
    lost = counts.withField("folded", counts["folded"] + 1)
    faults = {
        "population": _gone("population", "no key"),
        "sequence_id": _gone("sequence_id", "no key"),
        "user_id": _gone("user_id", "no user"),
        "person_id": _gone("person_id", "no person, and folding does not add up"),
        "profile": _gone("profile", "no profile"),
        "events": _gone("events", "no events"),
        "counts": F.when(_in("folding does not add up", "no person, and folding does not add up"), lost).otherwise(
            counts
        ),
        "certificate": F.when(_in("certificate after T"), late).otherwise(_gone("certificate", "no certificate")),
    }
    copies = F.array_repeat(F.lit(0), F.when(_in("twice"), PLANTED_ROWS_OF_A_KEY).otherwise(1))
    return slotted.withColumns(faults).select(*contract().column_names, F.explode(copies)).drop("col")


def planted_counts(slotted: DataFrame) -> dict[str, int]:
    """Violations of each rule, counted from the slots."""
    rows = {row[SLOT]: row["count"] for row in slotted.groupBy(SLOT).count().collect()}
    found: dict[str, int] = {}
    for number, rules in enumerate(FAULTS.values()):
        for rule in rules:
            found[rule] = found.get(rule, 0) + rows.get(number, 0)
    return found


def _in(*faults: str) -> Column:
    return F.col(SLOT).isin(*(list(FAULTS).index(fault) for fault in faults))


def _gone(column: str, fault: str) -> Column:
    return F.when(~_in(fault), F.col(column))


def main(source: str, target: str, events: str, threads: str) -> None:
    """Plants the faults, and writes their counts next to the rows."""
    spark = open_engine(int(threads), int(events))
    slotted = with_slots(spark.read.parquet(source))
    print_figures(measure(lambda: planted(slotted).write.mode("overwrite").parquet(f"{target}/sequences")))
    Path(target, "planted.json").write_text(json.dumps(planted_counts(slotted)))
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
