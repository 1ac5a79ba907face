"""Renders a RunReport into one self-contained HTML file: no network, no scripts, no second file."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from importlib.resources import files
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from zigong.errors import ConfigError
from zigong.files.atomic import write_text
from zigong.report.charts import (
    Band,
    band_chart,
    distribution_chart,
    forest_chart,
    ks_chart,
    risk_bands,
    roc_chart,
)
from zigong.report.run_report import InfluenceSection, RunReport
from zigong.report.share_charts import shares_chart, slices_chart
from zigong.report.study_charts import curves_chart, leads_chart

_CHARTS = (
    "forest",
    "roc",
    "ks",
    "bands",
    "card",
    "slices",
    "influence",
    "other_settings",
    "selected",
    "reasons",
    "study_curves",
    "study_leads",
)

_METRIC_NAMES = {
    "pr_auc": "PR-AUC",
    "f1_macro": "F1, macro",
    "f1_weighted": "F1, weighted",
    "miss": "misses",
    "bad_rate": "bad rate",
    "calibration_slope": "calibration slope",
    "calibration_intercept": "calibration intercept",
    "expected_auc": "AUC expected without labels",
    "expected_ks": "KS expected without labels",
}
_SPLIT_NAMES = {
    "oot": "the out-of-time split",
    "test": "held-out persons",
    "select": "the selection split",
    "target": "the target split",
    "train": "the training split",
}


def write_report(report: RunReport, path: str | Path) -> Path:
    """Writes the report atomically and returns its path.

    Raises:
        ConfigError: ``quality.data_docs`` is not a relative path.
    """
    target = Path(path)
    write_text(target, report_html(report))
    return target


def report_html(report: RunReport) -> str:
    """The report as HTML; every name from data is escaped."""
    if report.quality and report.quality.data_docs:
        _require_relative(report.quality.data_docs)
    folder = files("zigong.report")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "count": _count,
        "duration": _duration,
        "figure": _figure,
        "metric_name": lambda name: _METRIC_NAMES.get(name, name.replace("_", " ")),
        "moment": _moment,
        "percent": _percent,
        "scientific": _scientific,
        "split_name": lambda split: _SPLIT_NAMES.get(split, split),
    }
    template = environment.from_string(folder.joinpath("report.html").read_text(encoding="utf-8"))
    css = Markup(folder.joinpath("report.css").read_text(encoding="utf-8"))  # noqa: S704 - our own file
    return template.render(report=report, css=css, charts=_charts(report), bands=_bands(report))


def _charts(report: RunReport) -> Mapping[str, Markup | None]:
    drawn: dict[str, Markup | None] = dict.fromkeys(_CHARTS)
    if report.headline and report.headline.rows:
        drawn["forest"] = forest_chart(report.headline.rows, report.final_model)
    if report.held_out:
        drawn["roc"] = roc_chart(report.held_out, report.final_model)
        drawn["ks"] = ks_chart(report.held_out, report.final_model)
        drawn["bands"] = band_chart(_bands(report))
        if report.held_out.card_scores is not None:
            scores = report.held_out.card_scores.astype(float)
            drawn["card"] = distribution_chart(scores, report.held_out.labels, "points", whole=True)
    if report.slices:
        drawn["slices"] = slices_chart(report.slices, report.final_model)
    if report.reasons:
        drawn["reasons"] = shares_chart(report.reasons, "share of the riskiest clients with this reason", wide=True)
    if report.selection_study:
        drawn["study_curves"] = curves_chart(report.selection_study)
        drawn["study_leads"] = leads_chart(report.selection_study)
    return {**drawn, **_influence_charts(report.influence or InfluenceSection())}


def _influence_charts(influence: InfluenceSection) -> dict[str, Markup]:
    drawn: dict[str, Markup] = {}
    if influence.scores is not None and influence.labels is not None:
        drawn["influence"] = distribution_chart(influence.scores, influence.labels, "influence score")
    if influence.other_settings:
        drawn["other_settings"] = shares_chart(
            influence.other_settings, "share of this selection that they choose too", wide=True
        )
    if influence.selected:
        overall = next((group.samples for group in influence.groups if group.name == "chosen by influence"), None)
        everyone = next((group.samples for group in influence.groups if group.name == "all training samples"), None)
        rule = overall / everyone if overall is not None and everyone else None
        drawn["selected"] = shares_chart(influence.selected, "share chosen by influence", wide=False, rule=rule)
    return drawn


def _bands(report: RunReport) -> tuple[Band, ...]:
    return risk_bands(report.held_out, report.final_model) if report.held_out else ()


def _require_relative(link: str) -> None:
    address = urlsplit(link)
    if address.scheme or address.netloc or PurePosixPath(link).is_absolute():
        raise ConfigError(
            f"expected quality.data_docs relative to the report, found {link!r}",
            action="use the path from the report's folder to the Data Docs, such as ../data_docs/index.html",
        )


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _figure(value: float | None, signed: bool = False, places: int = 3) -> str:
    return "-" if value is None else f"{value:{'+' if signed else ''}.{places}f}"


def _scientific(value: float | None) -> str:
    return "-" if value is None else f"{value:.2e}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _moment(value: datetime) -> str:
    return f"{value:%Y-%m-%d %H:%M} {value.tzname() or ''}".strip()


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02d} m" if minutes >= 60 else f"{minutes} m {rest:02d} s"
