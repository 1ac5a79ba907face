"""The facts of a run that its model card tells."""

from __future__ import annotations

from collections.abc import Mapping

from zigong.evaluation.bootstrap import Interval
from zigong.instructions.templates import load_template
from zigong.recipe import Recipe
from zigong.release.card import CardFacts, CardResult, model_card
from zigong.release.gate import Decision
from zigong.runs.handover import Dataset, FinalModel
from zigong.runs.run import Run


def model_card_of(run: Run, decision: Decision, threshold: float) -> str:
    """The model card of a run's challenger, in markdown."""
    recipe, figures = run.recipe, run.metrics()
    return model_card(
        CardFacts(
            model_id=run.take(FinalModel).model_id,
            base=recipe.base.path or f"tiny Mistral architecture, {figures.get('base.parameters', 0):,.0f} parameters",
            question=question_of(recipe),
            dataset_id=run.take(Dataset).dataset_id,
            data=_data(recipe, figures),
            results=tuple(
                CardResult(
                    model=model,
                    split="held out",
                    samples=int(figures["oot.samples"]),
                    auc=measured(figures, f"oot.auc.{model}"),
                    ks=measured(figures, f"oot.ks.{model}"),
                    mcc=measured(figures, f"oot.mcc.{model}"),
                    difference=lead(figures, model),
                )
                for model in models_of(figures)
            ),
            threshold=threshold,
            decision=decision,
            scaling=f"{recipe.card.base_score} points at odds {recipe.card.base_odds:g}:1, {recipe.card.pdo} points "
            "double the odds",
            influence={
                name: f"{value:.3f}" for name, value in figures.items() if name.startswith(("influence.", "mix."))
            },
            limits=(
                "Measured on one lender's behaviour; another book, product or country needs its own run.",
                "Calibrated on the select split; a change of the bad rate shifts the points until the next release.",
            ),
        )
    )


def question_of(recipe: Recipe) -> str:
    """What the model is asked."""
    return load_template(recipe.instructions.template, recipe.instructions.language).ask(recipe.labels.horizons[0])


def models_of(figures: Mapping[str, float]) -> list[str]:
    """The models a run measured, the final one first."""
    found = sorted(name.removeprefix("oot.auc.") for name in figures if name.startswith("oot.auc."))
    return sorted(found, key=lambda model: (model != "zigong", -figures[f"oot.auc.{model}"]))


def measured(figures: Mapping[str, float], name: str) -> Interval:
    """A figure with its interval, from flat figures such as ``oot.auc.MODEL`` and ``oot.auc_low.MODEL``."""
    split, metric, model = name.split(".", 2)
    low, high = (figures[f"{split}.{metric}_{end}.{model}"] for end in ("low", "high"))
    return Interval(value=figures[name], low=low, high=high)


def lead(figures: Mapping[str, float], model: str) -> Interval | None:
    """AUC of the final model minus this one's, paired; None for the final model itself."""
    name = f"oot.auc_lead_of_zigong.{model}"
    return measured(figures, name) if name in figures else None


def _data(recipe: Recipe, figures: Mapping[str, float]) -> dict[str, str]:
    told = {
        "train": recipe.observations.train,
        "validation": recipe.observations.validation,
        "out of time": recipe.observations.oot,
    }
    spans = {name: f"{dates.first} to {dates.last}" for name, dates in told.items() if dates is not None}
    held_out = f"{figures['oot.samples']:,.0f} samples, {figures['oot.bad']:,.0f} bad"
    return {"source": recipe.source.mapping, **spans, "held out": held_out}
