"""Access to the nodes of Spark's logical plans, which live in the JVM."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def kind(node: Any) -> str:
    """The class of a plan or expression, without its package."""
    return str(node.getClass().getSimpleName())


def items(sequence: Any) -> Iterator[Any]:
    """The items of a Scala sequence."""
    return (sequence.apply(place) for place in range(sequence.length()))


def outputs(plan: Any) -> list[tuple[str, Any]]:
    """The columns of a plan, by name."""
    return [(attribute.name(), attribute) for attribute in items(plan.output())]


def inner_plan(expression: Any) -> Any | None:
    """The plan of a subquery; None for any other expression."""
    name = kind(expression)
    subquery = name.endswith(("Subquery", "SubqueryArgumentExpression")) and name != "InSubquery"
    return expression.plan() if subquery or name in {"Exists", "ListQuery"} else None


def own_nodes(plan: Any, around: tuple[Any, ...] = ()) -> Iterator[tuple[Any, list[Any], tuple[Any, ...]]]:
    """Every node that the SQL of a mapping made; the files behind their views are left out.

    Args:
        plan: the analysed plan.
        around: nodes around it that define common table expressions, outermost first.

    Yields:
        Each node, its expressions, and the nodes around it that define common table expressions.
    """
    name = kind(plan)
    if name == "View":
        return
    expressions = list(items(plan.expressions()))
    yield plan, expressions, around
    below = [plan.plan()] if name == "WithCTE" else list(items(plan.children()))
    if name == "WithCTE":
        around = (*around, plan)
        below += [part.child() for part in items(plan.cteDefs())]
    subqueries = [inner for part in expressions for inner in map(inner_plan, nested(part)) if inner is not None]
    for part in (*below, *subqueries):
        yield from own_nodes(part, around)


def nested(expression: Any) -> Iterator[Any]:
    """An expression and all expressions inside it, outermost first."""
    yield expression
    for child in items(expression.children()):
        yield from nested(child)
