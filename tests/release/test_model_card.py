from __future__ import annotations

import re
from typing import Any

from markdown_it import MarkdownIt

from zigong.evaluation.bootstrap import Interval
from zigong.release.gate import Decision
from zigong.release.gate_checks import Check
from zigong.release.model_card import CardFacts, CardResult, model_card

HOSTILE = "x | y\n# heading <script>alert(1)</script> [a](http://b) `c`"


def _facts(**changes: Any) -> CardFacts:
    auc = Interval(value=0.7712, low=0.7543, high=0.7881)
    check = Check(name="min_mcc", passed=False, sentence="MCC is 0.000, which is not above the required 0.000.")
    values: dict[str, Any] = {
        "model_id": "zigong-1",
        "base": "tiny base",
        "question": "30 days past due within 6 months?",
        "dataset_id": "abc",
        "data": {"train": "4,812 samples", "oot": "900 samples"},
        "results": (CardResult(model="zigong", split="oot", samples=10434, auc=auc, ks=auc, difference=auc),),
        "threshold": 0.125,
        "decision": Decision(decision="refused", reasons=(check.sentence,), checks=(check,), figures={}),
        "scaling": "600 points at 20:1, 50 to double",
        "influence": {"sign flips": "none"},
        "limits": ("One country.",),
    }
    return CardFacts(**(values | changes))


def test_the_card_reports_figures_with_intervals_decision_and_limits() -> None:
    text = model_card(_facts())
    assert "| zigong | oot | 10,434 | 0.771 (0.754 to 0.788) |" in text
    assert "+0.771 (+0.754 to +0.788) |" in text
    assert "- FAILED: MCC is 0.000" in text
    assert "refused:" in text
    for wanted in ("4,812 samples", "sign flips: none", "One country.", "0.1250", "## Intended use", "Not for:"):
        assert wanted in text


def test_sections_without_facts_are_omitted() -> None:
    text = model_card(_facts(influence={}, limits=()))
    assert "Selection of the training samples" not in text
    assert "Limits" not in text


def test_names_from_data_are_escaped() -> None:
    auc, last = Interval(value=0.5, low=0.4, high=0.6), Interval(value=0.31, low=0.21, high=0.41)
    row = CardResult(model=HOSTILE, split="oot", samples=1, auc=auc, ks=auc, difference=last)
    html = MarkdownIt("commonmark").enable("table").render(model_card(_facts(base=HOSTILE, results=(row,))))
    assert "<script>" not in html
    assert "href" not in html
    assert html.count("<h1>") == 1
    assert html.count("<tr>") == 2
    assert re.search(r"<td[^>]*>\+0.310 \(\+0.210 to \+0.410\)</td>\s*</tr>", html), "a table cell was split"
