"""The model card: what a released model is, how it was measured, and its intended and excluded uses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from jinja2 import Environment, StrictUndefined

from zigong.evaluation.bootstrap import Interval
from zigong.release.gate import Decision


@dataclass(frozen=True, kw_only=True)
class CardResult:
    """One row of the card's table: a model on a split."""

    model: str
    split: str
    samples: int
    auc: Interval
    ks: Interval
    mcc: Interval | None = None
    difference: Interval | None = None  # AUC of the released model minus this one's


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """Everything the card reports. Mappings are rendered in their own order, one line per entry."""

    model_id: str
    base: str
    question: str
    dataset_id: str
    data: Mapping[str, str]  # such as "train": "2023-01-01 to 2023-06-01, 4,812 samples, 6.1% bad"
    results: tuple[CardResult, ...]
    threshold: float
    decision: Decision
    scaling: str
    influence: Mapping[str, str] = field(default_factory=dict)
    limits: tuple[str, ...] = ()
    intended_use: tuple[str, ...] = (
        "Rank existing borrowers by their risk of arrears, for limit and collection decisions that a person is "
        "responsible for.",
    )
    not_for: tuple[str, ...] = (
        "First applications: the model reads behaviour on a running loan.",
        "Decisions about a client without human review or without the reasons that the law requires.",
    )


_TEMPLATE = """\
# {{ facts.model_id | inline }}

A language model that reads a client's behaviour as a timeline and answers: {{ facts.question | inline }}
Base: {{ facts.base | inline }}, with a LoRA adapter. Dataset: `{{ facts.dataset_id | inline }}`.

## Data

{% for name, text in facts.data.items() -%}
- {{ name | inline }}: {{ text | inline }}
{% endfor %}
## Measured quality

Intervals come from resampling persons with replacement. "Lead" is the AUC of this model minus the row's, paired.

| model | split | samples | AUC | KS | MCC | lead |
|---|---|---:|---:|---:|---:|---:|
{% for row in facts.results -%}
| {{ row.model | inline }} | {{ row.split | inline }} | {{ "{:,}".format(row.samples) }} | {{ row.auc | interval }} \
| {{ row.ks | interval }} | {{ row.mcc | interval }} | {{ row.difference | interval(sign="+") }} |
{% endfor %}
A sample is classified as bad at a probability of {{ "%.4f" | format(facts.threshold) }} or more, \
the best MCC on `select`.
Scaling: {{ facts.scaling | inline }}

## Gate

{{ facts.decision.decision }}:

{% for check in facts.decision.checks -%}
- {{ "passed" if check.passed else "FAILED" }}: {{ check.sentence | inline }}\
{% if check.observed is not none and check.bound %} \
Observed {{ "%.4g" | format(check.observed) }}, required {{ check.bound | inline }}.{% endif %}

{% endfor %}
{% if facts.influence -%}
## Selection of the training samples

{% for name, text in facts.influence.items() -%}
- {{ name | inline }}: {{ text | inline }}
{% endfor %}
{% endif -%}
## Intended use

{% for line in facts.intended_use -%}
- {{ line | inline }}
{% endfor %}
Not for:

{% for line in facts.not_for -%}
- {{ line | inline }}
{% endfor %}
{% if facts.limits -%}
## Limits

{% for line in facts.limits -%}
- {{ line | inline }}
{% endfor %}
{%- endif -%}
"""


def model_card(facts: CardFacts) -> str:
    """The card in markdown; names from data can neither break the tables nor inject HTML or links."""
    # The output is Markdown, not HTML: `inline` escapes the characters that are special in Markdown.
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)  # noqa: S701
    environment.filters |= {"inline": _inline, "interval": _interval}
    return environment.from_string(_TEMPLATE).render(facts=facts)


def _inline(text: object) -> str:
    flat = re.sub(r"\s+", " ", str(text)).strip()
    return re.sub(r"([\\`|<>\[\]])", r"\\\1", flat)


def _interval(found: Interval | None, sign: str = "") -> str:
    if found is None:
        return ""
    return f"{found.value:{sign}.3f} ({found.low:{sign}.3f} to {found.high:{sign}.3f})"
