"""Validates template files: keys, typed slots and choices; every error names its location."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from schemas.documents import Strict, explain
from zigong.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class LabelAnswer:
    """One of the choices, by the performance label.

    Attributes:
        by: outcome: bad or good. delay: bad, late (good, but with days past due) or on_time.
    """

    by: Literal["outcome", "delay"]


@dataclass(frozen=True, kw_only=True)
class ProfileAnswer:
    """The word of a profile field as of T."""

    field: str


@dataclass(frozen=True, kw_only=True)
class EventAnswer:
    """A number computed from the events of one type in the calendar months before T."""

    measure: Literal["count", "sum", "largest"]
    event_type: str
    window_months: int


Answer = LabelAnswer | ProfileAnswer | EventAnswer
CLASSES: Mapping[str, tuple[str, ...]] = {"outcome": ("bad", "good"), "delay": ("bad", "late", "on_time")}
QUESTION_SLOTS: Mapping[type, Mapping[str, str]] = {
    LabelAnswer: {"window_months": "integer", "dpd_threshold": "integer"},
    EventAnswer: {"window_months": "integer"},
    ProfileAnswer: {},
}
LINE_SLOTS: Mapping[str, Mapping[str, str]] = {
    "start": {},
    "profile": {"words": "text"},
    "summary": {"folded": "text"},
}


def _one_line(text: str) -> str:
    if text != text.strip() or "\n" in text or not text:
        raise ValueError(f"expected a single line without surrounding white space, found {text!r}")
    return text


def _quoted(choice: object) -> object:
    if not isinstance(choice, str) or choice != choice.strip() or not choice:
        raise ValueError(
            f"expected a stripped text, found {choice!r}; quote it: unquoted Yes and No are booleans in YAML"
        )
    return choice


Line = Annotated[str, AfterValidator(_one_line)]
Choice = Annotated[str, BeforeValidator(_quoted)]


class LabelSection(Strict):
    """An answer by the performance label."""

    by: Literal["outcome", "delay"]
    means: dict[str, str]  # meaning of each class, the bad one first

    @model_validator(mode="after")
    def _every_class_has_a_meaning(self) -> Self:
        if tuple(self.means) != CLASSES[self.by]:
            raise ValueError(
                f"is by {self.by!r} with the meanings {list(self.means)}; expected {', '.join(CLASSES[self.by])}"
            )
        return self


class ProfileSection(Strict):
    """An answer from the profile."""

    profile: str


class EventSection(Strict):
    """An answer computed from events."""

    measure: Literal["count", "sum", "largest"]
    event_type: str
    window_months: int


def _answer_kind(content: object) -> str:
    keys = content if isinstance(content, Mapping) else {}
    if "profile" in keys:
        return ProfileSection.__name__
    return EventSection.__name__ if "measure" in keys else LabelSection.__name__


AnswerSection = Annotated[
    Annotated[LabelSection, Tag(LabelSection.__name__)]
    | Annotated[ProfileSection, Tag(ProfileSection.__name__)]
    | Annotated[EventSection, Tag(EventSection.__name__)],
    Discriminator(_answer_kind),
]


class LanguageText(Strict):
    """The texts of one language; a template that can be the main one also provides the lines around its question."""

    cue: str  # the end of every phrasing; the answer follows it
    phrasings: list[Line]
    choices: dict[str, Choice] = Field(default_factory=dict)  # by class; empty if the answer is computed
    start: Line = ""
    profile: Line = ""
    summary: Line = ""

    @field_validator("phrasings")
    @classmethod
    def _at_least_one_and_no_duplicates(cls, phrasings: list[str]) -> list[str]:
        if not phrasings or len(set(phrasings)) < len(phrasings):
            raise ValueError("expected at least one phrasing and no duplicates")
        return phrasings

    @model_validator(mode="after")
    def _all_lines_around_or_none(self) -> Self:
        if self.around and set(self.around) != set(LINE_SLOTS):
            raise ValueError(f"defines {', '.join(self.around)}; expected all of {', '.join(LINE_SLOTS)}, or none")
        return self

    @property
    def around(self) -> dict[str, str]:
        """``start``, ``profile`` and ``summary`` if the file defines them; else empty."""
        return {name: getattr(self, name) for name in LINE_SLOTS if name in self.model_fields_set}


class TemplateFile(Strict):
    """A valid template file."""

    name: str
    version: int
    task: str
    slots: dict[str, Literal["integer", "text"]]
    answer: AnswerSection
    kind: Literal["discriminative", "generative"]
    languages: dict[str, LanguageText]

    @field_validator("kind")
    @classmethod
    def _kind_of_the_answer(cls, kind: str, info: ValidationInfo) -> str:
        if "answer" in info.data:
            fitting = "discriminative" if isinstance(info.data["answer"], LabelSection) else "generative"
            if kind != fitting:
                raise ValueError(f"is {kind!r}, but this answer is {fitting}")
        return kind

    @field_validator("languages")
    @classmethod
    def _words_fit_slots_and_answer(
        cls, languages: dict[str, LanguageText], info: ValidationInfo
    ) -> dict[str, LanguageText]:
        if "answer" in info.data and "slots" in info.data:
            for language, text in languages.items():
                _require_fitting(text, answer_of(info.data["answer"]), info.data["slots"], where=language)
        return languages


def checked_template(content: Any, *, file: str) -> TemplateFile:
    """Checks a parsed template file.

    Raises:
        ConfigError: a key is missing or unknown; a slot is undeclared, unused, without a value or of a type other than
            that of its value; choices do not match the classes of the answer; a question does not end with the cue.
    """
    try:
        template = TemplateFile.model_validate(content)
    except ValidationError as error:
        raise ConfigError(explain(error, TemplateFile, origin=f"template {file}"), action=f"edit {file}") from error
    name = f"{template.name}@{template.version}"
    if file != f"{name}.yaml":
        raise ConfigError(f"template {file}: holds {name}", action="name the file NAME@VERSION.yaml")
    return template


def answer_of(section: LabelSection | ProfileSection | EventSection) -> Answer:
    """The answer source that a section of a template file describes."""
    match section:
        case LabelSection():
            return LabelAnswer(by=section.by)
        case ProfileSection():
            return ProfileAnswer(field=section.profile)
        case EventSection():
            return EventAnswer(
                measure=section.measure, event_type=section.event_type, window_months=section.window_months
            )


def choices_of(text: LanguageText, answer: Answer) -> tuple[str, ...]:
    """The choices in the order of the classes, the bad one first; empty if the answer is computed."""
    return tuple(text.choices[name] for name in CLASSES[answer.by]) if isinstance(answer, LabelAnswer) else ()


def _require_fitting(text: LanguageText, answer: Answer, declared: Mapping[str, str], *, where: str) -> None:
    """Requires that declared slots are used, and that every phrasing uses the same slots and ends with the cue."""
    _require_choices(text.choices, CLASSES[answer.by] if isinstance(answer, LabelAnswer) else (), where=where)
    around, fills = text.around, QUESTION_SLOTS[type(answer)]
    used = {
        slot for name in around for slot in _slots(around[name], LINE_SLOTS[name], declared, where=f"{where}: {name}")
    }
    for number, line in enumerate(text.phrasings, start=1):
        place = f"{where}: phrasing {number}"
        found = _slots(line, fills, declared, where=place)
        if unfilled := sorted((set(fills) & set(declared)) - found):
            raise ValueError(f"{place}: does not use the slot {unfilled[0]!r}; every phrasing must use the same slots")
        if not line.endswith(text.cue):
            raise ValueError(f"{place}: does not end with the cue {text.cue!r}")
        used |= found
    if unused := sorted(set(declared) - used):
        raise ValueError(f"{where}: never uses the slot {unused[0]!r}; use it or remove its declaration")


def _require_choices(choices: Mapping[str, str], classes: tuple[str, ...], *, where: str) -> None:
    if set(choices) != set(classes):
        raise ValueError(f"{where}: choices: holds {list(choices)}; expected exactly {', '.join(classes) or 'none'}")
    if len(set(choices.values())) < len(choices):
        raise ValueError(f"{where}: choices: {list(choices.values())} are not different")


def _slots(line: str, fills: Mapping[str, str], declared: Mapping[str, str], *, where: str) -> set[str]:
    """The slots of one line; each must be declared, have a value here, and have the type of that value."""
    try:
        fields = [(slot, rest) for _, slot, *rest in Formatter().parse(line) if slot is not None]
    except ValueError as error:
        raise ValueError(f"{where}: {error}; close every brace, and double literal braces") from error
    for slot, rest in fields:
        if not slot.isidentifier() or any(rest):
            raise ValueError(f"{where}: the slot {slot!r} is not a plain name; write only {{name}}")
        if slot not in declared:
            raise ValueError(f"{where}: the slot {slot!r} is not declared; declare it under slots with its type")
        if slot not in fills:
            raise ValueError(f"{where}: the slot {slot!r} has no value here; use one of {sorted(fills)}")
        if declared[slot] != fills[slot]:
            raise ValueError(f"{where}: the slot {slot!r} is {fills[slot]}, declared {declared[slot]}")
    return {slot for slot, _ in fields}
