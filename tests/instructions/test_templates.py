"""Template files: every shipped one renders in every phrasing, and an invalid file is rejected with the location."""

from __future__ import annotations

import copy
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest

from zigong.errors import ConfigError
from zigong.instructions.tasks import load_tasks
from zigong.instructions.template_files import LINE_SLOTS
from zigong.instructions.templates import Template, load_question, load_template, question_of, template_names
from zigong.recipe import Horizon, Instructions

HORIZON = Horizon(window_months=6, dpd_threshold=30)
CUES = {"en": "Answer:", "zh": "回答："}
SHIPPED = {  # digest of all texts; a version stands for its texts, so any change needs a new version
    ("behavior_card@1", "en"): "aa597384541d",
    ("behavior_card@1", "zh"): "9e2da3785c4a",
    ("behavior_card@2", "en"): "2682852d09cf",
    ("behavior_card@2", "zh"): "0ace85b15c99",
    ("income_band@1", "en"): "f74998edb4f8",
    ("income_band@1", "zh"): "29ee11dd9d93",
    ("largest_order@1", "en"): "9abe14040eb6",
    ("largest_order@1", "zh"): "440a07407cb2",
    ("login_count@1", "en"): "0ed6f1122539",
    ("login_count@1", "zh"): "ceee7d1bd9ce",
    ("question_answering@1", "en"): "4ff70e51f15a",
    ("question_answering@1", "zh"): "652c129fc67f",
    ("repaid_amount@1", "en"): "729d77c829fc",
    ("repaid_amount@1", "zh"): "922bf9b8b497",
    ("sentiment@1", "en"): "414bb8bd43b6",
    ("sentiment@1", "zh"): "cae82fdbc1cd",
}


def texts_of(name: str, language: str) -> str:
    question = load_question(name, language)
    around = tuple(getattr(question, line) for line in LINE_SLOTS) if isinstance(question, Template) else ()
    return "\n".join((question.task, *question.phrasings, *question.choices, *around))


@pytest.mark.parametrize("language", CUES)
@pytest.mark.parametrize("name", template_names())
def test_every_phrasing_of_a_template_is_one_line_and_ends_with_the_cue(name: str, language: str) -> None:
    question = load_question(name, language)
    lines = [question.ask(HORIZON, phrasing) for phrasing in range(len(question.phrasings))]
    assert len(set(lines)) == len(lines) >= (1 if name == "behavior_card@1" else 2)
    for line in lines:
        assert line.endswith(CUES[language])
        assert len(line.splitlines()) == 1
        assert not set(line) & set("{}")


@pytest.mark.parametrize("language", CUES)
@pytest.mark.parametrize("name", template_names())
def test_a_shipped_version_never_changes_its_texts(name: str, language: str) -> None:
    assert sha256(texts_of(name, language).encode()).hexdigest()[:12] == SHIPPED[name, language]


def test_every_version_that_was_ever_shipped_still_exists() -> None:
    assert {name for name, _ in SHIPPED} == set(template_names())


@pytest.mark.parametrize("language", CUES)
def test_every_phrasing_of_the_main_question_contains_the_numbers_of_the_horizon(language: str) -> None:
    question = load_template("behavior_card@2", language)
    for phrasing in range(len(question.phrasings)):
        line = question.ask(Horizon(window_months=7, dpd_threshold=43), phrasing)
        assert "7" in line
        assert "43" in line


@pytest.mark.parametrize("name", template_names())
def test_sequences_spread_over_all_phrasings_and_each_keeps_its_own(name: str) -> None:
    question = load_question(name, "en")
    found = [question.phrasing_of(f"sequence {number}") for number in range(300)]
    assert found == [question.phrasing_of(f"sequence {number}") for number in range(300)]
    wordings = len(question.phrasings)
    assert min(found.count(phrasing) for phrasing in range(wordings)) > 300 / wordings / 2


VALID: dict[str, Any] = {
    "name": "mood",
    "version": 3,
    "task": "mood",
    "kind": "discriminative",
    "slots": {"window_months": "integer", "words": "text", "folded": "text"},
    "answer": {"by": "outcome", "means": {"bad": "late", "good": "not late"}},
    "languages": {
        "en": {
            "start": "start",
            "profile": "profile {words}",
            "summary": "earlier {folded}",
            "cue": "A:",
            "phrasings": ["Late in {window_months}? A:"],
            "choices": {"bad": "Yes", "good": "No"},
        }
    },
}
Change = Callable[[dict[str, Any]], object]


def english(**texts: object) -> Change:
    return lambda content: content["languages"]["en"].update(texts)


