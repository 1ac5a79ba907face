"""Data Docs, verdicts and references contain aggregates only, and no value of a client."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from schemas.contracts import table_contract
from tests.support.finished import FinishedRun
from tests.support.points import CELLS, POINTS, job_at, points
from zigong.errors import DataError
from zigong.lakehouse.tables import arrow_pinned
from zigong.quality.data_docs import build_docs
from zigong.quality.measures import Measurement
from zigong.quality.suite import evaluated, open_context
from zigong.quality.verdict import pending_results

MARKER = "mkr7f3a"
FETCHED = re.compile(
    r"""<(?:script|link|img|iframe)\b[^>]*(?:src|href)=["']?(?:https?:)?//|url\(["']?https?:""", re.IGNORECASE
)


def texts(folder: Path) -> dict[Path, str]:
    """Every file below a folder as text."""
    return {file: file.read_text(errors="replace") for file in folder.rglob("*") if file.is_file()}


def test_no_page_contains_planted_markers_of_good_or_broken_rows(spark: SparkSession, tmp_path: Path) -> None:
    good = points(spark, [f"{MARKER}{number}" for number in range(30)], last_event_type=MARKER)
    warned = good.withColumn("days_past_due", F.lit(7))
    refused = points(spark, [f"{MARKER}-x"], eligible=False, last_event_type=MARKER)
    job_at(tmp_path, "passed").publish(POINTS, warned.unionByName(refused), cells=CELLS)
    with pytest.raises(DataError, match="key_is_unique"):
        job_at(tmp_path, "blocked").publish(POINTS, good.unionByName(good), cells=CELLS)

    for name in ("passed", "blocked"):
        folder = tmp_path / "_runs" / name / "quality"
        page = build_docs(open_context(folder))
        assert page is not None
        files = texts(folder)
        pages = {file: text for file, text in files.items() if file.suffix == ".html"}
        assert any("key_is_unique" in text for text in pages.values())
        assert [file for file, text in pages.items() if FETCHED.search(text)] == []
        assert [file for file, text in files.items() if MARKER in text] == []
    assert [file for file, text in texts(tmp_path / "_quality").items() if MARKER in text] == []


def test_the_index_links_to_the_results_of_each_table_and_pages_describe_the_rules(tmp_path: Path) -> None:
    context = open_context(tmp_path / "quality")
    rules = {"last_event_before_t": 3.0, "key_is_unique": 0.0, "few_rows_are_refused": 0.5}
    contract = table_contract(POINTS)
    results = pending_results(
        [rule for rule in contract.rules if rule.name in rules],
        {name: Measurement(value=value, observed=value) for name, value in rules.items()},
    )
    evaluated(context, POINTS, results, run_id="night")
    index = build_docs(context)
    assert index is not None
    (row,) = re.findall(r"<tr><td>(.*?)</tr>", index.read_text())
    (page,) = re.findall(r'href="([^"]+)"', row)
    assert f">{POINTS}</a></td><td>night</td>" in row
    assert row.endswith('<td class="n">3</td><td class="n broken">1</td>')
    page_text = " ".join((index.parent / page).read_text().split())
    assert "(allowed: at most 0.05)" in page_text
    assert "(allowed: no broken row is kept)" in page_text
    assert "maximum value must be" not in page_text


def test_the_index_shows_when_a_table_was_evaluated_whatever_the_run_id(tmp_path: Path) -> None:
    context = open_context(tmp_path / "quality")
    rule = next(rule for rule in table_contract(POINTS).rules if rule.name == "key_is_unique")
    results = pending_results([rule], {rule.name: Measurement(value=0.0, observed=0.0)})
    before = datetime.now(UTC).replace(microsecond=0)
    for run_id in ("demo-20230102T030405", "2021-06-07"):
        evaluated(context, POINTS, results, run_id=run_id)
    index = build_docs(context)
    assert index is not None
    times = re.findall(r"<td>(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)</td>", index.read_text())
    assert len(times) == 2
    for text in times:
        assert before <= datetime.fromisoformat(f"{text}+00:00") <= datetime.now(UTC)


def test_a_verdict_file_lists_every_rule_with_fingerprint_and_observation(tiny_run: FinishedRun) -> None:
    folder = tiny_run.run.folder / "quality" / "verdicts"
    content = json.loads((folder / "behavior_events.json").read_text())
    assert (content["verdict"], content["run_id"]) == ("passed", tiny_run.run_id)
    rules = {item["rule"]: item for item in content["results"]}
    assert rules["has_rows"]["observed"] == content["rows_kept"] > 0
    assert len({item["fingerprint"] for item in content["results"]}) == len(rules)
    assert rules["as_many_rows_as_before"]["note"] == "no earlier verdict to compare with"
    assert json.loads((folder / "dataset.json").read_text())["verdict"] == "passed"


@pytest.mark.soak
def test_the_quality_folder_of_a_real_run_contains_no_client_data(tiny_run: FinishedRun) -> None:
    versions = tiny_run.run.manifest()["tables"]
    columns = ["sample_id", "sequence_id", "user_id", "person_id", "prompt"]
    samples = arrow_pinned(
        tiny_run.paths, "instruction_samples", versions["instruction_samples"], columns=columns
    ).to_pylist()
    lines = {line for row in samples for line in row["prompt"].splitlines() if len(line) > 12}
    secret = {row[name] for row in samples for name in columns[:4]} | lines
    assert len(secret) > 100
    folder = tiny_run.run.folder / "quality"
    build_docs(open_context(folder))
    files = texts(folder)
    assert any(file.suffix == ".html" for file in files)
    content = "\n".join(files.values())
    assert [value for value in secret if value in content] == []
