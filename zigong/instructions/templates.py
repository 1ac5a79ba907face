"""Prompt templates: versioned files with typed slots, in several languages and phrasings."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

import yaml

from zigong.errors import ConfigError
from zigong.instructions.template_files import (
    Answer,
    EventAnswer,
    LabelAnswer,
    ProfileAnswer,
    answer_of,
    checked_template,
    choices_of,
)
from zigong.recipe import Horizon


@dataclass(frozen=True, kw_only=True)
class Question:
    """The question of a template in one language.

    Attributes:
        name: ``name@version``.
        cue: end of every prompt; the answer follows it.
        phrasings: the question line in each of its phrasings; each ends with the answer cue.
        choices: admissible answers, the bad one first; empty if the answer is computed.
        answer: source of the answer.
    """

    name: str
    task: str
    language: str
    cue: str
    phrasings: tuple[str, ...]
    choices: tuple[str, ...]
    answer: Answer

    def ask(self, horizon: Horizon, phrasing: int = 0) -> str:
        """The question line in one of its phrasings; it ends with the answer cue."""
        return self.phrasings[phrasing].format(**_question_values(self.answer, horizon))

    def phrasing_of(self, sequence_id: str) -> int:
        """Index of the phrasing for a sequence: uniform over sequences and fixed for each one."""
        return hashed(f"phrasing|{self.name}|{sequence_id}") % len(self.phrasings)


@dataclass(frozen=True, kw_only=True)
class Template(Question):
    """A question that also provides the lines around it; the main question of a recipe is one.

    Attributes:
        start: word in place of the gap of the first event.
        guarded: choices of the other questions of the recipe, which rendered events must not contain either.
    """

    choices: tuple[str, str]
    start: str
    profile: str
    summary: str
    guarded: tuple[str, ...] = ()

    @cached_property
    def choice_in_text(self) -> re.Pattern[str]:
        """Matches a choice that is a separate word inside other text, where a tokenizer would see it."""
        choices = dict.fromkeys((*self.choices, *self.guarded))
        return re.compile(rf"(?<!\w)(?:{'|'.join(re.escape(choice) for choice in choices)})(?!\w)")


def hashed(text: str) -> int:
    """Hashes a text to a uniform number in [0, 2**32), the same on every machine."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)


def load_template(name: str, language: str) -> Template:
    """Reads ``name@version`` as the main question of a recipe.

    Raises:
        ConfigError: there is no such template, version or language, or it cannot be the main question.
    """
    question = load_question(name, language)
    if not isinstance(question, Template):
        raise ConfigError(
            f"instructions.template: {name} does not define start, profile and summary: it cannot be the main question",
            action="use behavior_card@1, and name this one under instructions.auxiliary",
        )
    return question


@cache
def load_question(name: str, language: str) -> Question:
    """Reads ``name@version`` from the shipped templates.

    Raises:
        ConfigError: there is no such template, version or language, or its file is not valid.
    """
    resource = files("zigong").joinpath("instructions", "templates", f"{name}.yaml")
    if name not in template_names():
        raise ConfigError(f"instructions: no template {name!r}", action=f"use one of {', '.join(template_names())}")
    return question_of(yaml.safe_load(resource.read_text(encoding="utf-8")), language, file=f"{name}.yaml")


def template_names() -> tuple[str, ...]:
    """Every shipped ``name@version``."""
    folder = files("zigong").joinpath("instructions", "templates")
    return tuple(sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml")))


def question_of(content: Any, language: str, *, file: str) -> Question:
    """The question of a template file in one language.

    Raises:
        ConfigError: the file is not valid; the message names file, language and slot.
    """
    source = checked_template(content, file=file)
    if language not in source.languages:
        known = ", ".join(source.languages)
        raise ConfigError(f"instructions: {file} has no language {language!r}", action=f"use one of {known}")
    text, answer = source.languages[language], answer_of(source.answer)
    values: dict[str, Any] = {
        "name": f"{source.name}@{source.version}",
        "task": source.task,
        "language": language,
        "cue": text.cue,
        "phrasings": tuple(text.phrasings),
        "choices": choices_of(text, answer),
        "answer": answer,
        **text.around,
    }
    return Template(**values) if text.around else Question(**values)


def _question_values(answer: Answer, horizon: Horizon) -> dict[str, int]:
    """The values of a question's slots; their types are in ``template_files.QUESTION_SLOTS``."""
    match answer:
        case LabelAnswer():
            return {"window_months": horizon.window_months, "dpd_threshold": horizon.dpd_threshold}
        case EventAnswer():
            return {"window_months": answer.window_months}
        case ProfileAnswer():
            return {}
