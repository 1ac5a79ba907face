"""Tokens of a prompt by the tokenizer of a pretrained base, from drawn event lines, for ``zigong plan``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np

from zigong.instructions.encode import LineEncoder
from zigong.instructions.render import Event, asked_line, render_branch, render_line
from zigong.instructions.tasks import load_tasks
from zigong.recipe import Recipe
from zigong.recipe.source import declared_event_types, source_mapping

LINES = 400  # drawn event lines
LONGEST_GAP = 45  # days between two events
AMOUNTS = (1.0, 5.0)  # powers of ten of the drawn amounts
LATEST = 90  # days past due


@dataclass(frozen=True, kw_only=True)
class SampledTokens:
    """Tokens of a recipe's text.

    Attributes:
        event: mean tokens of an event line that has every field.
        rest: tokens of the beginning, of the lines after the history, and of the longest answer with its end token.
    """

    event: float
    rest: int

    def of_prompt(self, events: int) -> int:
        """Tokens of a prompt of so many events."""
        return self.rest + math.ceil(self.event * events)


def sampled_tokens(recipe: Recipe, folder: Path) -> SampledTokens:
    """Encodes drawn lines of a recipe.

    The event types are those that the mapping declares; dates, amounts and days past due are drawn, and every attribute
    whose values are codes is there, with a value as long as its name. Free text of a source may need more.

    Args:
        recipe: a recipe with a pretrained base.
        folder: its model folder, with ``tokenizer.json``.
    """
    encoder, tasks = LineEncoder.of(folder), load_tasks(recipe.instructions)
    codes = sorted(source_mapping(recipe).attribute_codes)
    events = [len(encoder.line(line)) for line in _drawn_lines(recipe, codes)]
    day = recipe.observations.train.first
    after = render_branch(
        day,
        day + timedelta(days=LONGEST_GAP),
        recipe.instructions.max_events,
        {name: name for name in codes},
        tasks.main.ask(recipe.labels.horizons[0]),
        template=tasks.main,
        settings=recipe.instructions,
    )
    asked = len(encoder.line(asked_line(1))) if recipe.observations.unit == "loan" else 0
    recalled = math.ceil(recipe.instructions.recall * float(np.mean(events))) if asked else 0
    answer = max(len(encoder.completion(choice)) for choice in tasks.main.choices) + 1
    rest = len(encoder.history([])) + len(encoder.branch(after)) + asked + recalled + answer
    return SampledTokens(event=float(np.mean(events)), rest=rest)


def _drawn_lines(recipe: Recipe, codes: list[str]) -> Iterator[str]:
    draw, template = np.random.default_rng(recipe.seed), load_tasks(recipe.instructions).main
    kinds, day = sorted(declared_event_types(recipe)), recipe.observations.train.first
    for _ in range(LINES):
        previous, day = day, day + timedelta(days=int(draw.integers(LONGEST_GAP)))
        event = Event(
            event_type=str(draw.choice(kinds)),
            days_past_due=int(draw.integers(LATEST)),
            amount=Decimal(round(10 ** draw.uniform(*AMOUNTS), 2)),
            attributes={name: name for name in codes},
            loan=int(draw.integers(1, 4)),
        )
        yield render_line(previous, day, event, template=template, settings=recipe.instructions)
