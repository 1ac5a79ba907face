"""The facts of a run that its model card reports."""

from __future__ import annotations

from collections.abc import Mapping

from zigong.dataset.members import final_split
from zigong.evaluation.further import horizon_lines
from zigong.evaluation.measured import ModelFigures
from zigong.instructions.templates import load_template
from zigong.recipe import Recipe
from zigong.release.gate import Decision
from zigong.release.gate_samples import GateSamples
from zigong.release.model import Model
from zigong.release.model_card import CardFacts, CardResult, model_card
from zigong.release.points import PointsQuality, points_quality
from zigong.runs.run import Run


def model_card_of(model: Model, decision: Decision, measured: ModelFigures, held_out: GateSamples, run: Run) -> str:
    """The model card of a run's challenger, in markdown.

    Args:
        model: the released model.
        decision: the decision of the gate.
        measured: figures of the model.
        held_out: the samples on which the gate decided.
        run: the run that trained it; the card also reports figures of its training and its selection.
    """
    recipe, figures = run.recipe, run.metrics()
    split, samples = final_split(recipe), len(held_out.labels)
    points = points_quality(measured, split)
    return model_card(
        CardFacts(
            model_id=model.model_id,
            base=_base(recipe, figures),
            question=model.asked.question[0],
            dataset_id=model.dataset_id,
            data={
                **_data(recipe),
                "held out": f"{samples:,} samples, {int(held_out.labels.sum()):,} bad",
                **horizon_lines(measured.slices, model.model_id, split),
            },
            results=tuple(
                CardResult(
                    model=measured.display_name(name),
                    split="held out",
                    samples=samples,
                    auc=measured.interval(name, split, "auc"),
                    ks=measured.interval(name, split, "ks"),
                    mcc=measured.interval(name, split, "mcc"),
                    difference=measured.lead(name, split),
                )
                for name in measured.models(split)
            ),
            threshold=model.threshold,
            decision=decision,
            scaling=_scaling(model, points),
            influence={
                name: f"{value:.3f}" for name, value in figures.items() if name.startswith(("influence.", "mix."))
            },
            limits=(
                *(points.warnings if points is not None else ()),
                "Measured on one lender's behaviour; another portfolio, product or country needs its own run.",
                "Calibrated on the select split; a change of the bad rate shifts the points until the next release.",
            ),
        )
    )


def _scaling(model: Model, points: PointsQuality | None) -> str:
    scale = (
        f"{model.card.base_score} points at odds {model.card.base_odds:g}:1, {model.card.pdo} points double the odds"
    )
    if points is None:
        return scale
    return f"{scale}. The points, rounded and clipped, have AUC {points.auc:.3f} and KS {points.ks:.3f} held out"


def question_of(recipe: Recipe) -> str:
    """The question that the model answers."""
    return load_template(recipe.instructions.template, recipe.instructions.language).ask(recipe.labels.horizons[0])


def _base(recipe: Recipe, figures: Mapping[str, float]) -> str:
    """What the base is, and whether it was trained further here."""
    tiny = f"tiny Mistral architecture, {figures.get('base.parameters', 0):,.0f} parameters"
    further = "" if recipe.base.continued is None else ", trained further on event text without labels"
    return (recipe.base.path or recipe.base.gguf or tiny) + further


def _data(recipe: Recipe) -> dict[str, str]:
    ranges = {
        "train": recipe.observations.train,
        "validation": recipe.observations.validation,
        "out of time": recipe.observations.oot,
    }
    spans = {name: f"{dates.first} to {dates.last}" for name, dates in ranges.items() if dates is not None}
    if unlabelled := recipe.unlabelled_dates():
        spans["train, without labels"] = f"{unlabelled[0]} to {unlabelled[-1]}"
    return {"source": recipe.source.mapping, **spans}
