"""Finds which raw columns and functions each column of a query shows, from Spark's analysed plan; nothing is computed.

A raw column carries its name as metadata. The plan is traversed bottom-up, expression by expression: a value that is
computed from a column or a function shows it, except for null checks and counts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from pyspark.sql import DataFrame

from zigong.behavior.sources.plans import inner_plan, items, kind, nested, outputs, own_nodes

COLUMN = "zigong.column"  # metadata key of a column: the file and column it was read from
_EXPOSE_NO_VALUE = {"IsNull", "IsNotNull", "Count"}
_KEEP_STRUCTS = {"Alias", "AggregateExpression", "Min", "Max", "First", "Last", "AnyValue"}
_CHOICES = {"If", "CaseWhen"}
_BY_POSITION = {"Union", "Except", "Intersect"}
_NAMING = {"Project": "projectList", "Aggregate": "aggregateExpressions", "Window": "windowExpressions"}

Names = frozenset[str]
Marks = Callable[[Any], Names]


def shown_columns(query: DataFrame, *, conditions: bool = True) -> dict[str, tuple[str, ...]]:
    """By column of the query, the raw columns that its values show, sorted; columns that show none are left out.

    Args:
        conditions: whether the condition of a CASE or an if counts as shown; without it, only what values are made of.
    """
    return _shown(query, _Plan(of_attribute=_raw_column, of_call=_nothing, conditions=conditions))


def shown_functions(query: DataFrame, functions: Collection[str]) -> dict[str, tuple[str, ...]]:
    """By column of the query, those of the functions that its values show; columns that show none are left out."""
    return _shown(query, _Plan(of_attribute=_nothing, of_call=_called(functions)))


def used_functions(query: DataFrame, functions: Collection[str]) -> tuple[str, ...]:
    """Those of the functions that the query calls anywhere, also where only its rows depend on them; sorted."""
    called = _called(functions)
    nodes = own_nodes(query._jdf.queryExecution().analyzed())
    return tuple(sorted(_union(called(part) for _, roots, _ in nodes for root in roots for part in nested(root))))


def columns_given_to(query: DataFrame, functions: Collection[str]) -> tuple[str, ...]:
    """The raw columns that the values given to the functions are made of, wherever the query calls them; sorted.

    A call in a CASE or an if that asks for the column itself does not count: the author tells its values apart.
    """
    plan = query._jdf.queryExecution().analyzed()
    known, called = _Plan(of_attribute=_raw_column, of_call=_nothing, conditions=False), _called(functions)
    known.read(plan)

    def given(expression: Any, asked: Names) -> Names:
        if called(expression):
            return known.of_expression(expression) - asked
        parts = list(items(expression.children()))
        if kind(expression) in _CHOICES:
            asked |= _union(known.of_expression(part) for part in conditions_of(parts))
        return _union(given(part, asked) for part in parts)

    return tuple(sorted(_union(given(root, frozenset()) for _, roots, _ in own_nodes(plan) for root in roots)))


def _shown(query: DataFrame, known: _Plan) -> dict[str, tuple[str, ...]]:
    plan = query._jdf.queryExecution().analyzed()
    known.read(plan)
    shown = {name: known.of_attribute(attribute) for name, attribute in outputs(plan)}
    return {name: tuple(sorted(found)) for name, found in shown.items() if found}


class _Plan:
    """The names that each attribute of a plan shows, by expression id.

    Args:
        of_attribute: names that an attribute shows by itself.
        of_call: names that an expression shows by itself, whatever is inside it.
        conditions: whether values show the conditions that choose them.
    """

    def __init__(self, *, of_attribute: Marks, of_call: Marks, conditions: bool = True) -> None:
        self._own, self._call, self._conditions = of_attribute, of_call, conditions
        self._shown: dict[int, Names] = {}
        self._fields: dict[int, list[Names]] = {}  # of structs built by the query: names by field
        self._common: dict[int, list[Names]] = {}  # of common table expressions: names by column

    def read(self, plan: Any) -> None:
        """Reads a plan bottom-up, its children first."""
        name = kind(plan)
        if name == "WithCTE":
            for definition in items(plan.cteDefs()):
                self.read(definition.child())
                self._common[definition.id()] = [self.of_attribute(item) for _, item in outputs(definition.child())]
            self.read(plan.plan())
            return
        children = list(items(plan.children()))
        for child in children:
            self.read(child)
        if name == "CTERelationRef":
            for (_, attribute), names in zip(outputs(plan), self._common[plan.cteId()], strict=True):
                self._note(attribute, names)
        elif name in _BY_POSITION:
            columns = zip(*(outputs(child) for child in children), strict=True)
            for (_, attribute), column in zip(outputs(plan), columns, strict=True):
                self._note(attribute, _union(self.of_attribute(item) for _, item in column))
        elif name in _NAMING:
            for expression in items(getattr(plan, _NAMING[name])()):
                if kind(expression) == "Alias":
                    self._note(expression, self._of(expression.child()) | self._own(expression))
                    self._note_fields(expression)
        else:
            self._read_other(plan, children)

    def of_attribute(self, attribute: Any) -> Names:
        """The names that an attribute shows."""
        shown: Names = self._shown.get(attribute.exprId().id(), frozenset())
        return shown | self._own(attribute)

    def of_expression(self, expression: Any) -> Names:
        """The names that the value of an expression shows."""
        return self._of(expression)

    def _read_other(self, plan: Any, children: list[Any]) -> None:
        """For any other node, new attributes show whatever its expressions show."""
        passed = {item.exprId().id() for child in children for _, item in outputs(child)}
        made = [item for _, item in outputs(plan) if item.exprId().id() not in passed]
        if children and made:
            names = _union(self._of(expression) for expression in items(plan.expressions()))
            for attribute in made:
                self._note(attribute, names)

    def _of(self, expression: Any) -> Names:
        name = kind(expression)
        if name in _EXPOSE_NO_VALUE:
            return frozenset()
        if name == "AttributeReference":
            return self.of_attribute(expression)
        if name == "WindowExpression":  # partitioning and ordering select rows; they are not shown
            return self._of(expression.windowFunction())
        if name == "GetStructField" and (fields := self._fields_of(expression.child())) is not None:
            return fields[int(expression.ordinal())]
        if name.endswith("Subquery") and (plan := inner_plan(expression)) is not None:
            self.read(plan)
            return _union(self.of_attribute(item) for _, item in outputs(plan))
        parts = list(items(expression.children()))
        if not self._conditions and name in _CHOICES:
            parts = values_of(parts)
        return self._call(expression) | _union(self._of(part) for part in parts)

    def _fields_of(self, expression: Any) -> list[Names] | None:
        """The names that each field of a struct shows, None if the struct is not built by the query."""
        name = kind(expression)
        if name == "CreateNamedStruct":
            return [self._of(value) for value in items(expression.valExprs())]
        if name == "AttributeReference":
            return self._fields.get(expression.exprId().id())
        if name in _KEEP_STRUCTS:
            return self._fields_of(expression.children().apply(0))
        return None

    def _note_fields(self, alias: Any) -> None:
        fields = self._fields_of(alias.child())
        if fields is not None:
            self._fields[alias.exprId().id()] = fields

    def _note(self, attribute: Any, names: Names) -> None:
        number = attribute.exprId().id()
        self._shown[number] = self._shown.get(number, frozenset()) | names


def values_of(parts: list[Any]) -> list[Any]:
    """The values of a CASE or an if, given its children: condition, value, condition, value, ..., and a last value."""
    return [part for place, part in enumerate(parts) if place % 2 or place == len(parts) - 1]


def conditions_of(parts: list[Any]) -> list[Any]:
    """The conditions of a CASE or an if, given its children as in ``values_of``."""
    return [part for place, part in enumerate(parts) if place % 2 == 0 and place < len(parts) - 1]


def _raw_column(attribute: Any) -> Names:
    metadata = attribute.metadata()
    return frozenset((str(metadata.getString(COLUMN)),)) if metadata.contains(COLUMN) else frozenset()


def _called(functions: Collection[str]) -> Marks:
    """The name of the function that an expression calls, if it is one of those."""
    return lambda expression: frozenset((str(expression.prettyName()).lower(),)) & frozenset(functions)


def _nothing(_: Any) -> Names:
    return frozenset()


def _union(parts: Iterable[Names]) -> Names:
    return frozenset(name for part in parts for name in part)
