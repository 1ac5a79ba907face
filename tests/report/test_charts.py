from __future__ import annotations

import dataclasses
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from zigong.evaluation import metrics
from zigong.evaluation.bootstrap import Interval
from zigong.report import charts
from zigong.report.run_report import HeldOut, ModelRow, RunReport
from zigong.report.svg import Frame, ticks


def _points(svg: str, style: str) -> np.ndarray:
    """Pixels of the path with a class."""
    (path,) = [node for node in ElementTree.fromstring(svg) if node.tag == "path" and node.get("class") == style]  # noqa: S314
    return np.array(re.findall(r"([-\d.]+) ([-\d.]+)", path.attrib["d"]), dtype=float)


def _all(report: RunReport) -> dict[str, str]:
    held_out, headline, influence = report.held_out, report.headline, report.influence
    assert held_out is not None
    assert held_out.card_scores is not None
    assert headline is not None
    assert influence is not None
    assert influence.scores is not None
    assert influence.labels is not None
    return {
        "roc": charts.roc_chart(held_out, "zigong"),
        "ks": charts.ks_chart(held_out, "zigong"),
        "forest": charts.forest_chart(headline.rows, "zigong"),
        "bands": charts.band_chart(charts.risk_bands(held_out, "zigong")),
        "card": charts.distribution_chart(held_out.card_scores.astype(float), held_out.labels, "points", whole=True),
        "influence": charts.distribution_chart(influence.scores, influence.labels, "score"),
    }


def test_every_mark_is_within_its_chart(full_report: RunReport) -> None:
    for name, svg in _all(full_report).items():
        root = ElementTree.fromstring(svg)  # noqa: S314
        width, height = map(float, root.attrib["viewBox"].split()[2:])
        for node in root.iter():
            for key, limit in {"x": width, "x1": width, "x2": width, "cx": width, "y": height, "cy": height}.items():
                if key in node.attrib:
                    assert 0 <= float(node.attrib[key]) <= limit, (name, node.attrib)
        for x, y in re.findall(r"[ML]([-\d.]+) ([-\d.]+)", svg):
            assert 0 <= float(x) <= width, name
            assert 0 <= float(y) <= height, name


def test_the_drawn_roc_encloses_the_auc(held_out: HeldOut) -> None:
    line = _points(charts.roc_chart(held_out, "zigong"), "line own")
    frame = Frame(x=(0.0, 1.0), y=(0.0, 1.0), height=400)
    x = (line[:, 0] - frame.at_x(0)) / (frame.at_x(1) - frame.at_x(0))
    y = (line[:, 1] - frame.at_y(0)) / (frame.at_y(1) - frame.at_y(0))
    area = float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))
    assert area == pytest.approx(metrics.auc(held_out.labels, held_out.scores["zigong"]), abs=0.01)
    assert (x[0], y[0], x[-1], y[-1]) == pytest.approx((0, 0, 1, 1), abs=1e-6)


def test_the_ks_chart_shows_the_ks(held_out: HeldOut) -> None:
    assert f"KS {metrics.score_curve(held_out.labels, held_out.scores['zigong']).ks:.3f} at" in charts.ks_chart(
        held_out, "zigong"
    )


def test_bands_contain_every_client_from_riskiest_to_safest(held_out: HeldOut) -> None:
    bands = charts.risk_bands(held_out, "zigong")
    assert sum(band.samples for band in bands) == len(held_out.labels)
    assert sum(band.bad for band in bands) == held_out.labels.sum()
    assert bands[-1].captured == 1.0
    assert all(left.lowest >= right.highest for left, right in zip(bands[1:], bands[:-1], strict=True))
    assert np.mean([band.expected for band in bands]) == pytest.approx(held_out.labels.mean(), abs=5e-3)


