"""Documentation pages generated from the contracts: purpose, columns and rules of each table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from schemas.contracts import PersonLink, Rule, TableContract
from schemas.rules import DatasetRule, RowRule, TableRule

INDEX = "index.md"


def contract_pages(contracts: Iterable[TableContract]) -> dict[str, str]:
    """The Markdown of each page by file name: one page per table, and the index. The output is deterministic."""
    ordered = sorted(contracts, key=lambda contract: contract.name)
    pages = {f"{contract.name}.md": _page(contract, ordered) for contract in ordered}
    return {INDEX: _index(ordered), **pages}


def _index(contracts: Sequence[TableContract]) -> str:
    rows = [
        (f"[{one.name}]({one.name}.md)", one.version, one.purpose, str(len(one.columns)), str(len(one.rules)))
        for one in contracts
    ]
    return "\n".join(["# Tables", "", *_table(("table", "version", "purpose", "columns", "rules"), rows), ""])


def _page(contract: TableContract, others: Sequence[TableContract]) -> str:
    columns = [
        (f"`{one.name}`", f"`{one.type}`", "yes" if one.required else "no", one.classification, one.description)
        for one in contract.columns
    ]
    lines = [
        f"# {contract.name}",
        "",
        f"Version {contract.version}. {contract.purpose}",
        "",
        contract.usage.strip(),
        "",
        f"- Key: {_names(contract.key) or 'none'}",
        f"- Partitions: {_names(contract.partitions) or 'none'}",
        f"- Person: {_person(contract.person)}",
        "",
        "## Columns",
        "",
        *_table(("column", "type", "required", "class", "description"), columns),
        "",
        "## Rules",
        "",
        *_table(("rule", "severity", "condition", "reason"), _rules(contract)),
        "",
    ]
    related = _relationships(contract, others)
    return "\n".join([*lines, *(["## Relationships", "", *related, ""] if related else [])])


def _rules(contract: TableContract) -> list[tuple[str, str, str, str]]:
    because = {f"{column.name}_is_present": "the column is required" for column in contract.columns}
    return [
        (f"`{rule.name}`", rule.severity, _demand(rule), rule.description or because.get(rule.name, ""))
        for rule in contract.rules
    ]


def _demand(rule: Rule) -> str:
    if isinstance(rule, RowRule):
        return _code(rule.condition)
    if isinstance(rule, DatasetRule):
        return _code(rule.condition) + (f" of each `{rule.per}`" if rule.per else " of each sample")
    given = ", ".join(f"{name} {_code(str(value))}" for name, value in rule.arguments.items())
    return f"{rule.measure}{f' ({given})' if given else ''}: {bounds_text(rule)}"


def bounds_text(rule: TableRule) -> str:
    """The bounds of a measure in words."""
    if rule.low is not None and rule.low == rule.high:
        return f"exactly {rule.low:g}"
    parts = [f"at least {rule.low:g}"] if rule.low is not None else []
    parts += [f"at most {rule.high:g}"] if rule.high is not None else []
    return " and ".join(parts) or "none"


def _person(person: PersonLink) -> str:
    return {
        "nobody": "no row is about a person",
        "user_id": "`user_id` names the person of a row",
        "link": f"`{person.column}` leads to the person through [{person.table}]({person.table}.md)",
        "text": f"pseudonyms occur in `{person.column}`",
    }[person.kind]


def _relationships(contract: TableContract, others: Sequence[TableContract]) -> list[str]:
    """References from this table to others, and from other tables to this one."""
    out = [
        f"- `{relation.column}` is a `{relation.target}` of [{relation.table}]({relation.table}.md)"
        for relation in contract.relationships
    ]
    into = [
        f"- [{other.name}]({other.name}.md) leads here: its `{relation.column}` is a `{relation.target}` of this table"
        for other in others
        for relation in other.relationships
        if relation.table == contract.name
    ]
    return out + into


def _names(columns: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in columns)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [_row(head), _row(["---"] * len(head)), *(_row([_cell(text) for text in row]) for row in rows)]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _code(sql: str) -> str:
    """Inline code in Markdown, with a delimiter that does not occur in it."""
    return f"`` {sql} ``" if "`" in sql else f"`{sql}`"


def _cell(text: str) -> str:
    """The text on one line, with vertical bars escaped."""
    return " ".join(text.split()).replace("|", "\\|")
