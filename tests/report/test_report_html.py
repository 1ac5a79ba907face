from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from zigong.errors import ConfigError
from zigong.evaluation.bootstrap import Interval
from zigong.report.run_report import (
    DataQuality,
    HeldOut,
    RunReport,
    Share,
    StepRow,
    TableRow,
)
from zigong.report.write_report import report_html, write_report

ATTACK = "<script>alert(1)</script>\"'><img src=http://evil.test/x onerror=steal()>{{ 7*191 }}"
VOID = {"meta", "br"}


class _Page(HTMLParser):
    """Collects tags, attributes and text, and checks that tags close in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def _everywhere(value: Any, change: Any) -> Any:
    """Applies a change to every string of a value tree, keys included."""
    if isinstance(value, str):
        return change(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **{name: _everywhere(item, change) for name, item in fields.items()})
    if isinstance(value, Mapping):
        return {_everywhere(key, change): _everywhere(item, change) for key, item in value.items()}
    return tuple(_everywhere(item, change) for item in value) if isinstance(value, tuple) else value


def test_the_report_is_self_contained(full_report: RunReport) -> None:
    html = report_html(full_report)
    page = _Page(html)
    assert not {"script", "link", "iframe", "object", "embed", "img"} & set(page.tags)
    assert [value for name, value in page.attributes if name in ("href", "src", "xlink:href", "action")] == [
        "../data_docs/index.html"
    ]
    assert not re.search(r"https?:|//[a-z]|@import|url\(", html)
    assert "default-src 'none'" in html


def test_a_warning_is_shown_once_and_the_figures_stay_visible(full_report: RunReport) -> None:
    assert full_report.influence is not None
    long = "the class means oppose each other, " * 5
    warned = dataclasses.replace(full_report.influence, warnings=(long,))
    html = report_html(dataclasses.replace(full_report, influence=warned))
    assert html.count(long) == 1
    assert '<td class="n">+0.71</td>' in html


def test_hostile_names_are_escaped_everywhere(full_report: RunReport) -> None:
    hostile = _everywhere(full_report, lambda word: word + ATTACK)
    assert hostile.final_row is not None
    html = report_html(hostile)
    page, clean = _Page(html), _Page(report_html(full_report))
    assert set(page.tags) == set(clean.tags)
    assert {name for name, _ in page.attributes} == {name for name, _ in clean.attributes}
    assert "1337" not in page.text
    assert ATTACK in page.text


def test_a_run_that_failed_half_way_still_gets_a_report(bare_report: RunReport) -> None:
    note = "expected 12 columns, found 11. next: correct the mapping"
    steps = (*bare_report.steps, StepRow(name="build_dataset", status="failed", note=note))
    page = _Page(report_html(dataclasses.replace(bare_report, steps=steps, verdict="failed", finished_at=None)))
    assert note in page.text
    assert "svg" not in page.tags
    assert page.tags.count("section") == 1


@pytest.mark.parametrize(
    "missing",
    [
        f.name
        for f in dataclasses.fields(RunReport)
        if f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING
    ],
)
def test_every_section_can_be_missing_alone(full_report: RunReport, missing: str) -> None:
    (field,) = [field for field in dataclasses.fields(RunReport) if field.name == missing]
    empty = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    change: dict[str, Any] = {missing: empty}
    assert _Page(report_html(dataclasses.replace(full_report, **change))).tags


def test_figures_intervals_and_reasons_are_shown_as_text(full_report: RunReport) -> None:
    text = _Page(report_html(full_report)).text
    row, headline = full_report.final_row, full_report.headline
    assert row is not None
    assert headline is not None
    assert f"AUC of {row.auc.value:.3f} ({row.auc.low:.3f} to {row.auc.high:.3f})" in text
    assert f"({headline.samples:,} samples, {headline.bad:,} bad)" in text
    assert full_report.decision is not None
    for check in full_report.decision.checks:
        assert check.sentence in text
    assert "50%, equal epochs: highest scores: -0.023 (-0.033 to -0.013)" in text
    for wanted in ("1,048,575", "over the cap 99,764", "days_past_due_not_negative", "took 1 h 12 m", "6 m 42 s"):
        assert wanted in text
    assert full_report.reproduce is not None
    assert full_report.reproduce.digest in text


def test_unaccounted_rows_are_reported(full_report: RunReport) -> None:
    lost = TableRow(table="user_sequences", rows_in=100, published=90, quarantined=3, dropped={"late": 2})
    assert lost.unaccounted == 5
    text = _Page(report_html(dataclasses.replace(full_report, tables=(*full_report.tables, lost)))).text
    assert "5 rows are neither published, quarantined, dropped nor outside the dates" in text
    assert "neither published" not in _Page(report_html(full_report)).text


def test_names_of_kinds_of_samples_are_shown_as_text(full_report: RunReport) -> None:
    assert full_report.influence is not None
    named = dataclasses.replace(full_report.influence, selected=(Share(name=ATTACK, value=0.0612),))
    page = _Page(report_html(dataclasses.replace(full_report, influence=named)))
    assert all(wanted in page.text for wanted in ("Who was chosen", "alert(1)", "6%"))
    assert "script" not in page.tags


def test_the_same_run_gives_the_same_bytes(full_report: RunReport) -> None:
    assert report_html(full_report) == report_html(full_report)


@pytest.mark.parametrize("link", ["javascript:alert(1)", "http://evil.test", "//evil.test/x", "/etc/passwd"])
def test_data_docs_are_linked_by_relative_path_only(bare_report: RunReport, link: str) -> None:
    with pytest.raises(ConfigError, match="relative"):
        report_html(dataclasses.replace(bare_report, quality=DataQuality(data_docs=link)))


def test_a_failed_rendering_keeps_the_previous_report(bare_report: RunReport, tmp_path: Path) -> None:
    path = write_report(bare_report, tmp_path / "run" / "report.html")
    before = path.read_text(encoding="utf-8")
    broken = dataclasses.replace(bare_report, quality=DataQuality(data_docs="http://x"))
    with pytest.raises(ConfigError):
        write_report(broken, path)
    assert path.read_text(encoding="utf-8") == before
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_the_headline_is_out_of_time_before_any_other_split(full_report: RunReport) -> None:
    (oot,) = full_report.results
    test, select = (dataclasses.replace(oot, split=split) for split in ("test", "select"))
    assert dataclasses.replace(full_report, results=(select, test, oot)).headline == oot
    assert dataclasses.replace(full_report, results=(select, test)).headline == test
    assert dataclasses.replace(full_report, results=()).final_row is None


def test_no_answer_of_a_single_client_is_in_the_file(full_report: RunReport, held_out: HeldOut) -> None:
    html = report_html(full_report)
    printed = [p for p in held_out.scores["zigong"][:200] if repr(float(p)) in html]
    assert printed == []
    assert len(html) < 150_000 < len(held_out.labels) * 60


def test_an_additional_metric_gets_a_column_with_its_name(full_report: RunReport) -> None:
    (result,) = full_report.results
    further: dict[str, Interval | float] = {"gini": Interval(value=0.4321, low=0.4, high=0.5), "bias": -0.0123}
    rows = tuple(dataclasses.replace(row, further=further) for row in result.rows)
    report = dataclasses.replace(full_report, results=(dataclasses.replace(result, rows=rows),))
    text = _Page(report_html(report)).text
    assert "Further metrics model gini bias" in text
    assert len(re.findall(r"0\.432 0\.400 to 0\.500 -0\.0123", text)) == len(rows)


def test_a_model_without_an_additional_metric_has_an_empty_cell_in_its_column(full_report: RunReport) -> None:
    (result,) = full_report.results
    gini, bias = Interval(value=0.4321, low=0.4, high=0.5), -0.0123
    first, *others = result.rows
    complete = dataclasses.replace(first, further={"gini": gini, "bias": bias})
    rows = (complete, *(dataclasses.replace(row, further={"bias": bias}) for row in others))
    html = report_html(dataclasses.replace(full_report, results=(dataclasses.replace(result, rows=rows),)))
    assert html.count('<td class="n"></td><td class="n">-0.0123</td>') == len(others)