def test_equal_points_are_in_one_band_and_all_equal_points_are_one_band() -> None:
    p = np.linspace(0.9, 0.1, 40)
    labels = (np.arange(40) % 4 == 0).astype(int)
    held_out = HeldOut(
        split="oot", labels=labels, scores={"zigong": p}, card_scores=np.repeat([300, 500, 500, 500], 10)
    )
    found = [(band.number, band.samples, band.bad, band.lowest) for band in charts.risk_bands(held_out, "zigong")]
    assert found == [(1, 10, 3, 300.0), (2, 30, 7, 500.0)]
    same = dataclasses.replace(held_out, card_scores=np.full(40, 500))
    (band,) = charts.risk_bands(same, "zigong")
    assert (band.samples, band.bad, band.captured) == (40, 10, 1.0)


@pytest.mark.parametrize("widest", [0.05, 0.5, 0.95])
def test_the_words_of_the_ks_chart_are_within_it(widest: float) -> None:
    size = 2000
    bad = int(size * widest)
    labels = np.concatenate([np.ones(bad, dtype=int), np.zeros(size - bad, dtype=int)])
    svg = charts.ks_chart(HeldOut(split="oot", labels=labels, scores={"zigong": np.linspace(1, 0, size)}), "zigong")
    root = ElementTree.fromstring(svg)  # noqa: S314
    (note,) = [node for node in root.iter() if node.tag == "text" and "note" in node.attrib["class"]]
    width, x = 7.5 * len(note.text or ""), float(note.attrib["x"])
    left = x - width if "end" in note.attrib["class"] else x
    assert left >= 0
    assert left + width <= float(root.attrib["viewBox"].split()[2])


def test_fewer_clients_than_bands_still_give_one_client_a_band() -> None:
    held_out = HeldOut(split="oot", labels=np.array([0, 1, 0]), scores={"zigong": np.array([0.1, 0.9, 0.5])})
    bands = charts.risk_bands(held_out, "zigong")
    assert [(band.samples, band.bad, band.highest) for band in bands] == [(1, 1, 0.9), (1, 0, 0.5), (1, 0, 0.1)]


def test_the_forest_chart_is_ordered_by_auc_and_omits_the_constant(full_report: RunReport) -> None:
    assert full_report.headline is not None
    svg = charts.forest_chart(full_report.headline.rows, "zigong")
    names = [row.model for row in sorted(full_report.headline.rows, key=lambda row: -row.auc.value)]
    places = [svg.find(f">{name}<") for name in names if name != "majority"]
    assert places == sorted(places)
    assert min(places) > 0
    assert ">majority<" not in svg


def test_charts_of_degenerate_runs_are_still_drawn(full_report: RunReport) -> None:
    held_out = HeldOut(split="oot", labels=np.array([0, 1]), scores={"zigong": np.array([0.5, 0.5])})
    constant = Interval(value=0.5, low=0.5, high=0.5)
    pictures = [
        charts.roc_chart(held_out, "zigong"),
        charts.ks_chart(held_out, "zigong"),
        charts.band_chart(charts.risk_bands(held_out, "zigong")),
        charts.forest_chart([ModelRow(model="a", auc=constant, ks=constant)], "zigong"),
        charts.distribution_chart(np.zeros(3), np.zeros(3, dtype=int), "score"),
    ]
    for svg in pictures:
        assert "nan" not in svg
        ElementTree.fromstring(svg)  # noqa: S314


@pytest.mark.parametrize(
    ("span", "expected"), [((0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1]), ((396, 771), [400, 500, 600, 700])]
)
def test_ticks_are_round_values_within_the_span(span: tuple[float, float], expected: list[float]) -> None:
    assert ticks(span) == pytest.approx(expected)


def test_charts_do_not_depend_on_the_order_of_samples(held_out: HeldOut) -> None:
    order = np.random.default_rng(1).permutation(len(held_out.labels))
    shuffled = dataclasses.replace(
        held_out, labels=held_out.labels[order], scores={n: s[order] for n, s in held_out.scores.items()}
    )
    assert charts.roc_chart(shuffled, "zigong") == charts.roc_chart(held_out, "zigong")
    assert charts.ks_chart(shuffled, "zigong") == charts.ks_chart(held_out, "zigong")