def slots(**types: str) -> Change:
    return lambda content: content["slots"].update(types)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (english(phrasings=["Late by {days}? A:"]), "en: phrasing 1: the slot 'days' is not declared"),
        (english(phrasings=["Late in {words}? A:"]), "en: phrasing 1: the slot 'words' has no value here"),
        (english(phrasings=["Late? A:"]), "en: phrasing 1: does not use the slot 'window_months'"),
        (
            english(phrasings=["Late in {window_months:d}? A:"]),
            "en: phrasing 1: the slot 'window_months' is not a plain",
        ),
        (english(phrasings=["Late in {}? A:"]), "en: phrasing 1: the slot '' is not a plain name"),
        (english(phrasings=["Late in {window_months? A:"]), "en: phrasing 1: .*close every brace"),
        (english(phrasings=["Late in {window_months}?"]), "en: phrasing 1: does not end with the cue 'A:'"),
        (
            english(phrasings=["{window_months}\n A:"]),
            r"languages\.en\.phrasings\.0: expected a single line without surrounding white space",
        ),
        (
            english(phrasings=["{window_months} A:"] * 2),
            r"languages\.en\.phrasings: expected at least one phrasing and no duplicates",
        ),
        (english(profile="profile {folded}"), "en: profile: the slot 'folded' has no value here"),
        (english(summary="earlier"), "en: never uses the slot 'folded'"),
        (english(choices={"bad": True, "good": False}), r"languages\.en\.choices\.bad: .*quote it"),
        (english(choices={"bad": "No", "good": "No"}), "en: choices: .* are not different"),
        (english(choices={"bad": "Yes", "late": "Soon", "good": "No"}), "en: choices: holds .*'late'"),
        (english(colour="red"), r"languages\.en\.colour: unknown key; allowed here: cue, phrasings"),
        (slots(window_months="text"), "en: phrasing 1: the slot 'window_months' is integer, declared text"),
        (slots(window_months="float"), r"slots\.window_months: Input should be 'integer' or 'text'; found 'float'"),
        (slots(dpd_threshold="integer"), "en: phrasing 1: does not use the slot 'dpd_threshold'"),
        (slots(colour="text"), "en: never uses the slot 'colour'"),
        (lambda content: content.update(kind="generative"), "kind: is 'generative', but this answer is discriminative"),
        (
            lambda content: content.update(answer={"by": "colour", "means": {}}),
            r"answer\.by: Input should be 'outcome' or 'delay'; found 'colour'",
        ),
        (lambda content: content.update(answer=[]), "answer: expected a section with by, means; found list"),
        (lambda content: content.update(answer={"measure": "count"}), r"answer\.event_type is missing"),
        (lambda content: content["answer"]["means"].pop("bad"), "answer: is by 'outcome' with the meanings"),
        (lambda content: content["languages"]["en"].pop("start"), r"languages\.en: defines profile, summary"),
        (lambda content: content.update(version=4), "holds mood@4"),
        (lambda content: content.pop("task"), "task is missing; required here: name, version, task"),
    ],
)
def test_an_invalid_template_is_rejected_with_file_language_and_slot(change: Change, message: str) -> None:
    assert question_of(VALID, "en", file="mood@3.yaml").ask(HORIZON) == "Late in 6? A:"
    content = copy.deepcopy(VALID)
    change(content)
    with pytest.raises(ConfigError, match=rf"(?s)template mood@3\.yaml(: )?.*{message}"):
        question_of(content, "en", file="mood@3.yaml")


def test_a_missing_template_or_language_is_rejected_with_the_available_ones() -> None:
    with pytest.raises(ConfigError, match=r"(?s)no template 'behavior_card@9'.*behavior_card@1, behavior_card@2"):
        load_question("behavior_card@9", "en")
    with pytest.raises(ConfigError, match=r"(?s)sentiment@1\.yaml has no language 'fr'.*en, zh"):
        load_question("sentiment@1", "fr")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"template": "sentiment@1"}, "sentiment@1 does not define start, profile and summary"),
        ({"auxiliary": ["behavior_card@2"]}, "behavior_card@2 has the task 'classification' of the main question"),
        ({"auxiliary": ["repaid_amount@1"], "event_fields": []}, "repaid_amount@1 asks for amounts"),
    ],
)
def test_incompatible_questions_are_rejected(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_tasks(Instructions.model_validate(settings))


def test_a_share_selects_that_part_of_the_sequences_and_always_the_same() -> None:
    tasks = load_tasks(
        Instructions.model_validate({"auxiliary": ["sentiment@1", {"template": "login_count@1", "share": 0.25}]})
    )
    selected = [[question.name for question in tasks.auxiliary_of(f"sequence {number}")] for number in range(400)]
    assert all("sentiment@1" in names for names in selected)
    assert 60 < sum("login_count@1" in names for names in selected) < 140
    assert selected == [[q.name for q in tasks.auxiliary_of(f"sequence {number}")] for number in range(400)]
