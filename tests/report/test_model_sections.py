"""The report's groups of clients."""

from __future__ import annotations

from zigong.evaluation.held_out import Figure
from zigong.evaluation.measured import ModelFigures
from zigong.evaluation.slice_figures import SHARE
from zigong.report.model_sections import slices

IN_ORDER = (
    "age=above 30 to 40",
    "history=under 6 months",
    "history=6 to 11 months",
    "history=12 to 23 months",
    "history=24 or more months",
    "person=known",
    "person=new",
)


def test_groups_of_an_attribute_stand_in_the_order_of_their_numbers() -> None:
    figures = tuple(
        Figure(model_id=model, split="oot", metric=metric, value=0.5, low=0.4, high=0.6, samples=9, slice=name)
        for name in sorted(IN_ORDER)
        for metric, models in ((SHARE, ("card",)), ("auc", ("card", "lightgbm")))
        for model in models
    )
    found = slices(ModelFigures(model_id="card", figures={}, slices=figures), "oot")
    assert found is not None
    assert tuple(row.name for row in found.rows) == IN_ORDER
