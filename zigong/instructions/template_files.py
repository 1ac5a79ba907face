"""What a template file must hold: its keys, its typed slots, its choices; everything wrong is named with its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any, Literal, NoReturn

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
MEASURES = ("count", "sum", "largest")


@dataclass(frozen=True, kw_only=True)
class LanguageText:
    """The texts of one language.

    Attributes:
        cue: end of every phrasing; the answer follows it.
        choices: in the order of the classes, the bad one first; empty where the answer is computed.
        around: ``start``, ``profile`` and ``summary`` of a template that may be a main one; else empty.
    """

    cue: str
    phrasings: tuple[str, ...]
    choices: tuple[str, ...]
    around: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class TemplateFile:
    """A sound template file."""

    name: str
    version: int
    task: str
    answer: Answer
    languages: Mapping[str, LanguageText]


def checked_template(content: Any, *, file: str) -> TemplateFile:
    """Checks a parsed template file.

    Raises:
        ConfigError: a key is missing or unknown; a slot is undeclared, unused, filled by nothing or of another type
            than what fills it; choices do not fit the classes of the answer; a question does not end with the cue.
    """
    keys = ("name", "version", "task", "kind", "slots", "answer", "languages")
    top = _section(content, keys, where=file)
    answer = _answer(top["answer"], where=f"{file}: answer")
    if file != f"{top['name']}@{top['version']}.yaml":
        _refuse(file, f"holds {top['name']}@{top['version']}", "name the file NAME@VERSION.yaml")
    kind = "discriminative" if isinstance(answer, LabelAnswer) else "generative"
    if top["kind"] != kind:
        _refuse(f"{file}: kind", f"is {top['kind']!r}, but this answer is {kind}", f"write kind: {kind}")
    declared = dict(top["slots"])
    for slot, type_name in declared.items():
        if type_name not in ("integer", "text"):
            _refuse(f"{file}: slots.{slot}", f"has the type {type_name!r}", "use integer or text")
    languages = {
        language: _language(text, answer, declared, where=f"{file}: {language}")
        for language, text in top["languages"].items()
    }
    return TemplateFile(name=top["name"], version=top["version"], task=top["task"], answer=answer, languages=languages)


def _answer(content: Any, *, where: str) -> Answer:
    """Exactly one of the three ways to an answer."""
    if not isinstance(content, Mapping):
        _refuse(where, "is no mapping", "name by, profile or measure")
    if "profile" in content:
        return ProfileAnswer(field=_section(content, ("profile",), where=where)["profile"])
    if "measure" in content:
        section = _section(content, ("measure", "event_type", "window_months"), where=where)
        if section["measure"] not in MEASURES or not isinstance(section["window_months"], int):
            _refuse(where, f"is {dict(section)}", f"use one of {', '.join(MEASURES)} and whole months")
        return EventAnswer(**section)
    section = _section(content, ("by", "means"), where=where)
    if section["by"] not in CLASSES or tuple(section["means"]) != CLASSES[section["by"]]:
        known = "; ".join(f"{by}: {', '.join(classes)}" for by, classes in CLASSES.items())
        _refuse(where, f"is by {section['by']!r} with {list(section['means'])}", f"say what each class means ({known})")
    return LabelAnswer(by=section["by"])


def _language(content: Any, answer: Answer, declared: Mapping[str, str], *, where: str) -> LanguageText:
    around = tuple(LINE_SLOTS) if isinstance(content, Mapping) and set(LINE_SLOTS) & set(content) else ()
    chosen = ("choices",) if isinstance(answer, LabelAnswer) else ()
    text = _section(content, ("cue", "phrasings", *chosen, *around), where=where)
    used = {
        slot for name in around for slot in _slots(text[name], LINE_SLOTS[name], declared, where=f"{where}: {name}")
    }
    phrasings, fills = tuple(text["phrasings"]), QUESTION_SLOTS[type(answer)]
    if not phrasings or len(set(phrasings)) < len(phrasings):
        _refuse(where, "has no phrasing, or one twice", "write at least one and none twice")
    for number, line in enumerate(phrasings, start=1):
        place = f"{where}: phrasing {number}"
        found = _slots(line, fills, declared, where=place)
        if unfilled := sorted((set(fills) & set(declared)) - found):
            _refuse(place, f"does not use the slot {unfilled[0]!r}", "every phrasing asks with the same slots")
        if not line.endswith(text["cue"]):
            _refuse(place, f"does not end with the cue {text['cue']!r}", "end every question with the cue")
        used |= found
    if unused := sorted(set(declared) - used):
        _refuse(where, f"never uses the slot {unused[0]!r}", "use it, or do not declare it")
    return LanguageText(
        cue=text["cue"],
        phrasings=phrasings,
        choices=_choices(text["choices"], CLASSES[answer.by], where=f"{where}: choices")
        if isinstance(answer, LabelAnswer)
        else (),
        around={name: text[name] for name in around},
    )


def _slots(line: Any, fills: Mapping[str, str], declared: Mapping[str, str], *, where: str) -> set[str]:
    """The slots of one line, each declared, filled and of the type that fills it."""
    if not isinstance(line, str) or line != line.strip() or "\n" in line or not line:
        _refuse(where, "is no single stripped line", "write one line of text")
    try:
        fields = [(slot, rest) for _, slot, *rest in Formatter().parse(line) if slot is not None]
    except ValueError as error:
        raise ConfigError(
            f"template {where}: {error}", action="close every brace, and double those meant as text"
        ) from error
    for slot, rest in fields:
        if not slot.isidentifier() or any(rest):
            _refuse(where, f"the slot {slot!r} is no plain name", "write {name} alone")
        if slot not in declared:
            _refuse(where, f"the slot {slot!r} is not declared", "declare it under slots with its type")
        if slot not in fills:
            _refuse(where, f"nothing fills the slot {slot!r} here", f"use one of {sorted(fills)}")
        if declared[slot] != fills[slot]:
            _refuse(where, f"the slot {slot!r} is {fills[slot]}, declared {declared[slot]}", "declare it as it is")
    return {slot for slot, _ in fields}


def _choices(content: Any, classes: Sequence[str], *, where: str) -> tuple[str, ...]:
    """The choices in the order of the classes, the bad one first."""
    section = _section(content, classes, where=where)
    choices = tuple(section[name] for name in classes)
    if not all(isinstance(choice, str) and choice == choice.strip() and choice for choice in choices):
        _refuse(where, f"are {choices}", "quote them: Yes and No unquoted are no text in YAML")
    if len(set(choices)) < len(choices):
        _refuse(where, f"{choices} are not different", "give every class a choice of its own")
    return choices


def _section(content: Any, keys: Sequence[str], *, where: str) -> Mapping[str, Any]:
    if not isinstance(content, Mapping) or set(content) != set(keys):
        found = sorted(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
        _refuse(where, f"holds {found}", f"write exactly {', '.join(keys)}")
    return content


def _refuse(where: str, found: str, action: str) -> NoReturn:
    raise ConfigError(f"template {where}: {found}", action=action)
