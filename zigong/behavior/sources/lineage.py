"""Finds which raw identifiers each column of a query exposes, from Spark's analysed plan; nothing is computed.

A raw identifier column carries its name as metadata. The plan is traversed bottom-up, expression by expression: a
value that is computed from an identifier exposes it, except for null checks and counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pyspark.sql import DataFrame

IDENTIFIER = "zigong.identifier"  # metadata key of a column: the file and column it was read from
_EXPOSE_NO_VALUE = {"IsNull", "IsNotNull", "Count"}
_KEEP_STRUCTS = {"Alias", "AggregateExpression", "Min", "Max", "First", "Last", "AnyValue"}
_BY_POSITION = {"Union", "Except", "Intersect"}
_NAMING = {"Project": "projectList", "Aggregate": "aggregateExpressions", "Window": "windowExpressions"}

Names = frozenset[str]


def shown_identifiers(query: DataFrame) -> dict[str, tuple[str, ...]]:
    """By column of the query, the identifiers that its values expose, sorted; columns that expose none are left out."""
    plan = query._jdf.queryExecution().analyzed()
    known = _Plan()
    known.read(plan)
    shown = {name: known.of_attribute(attribute) for name, attribute in _outputs(plan)}
    return {name: tuple(sorted(found)) for name, found in shown.items() if found}


class _Plan:
    """The identifiers that each attribute of a plan exposes, by expression id."""

    def __init__(self) -> None:
        self._shown: dict[int, Names] = {}
        self._fields: dict[int, list[Names]] = {}  # of structs built by the query: identifiers by field
        self._common: dict[int, list[Names]] = {}  # of common table expressions: identifiers by column

    def read(self, plan: Any) -> None:
        """Reads a plan bottom-up, its children first."""
        kind = _kind(plan)
        if kind == "WithCTE":
            for definition in _items(plan.cteDefs()):
                self.read(definition.child())
                self._common[definition.id()] = [self.of_attribute(item) for _, item in _outputs(definition.child())]
            self.read(plan.plan())
            return
        children = list(_items(plan.children()))
        for child in children:
            self.read(child)
        if kind == "CTERelationRef":
            for (_, attribute), names in zip(_outputs(plan), self._common[plan.cteId()], strict=True):
                self._note(attribute, names)
        elif kind in _BY_POSITION:
            columns = zip(*(_outputs(child) for child in children), strict=True)
            for (_, attribute), column in zip(_outputs(plan), columns, strict=True):
                self._note(attribute, _union(self.of_attribute(item) for _, item in column))
        elif kind in _NAMING:
            for expression in _items(getattr(plan, _NAMING[kind])()):
                if _kind(expression) == "Alias":
                    self._note(expression, self._of(expression.child()) | _own(expression))
                    self._note_fields(expression)
        else:
            self._read_other(plan, children)

    def of_attribute(self, attribute: Any) -> Names:
        """The identifiers that an attribute exposes."""
        shown: Names = self._shown.get(attribute.exprId().id(), frozenset())
        return shown | _own(attribute)

    def _read_other(self, plan: Any, children: list[Any]) -> None:
        """For any other node, new attributes expose whatever its expressions expose."""
        passed = {item.exprId().id() for child in children for _, item in _outputs(child)}
        made = [item for _, item in _outputs(plan) if item.exprId().id() not in passed]
        if children and made:
            names = _union(self._of(expression) for expression in _items(plan.expressions()))
            for attribute in made:
                self._note(attribute, names)

    def _of(self, expression: Any) -> Names:
        kind = _kind(expression)
        if kind in _EXPOSE_NO_VALUE:
            return frozenset()
        if kind == "AttributeReference":
            return self.of_attribute(expression)
        if kind == "WindowExpression":  # partitioning and ordering select rows; they are not exposed
            return self._of(expression.windowFunction())
        if kind == "GetStructField" and (fields := self._fields_of(expression.child())) is not None:
            return fields[int(expression.ordinal())]
        if kind.endswith("Subquery"):
            self.read(expression.plan())
            return _union(self.of_attribute(item) for _, item in _outputs(expression.plan()))
        return _union(self._of(child) for child in _items(expression.children()))

    def _fields_of(self, expression: Any) -> list[Names] | None:
        """The identifiers that each field of a struct exposes, None if the struct is not built by the query."""
        kind = _kind(expression)
        if kind == "CreateNamedStruct":
            return [self._of(value) for value in _items(expression.valExprs())]
        if kind == "AttributeReference":
            return self._fields.get(expression.exprId().id())
        if kind in _KEEP_STRUCTS:
            return self._fields_of(expression.children().apply(0))
        return None

    def _note_fields(self, alias: Any) -> None:
        fields = self._fields_of(alias.child())
        if fields is not None:
            self._fields[alias.exprId().id()] = fields

    def _note(self, attribute: Any, names: Names) -> None:
        number = attribute.exprId().id()
        self._shown[number] = self._shown.get(number, frozenset()) | names


def _own(attribute: Any) -> Names:
    metadata = attribute.metadata()
    return frozenset((str(metadata.getString(IDENTIFIER)),)) if metadata.contains(IDENTIFIER) else frozenset()


def _outputs(plan: Any) -> list[tuple[str, Any]]:
    return [(attribute.name(), attribute) for attribute in _items(plan.output())]


def _items(sequence: Any) -> Iterator[Any]:
    return (sequence.apply(place) for place in range(sequence.length()))


def _union(parts: Iterable[Names]) -> Names:
    return frozenset(name for part in parts for name in part)


def _kind(node: Any) -> str:
    return str(node.getClass().getSimpleName())
