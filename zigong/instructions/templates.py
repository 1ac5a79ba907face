"""Prompt templates: files with typed slots, a version each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files

import yaml

from zigong.errors import ConfigError
from zigong.recipe import Horizon


@dataclass(frozen=True, kw_only=True)
class Template:
    """One template in one language.

    Attributes:
        name: ``name@version``.
        start: word that stands where the first event has no gap.
        choices: admissible answers, the bad one first.
    """

    name: str
    task: str
    language: str
    start: str
    profile: str
    summary: str
    question: str
    choices: tuple[str, str]

    @cached_property
    def choice_in_text(self) -> re.Pattern[str]:
        """Finds a choice that stands as a word of its own inside other text, where a tokenizer would see it."""
        return re.compile(rf"(?<!\w)(?:{'|'.join(re.escape(choice) for choice in self.choices)})(?!\w)")

    def ask(self, horizon: Horizon) -> str:
        """The question line for a horizon; it ends with the answer cue."""
        return self.question.format(window_months=horizon.window_months, dpd_threshold=horizon.dpd_threshold)


@cache
def load_template(name: str, language: str) -> Template:
    """Reads ``name@version`` from the shipped templates.

    Raises:
        ConfigError: there is no such template, version or language.
    """
    title, _, version = name.partition("@")
    resource = files("zigong").joinpath("instructions", "templates", f"{title}.yaml")
    if not resource.is_file():
        raise ConfigError(f"instructions.template: no template {title!r}", action="use behavior_card@1")
    content = yaml.safe_load(resource.read_text(encoding="utf-8"))
    if str(content["version"]) != version or language not in content["languages"]:
        known = f"{title}@{content['version']} in {', '.join(content['languages'])}"
        raise ConfigError(f"instructions.template: {name} in {language} does not exist", action=f"use {known}")
    text = content["languages"][language]
    return Template(
        name=name,
        task=content["task"],
        language=language,
        start=text["start"],
        profile=text["profile"],
        summary=text["summary"],
        question=text["question"],
        choices=(text["choices"]["bad"], text["choices"]["good"]),
    )
