"""Small faults in a Spark SQL text: one operator, constant, word, pattern, term or column is replaced."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from itertools import pairwise

Change = tuple[str, str]  # kind of the fault, text with it

_TOKEN = re.compile(
    r"'(?:[^'\\]|\\.)*'"  # a string
    r"|`[^`]+`(?:\.\w+)*|[A-Za-z_]\w*(?:\.\w+)*"  # a name, with its fields
    r"|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
    r"|<=>|<>|<=|>=|->|\s+|."
)
_COMPARISONS = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "=": "<>", "<>": "=", "<=>": "="}
_LOGIC = {"AND": "OR", "OR": "AND"}
_OPERATORS = {
    "+": "-",
    "least": "greatest",
    "greatest": "least",
    "bool_or": "bool_and",
    "forall": "exists",
    "endswith": "startswith",
}


def sql_changes(sql: str, types: Mapping[str, str]) -> Iterator[Change]:
    """Every text that differs from ``sql`` by one fault.

    Args:
        types: names that the text may use, fields of structs as ``column.field``, and their types; a name is swapped
            for those of its own type.
    """
    tokens = _TOKEN.findall(sql)
    words = [i for i, token in enumerate(tokens) if not token.isspace()]
    in_list = False  # members of IN (...) change below
    for place, index in enumerate(words):
        before = tokens[words[place - 1]] if place else ""
        after = tokens[words[place + 1]] if place + 1 < len(words) else ""
        in_list = tokens[index] == "IN" or (in_list and before != ")")
        for kind, new in () if in_list else _token_changes(tokens[index], before, after, types):
            yield kind, "".join([*tokens[:index], new, *tokens[index + 1 :]]).strip()
    yield from _member_changes(sql)
    yield from _without_a_term(tokens)


def _token_changes(token: str, before: str, after: str, types: Mapping[str, str]) -> Iterator[Change]:
    if token in _COMPARISONS:
        yield "comparison", _COMPARISONS[token]
    elif token in _LOGIC:
        yield "and_or", _LOGIC[token]
    elif token == "IS" and after == "NULL":
        yield "null_test", "IS NOT"
    elif token == "NOT":
        yield "null_test" if before == "IS" else "negation", ""
    elif token in _OPERATORS:
        yield "operator", _OPERATORS[token]
    elif token[0].isdigit():
        yield from (("constant", new) for new in _numbers(token))
    elif token[0] == "'" and before == "RLIKE":
        yield from (("pattern", f"'{new}'") for new in _patterns(token[1:-1]))
    elif token[0] == "'":
        yield from (("word", f"'{new}'") for new in _words(token[1:-1]))
    elif (name := token.replace("`", "")) in types and after != "(":
        yield from (("column", other) for other, kind in types.items() if kind == types[name] and other != name)


def _numbers(token: str) -> Iterator[str]:
    if "e" in token:
        mantissa, _, exponent = token.partition("e")
        yield from (f"{mantissa}e{int(exponent) + step}" for step in (-1, 1))
    else:
        yield from (str(int(token) + step) for step in (-1, 1))


def _words(word: str) -> Iterator[str]:
    if re.fullmatch(r"\d{4}-\d\d-\d\d", word):
        yield from ((date.fromisoformat(word) + timedelta(days=step)).isoformat() for step in (-1, 1))
    else:
        yield f"{word}x"


def _patterns(pattern: str) -> Iterator[str]:
    """A regular expression with one anchor, quantifier, alternative or class member changed at a time."""

    def changed(match: re.Match[str], new: str) -> str:
        return pattern[: match.start()] + new + pattern[match.end() :]

    for mark in re.finditer(r"^\^|\$$|\||(?<=[\])-])\?", pattern):
        yield changed(mark, "")
    for plus in re.finditer(r"(?<=\])\+", pattern):
        yield changed(plus, "*")
        yield changed(plus, "")
    for count in re.finditer(r"(?<=[{,])\d+(?=[,}])", pattern):
        yield from (changed(count, str(int(count[0]) + step)) for step in (-1, 1) if int(count[0]) + step >= 0)
    for part in re.finditer(r"(?<=\[)[^\]]+(?=\])", pattern):
        members = re.findall(r".-.|.", part[0])
        for i, member in enumerate(members):
            fewer = [""] if len(member) == 1 else [f"{chr(ord(member[0]) + 1)}-{member[2]}"]
            fewer += [] if len(member) == 1 else [f"{member[0]}-{chr(ord(member[2]) - 1)}"]
            if len(members) > 1 or len(member) > 1:
                yield from (changed(part, "".join([*members[:i], new, *members[i + 1 :]])) for new in fewer)


def _member_changes(sql: str) -> Iterator[Change]:
    """``IN (...)`` with one member removed or added: a word with one more letter, or a number above the largest."""
    for found in re.finditer(r"IN \(([^)]*)\)", sql):
        members = found[1].split(", ")

        def listed(words: Sequence[str], at: re.Match[str] = found) -> str:
            return sql[: at.start()] + f"IN ({', '.join(words)})" + sql[at.end() :]

        yield from (
            ("member_removed", listed([word for word in members if word != removed]))
            for removed in members
            if len(members) > 1
        )
        last = members[-1]
        yield "member_added", listed([*members, f"{last[:-1]}s'" if last[0] == "'" else str(int(last) + 1)])


def _without_a_term(tokens: Sequence[str]) -> Iterator[Change]:
    """The text without one of the terms that AND or OR joins outside of brackets."""
    depth, between, cuts = 0, False, []
    for i, token in enumerate(tokens):
        depth += (token in {"(", "CASE"}) - (token in {")", "END"})
        if token in _LOGIC and depth == 0 and not between:
            cuts.append(i)
        between = token == "BETWEEN" or (between and token != "AND")
    outer = [i for i in cuts if tokens[i] == "OR"] or cuts
    edges = [-1, *outer, len(tokens)]
    terms = ["".join(tokens[low + 1 : high]).strip() for low, high in pairwise(edges)]
    if len(terms) > 1:
        joint = f" {tokens[outer[0]]} "
        yield from (("term_dropped", joint.join(terms[:i] + terms[i + 1 :])) for i in range(len(terms)))
