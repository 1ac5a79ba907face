"""Metrics of a step in Prometheus' text format: rows, bytes, seconds and freshness, one file for each step of a run.

They are written to ``prometheus/STEP.prom`` in the run's folder and, where ``ZIGONG_PUSHGATEWAY`` names one, pushed to
a Pushgateway as those of the recipe's step: a later run of the step takes the place of the former one.
"""

from __future__ import annotations

import os
from datetime import datetime
from typing import TYPE_CHECKING

from deltalake import DeltaTable

from zigong.lakehouse.cells import live_files
from zigong.lakehouse.lineage import newest_instant

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from zigong.runs.job import Job
    from zigong.runs.run import Outcome

FOLDER, GATEWAY = "prometheus", "ZIGONG_PUSHGATEWAY"
KINDS = ("rows_in", "published", "quarantined", "outside")
KNOWN_AT = {"behavior_events": "known_at", "user_profiles": "known_at"}  # when their newest row became known
_STEP, _TABLE = ("recipe", "step"), ("recipe", "step", "table")


def publish_metrics(job: Job, outcome: Outcome) -> None:
    """Writes the metrics of a step that has ended, and pushes them; a gateway that fails never ends a step."""
    from prometheus_client import push_to_gateway, write_to_textfile

    registry = _measured(job, outcome)
    folder = job.run.folder / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    write_to_textfile(str(folder / f"{job.step}.prom"), registry)
    if gateway := os.environ.get(GATEWAY):
        named = {"recipe": job.recipe.name, "step": job.step}
        try:
            push_to_gateway(gateway, job="zigong", grouping_key=named, registry=registry, timeout=10)
        except OSError as error:
            job.warn(f"metrics were not pushed to the gateway of {GATEWAY}: {type(error).__name__}")


def _measured(job: Job, outcome: Outcome) -> CollectorRegistry:
    from prometheus_client import CollectorRegistry, Gauge

    registry, where = CollectorRegistry(), (job.recipe.name, job.step)

    def gauge(name: str, text: str, labels: tuple[str, ...] = _STEP) -> Gauge:
        return Gauge(f"zigong_{name}", text, labels, registry=registry)

    gauge("step_success", "1 where the step ended well, 0 where it failed").labels(*where).set(outcome.code == 0)
    gauge("step_seconds", "how long the step took").labels(*where).set(outcome.seconds)
    began = datetime.fromisoformat(outcome.started_at).timestamp()
    gauge("step_end_seconds", "when the step ended, Unix time").labels(*where).set(began + outcome.seconds)
    rows = gauge("rows", "rows of the step, by what became of them", (*_TABLE, "kind"))
    size = gauge("table_bytes", "size of the version that the step wrote", _TABLE)
    files = gauge("table_files", "files of the version that the step wrote", _TABLE)
    known = gauge("newest_known_seconds", "when the newest row of the table became known, Unix time", _TABLE)
    for table, counts in outcome.tables.items():
        for kind in KINDS:
            rows.labels(*where, table, kind).set(counts[kind])
        rows.labels(*where, table, "dropped").set(sum(counts["dropped"].values()))
        if counts.get("version") is None:
            continue
        live = live_files(DeltaTable(job.paths.table(table), version=counts["version"]))
        size.labels(*where, table).set(sum(file.size for file in live))
        files.labels(*where, table).set(len(live))
        if table in KNOWN_AT:
            newest = newest_instant(job.paths, table, counts["version"], KNOWN_AT[table])
            if newest is not None:
                known.labels(*where, table).set(newest.timestamp())
    return registry
