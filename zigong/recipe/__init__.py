"""The recipe: one YAML file that describes one complete run. Each package receives only its own section."""

from zigong.recipe.base import ContinuedBase, TinyBase
from zigong.recipe.card import BoostedTraining, Card, Head, JointTraining
from zigong.recipe.learning import (
    AgentTraining,
    Evaluation,
    FinalTraining,
    Gate,
    Influence,
    Lora,
    Mix,
    Training,
)
from zigong.recipe.load import load_recipe, parse_recipe
from zigong.recipe.recipe import Recipe
from zigong.recipe.sections import (
    Cohort,
    DateRange,
    Duplicates,
    Engine,
    Horizon,
    Simulation,
    Split,
    Unit,
)
from zigong.recipe.text import Auxiliary, Instructions

__all__ = [
    "AgentTraining",
    "Auxiliary",
    "BoostedTraining",
    "Card",
    "Cohort",
    "ContinuedBase",
    "DateRange",
    "Duplicates",
    "Engine",
    "Evaluation",
    "FinalTraining",
    "Gate",
    "Head",
    "Horizon",
    "Influence",
    "Instructions",
    "JointTraining",
    "Lora",
    "Mix",
    "Recipe",
    "Simulation",
    "Split",
    "TinyBase",
    "Training",
    "Unit",
    "load_recipe",
    "parse_recipe",
]
