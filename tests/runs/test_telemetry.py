"""What a step tells other systems: OpenLineage events and Prometheus metrics, as files and over the network."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pyspark.sql import SparkSession

from tests.support.finished import REPOSITORY
from tests.support.points import CELLS, POINTS, job_at, points
from zigong.errors import DataError
from zigong.runs.job import Job
from zigong.runs.launch import run_step
from zigong.runs.lineage_events import run_uuid


def samples(text: str) -> dict[tuple[str, ...], float]:
    """By name and labels other than recipe and step, the value."""
    return {
        (sample.name, *(value for key, value in sorted(sample.labels.items()) if key not in {"recipe", "step"})): (
            sample.value
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@contextmanager
def receiver() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """The address of a server on loopback, and the path and body of every request that it gets."""
    got: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def do_PUT(self) -> None:
            self.do_POST()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", got
        server.shutdown()


def test_a_step_leaves_its_lineage_and_its_metrics(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = job_at(tmp_path, "told").run
    users = [f"u{number}" for number in range(40)]

    def first(job: Job) -> None:
        job.publish(POINTS, points(spark, users).unionByName(points(spark, ["c"], eligible=False)), cells=CELLS)

    def second(job: Job) -> None:
        job.read(POINTS)
        raise DataError("the input is bad", action="mend it")

    assert run_step("build_labels", first, run).kind == "ok"
    assert run_step("build_sequences", second, run).kind == "data"

    events = [json.loads(line) for line in (run.folder / "lineage.jsonl").read_text().splitlines()]
    assert [(event["job"]["name"].rpartition(".")[2], event["eventType"]) for event in events] == [
        ("build_labels", "START"),
        ("build_labels", "COMPLETE"),
        ("build_sequences", "START"),
        ("build_sequences", "FAIL"),
    ]
    (wrote,), (read,) = events[1]["outputs"], events[3]["inputs"]
    assert (wrote["namespace"], wrote["name"]) == ("file", str(tmp_path / "tables" / POINTS))
    assert (wrote["facets"]["version"]["datasetVersion"], wrote["outputFacets"]["outputStatistics"]["rowCount"]) == (
        "1",
        40,
    )
    assert (read["name"], read["facets"]["version"]["datasetVersion"]) == (wrote["name"], "1")
    assert events[3]["run"]["facets"]["errorMessage"]["message"] == "the input is bad"
    assert events[0]["run"]["runId"] == events[1]["run"]["runId"] != events[2]["run"]["runId"]
    assert {event["run"]["facets"]["parent"]["run"]["runId"] for event in events} == {
        str(run_uuid(str(tmp_path), "told"))
    }

    figures = samples((run.folder / "prometheus" / "build_labels.prom").read_text())
    assert figures["zigong_step_success",] == 1
    assert (figures["zigong_rows", "published", POINTS], figures["zigong_rows", "quarantined", POINTS]) == (40, 1)
    assert (figures["zigong_table_files", POINTS], figures["zigong_table_bytes", POINTS] > 1000) == (1, True)
    listed = (REPOSITORY / "docs/operations.md").read_text(encoding="utf-8").partition("## Lineage and metrics")[2]
    documented = set(re.findall(r"zigong_[a-z_]+", listed.partition("\n## ")[0]))
    assert {name for name, *_ in figures} | {"zigong_newest_known_seconds"} == documented
    failed = samples((run.folder / "prometheus" / "build_sequences.prom").read_text())
    assert failed["zigong_step_success",] == 0

    with receiver() as (address, got):
        monkeypatch.setenv("OPENLINEAGE_URL", address)
        monkeypatch.setenv("ZIGONG_PUSHGATEWAY", address)
        assert run_step("build_features", lambda _: None, run).warnings == []
    sent = [json.loads(body)["eventType"] for path, body in got if path == "/api/v1/lineage"]
    assert sent == ["START", "COMPLETE"]
    (pushed,) = [(path, body) for path, body in got if path.startswith("/metrics/job/zigong")]
    assert "step/build_features" in pushed[0]
    assert samples(pushed[1].decode())["zigong_step_success",] == 1
    assert len((run.folder / "lineage.jsonl").read_text().splitlines()) == len(events)


def test_systems_that_do_not_answer_leave_a_warning_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = job_at(tmp_path, "untold").run
    nobody = "http://127.0.0.1:9"  # the port that discards: nothing listens
    monkeypatch.setenv("OPENLINEAGE_URL", nobody)
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__RETRY__TOTAL", "0")
    monkeypatch.setenv("ZIGONG_PUSHGATEWAY", nobody)
    done = run_step("build_features", lambda _: None, run)
    assert done.kind == "ok"
    assert len([text for text in done.warnings if "lineage event was not sent" in text]) == 2
    assert "metrics were not pushed to the gateway of ZIGONG_PUSHGATEWAY" in "".join(done.warnings)
    recorded = run.outcome("build_features")
    assert recorded is not None
    assert recorded.warnings == done.warnings
