"""The text a tiny base learns from: rendered timelines, and the words its tokenizer must know."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from zigong.behavior.business_time import local_midnight
from zigong.instructions.encode import LineEncoder
from zigong.instructions.render import round_number, word
from zigong.instructions.templates import Template, load_template
from zigong.recipe import Recipe

Lines = list[list[str]]


def write_lines(lines: DataFrame, folder: Path) -> None:
    """Writes columns ``user_id`` and ``lines`` as Parquet."""
    lines.write.mode("overwrite").parquet(str(folder))


def read_lines(folder: Path) -> Lines:
    """The lines of each user, in order of user_id, so that the training does not depend on partitions."""
    table = pq.read_table(folder, columns=["user_id", "lines"]).sort_by("user_id")
    lines: Lines = table["lines"].to_pylist()
    return lines


def fixed_lines(recipe: Recipe) -> list[str]:
    """Constant text of the prompts: each of these costs one token."""
    template = load_template(recipe.instructions.template, recipe.instructions.language)
    return [*(template.ask(horizon) for horizon in recipe.labels.horizons), *template.choices]


def vocabulary_lines(lines: Lines, profiles: DataFrame, recipe: Recipe) -> list[str]:
    """Every distinct line the tokenizer must encode without unknown words.

    Args:
        profiles: rows of user_profiles; only what was known before the train cut-off gives words.
    """
    template = load_template(recipe.instructions.template, recipe.instructions.language)
    distinct = {line for told in lines for line in told}
    distinct |= {
        template.summary.format(folded=round_number(step * 10**power)) for step in (1, 2, 5) for power in range(6)
    }
    if recipe.instructions.profile:
        distinct |= {template.profile.format(words=words) for words in _profile_words(profiles, recipe, template)}
    return sorted(distinct)


def encoded(lines: Lines, encoder: LineEncoder, recipe: Recipe) -> list[list[int]]:
    """Token ids of each timeline with the question and an arbitrary answer behind it.

    The answers alternate over users in the order of their pseudonyms and carry no label: the base learns that a
    question is answered, by which words, and nothing about whom. Whole timelines until ``base.tiny.max_tokens``.
    """
    template = load_template(recipe.instructions.template, recipe.instructions.language)
    question = encoder.branch([template.ask(recipe.labels.horizons[0])])
    endings = [question + encoder.completion(choice) for choice in template.choices]
    limit = recipe.base.tiny.max_tokens if recipe.base.tiny else None
    timelines: list[list[int]] = []
    total = 0
    for number, told in enumerate(lines):
        if limit is not None and total >= limit:
            break
        timelines.append(encoder.history(told) + endings[number % len(endings)])
        total += len(timelines[-1])
    return timelines


def _profile_words(profiles: DataFrame, recipe: Recipe, template: Template) -> Sequence[str]:
    cutoff = local_midnight(F.lit(recipe.observations.train.last), recipe.business_timezone)
    pairs = profiles.where(F.col("known_at") < cutoff).select(F.explode("attributes").alias("key", "value"))
    return [f"{word(row['key'], template)}={word(row['value'], template)}" for row in pairs.distinct().collect()]
