"""Whether a new version of a contract breaks producers or consumers of its table, and which version bump it requires.

Producers write rows that are valid under the old contract; consumers rely on its guarantees. A change breaks producers
if it requires more than before, and consumers if it guarantees less, or something else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from schemas.changes import MAJOR, MINOR, PATCH, Change, breaking, compatible, wording
from schemas.compatibility_rules import rule_changes
from schemas.contracts import Column, Relationship, TableContract
from schemas.versions import version_numbers

BUMPS = (PATCH, MINOR, MAJOR)
# From least to most sensitive; a reader is cleared up to a class.
SENSITIVITY = ("none", "quasi_identifier", "pseudonym", "free_text")
# Every value of the first type is also a value of the second.
WIDENINGS = {
    ("tinyint", "smallint"),
    ("tinyint", "int"),
    ("tinyint", "bigint"),
    ("smallint", "int"),
    ("smallint", "bigint"),
    ("int", "bigint"),
    ("int", "double"),
    ("float", "double"),
}


@dataclass(frozen=True, kw_only=True)
class Compatibility:
    """The verdict on two versions of a contract.

    Attributes:
        changes: every change, breaking ones first.
        bump: the version bump that the changes require: ``major``, ``minor`` or ``patch``; empty: none.
        version_fault: what is wrong with the new version number; empty: nothing.
    """

    changes: tuple[Change, ...]
    bump: str
    version_fault: str

    @property
    def breaks(self) -> bool:
        """Whether anyone who follows the old contract fails under the new one."""
        return self.bump == MAJOR


def compare_contracts(old: TableContract, new: TableContract) -> Compatibility:
    """Compares two versions of one table's contract."""
    changes = sorted(_changes(old, new), key=lambda change: -BUMPS.index(change.bump))
    bump = changes[0].bump if changes else ""
    return Compatibility(
        changes=tuple(changes), bump=bump, version_fault=_version_fault(old.version, new.version, bump)
    )


def _changes(old: TableContract, new: TableContract) -> Iterator[Change]:
    if old.name != new.name:
        yield breaking(f"table {old.name}", f"renamed to {new.name}", "both", "its old name no longer exists")
    yield from _columns(old, new)
    if set(old.key) != set(new.key):
        yield breaking(
            "key", _from_to(old.key, new.key), "both", "rows are identified differently: merges and joins change"
        )
    elif old.key != new.key:
        yield compatible("key", _from_to(old.key, new.key), "another order; rows are identified as before")
    if old.partitions != new.partitions:
        why = "the layout changes: writers replace other partitions, readers of files find other paths"
        yield breaking("partitions", _from_to(old.partitions, new.partitions), "both", why)
    if old.person != new.person:
        yield breaking(
            "person", f"{_way(old)} to {_way(new)}", "consumers", "an erasure finds the rows of a person in another way"
        )
    yield from _relationships(old.relationships, new.relationships)
    yield from rule_changes(old, new)
    for part in ("purpose", "usage"):
        if getattr(old, part) != getattr(new, part):
            yield wording(part, "reworded")


def _columns(old: TableContract, new: TableContract) -> Iterator[Change]:
    before, after = ({column.name: column for column in contract.columns} for contract in (old, new))
    for name, column in before.items():
        if name in after:
            yield from _column(column, after[name])
        else:
            yield breaking(f"column {name}", "removed", "both", "columns are written and read by name")
    for name, column in after.items():
        if name not in before and column.required:
            yield breaking(f"column {name}", "added, required", "producers", "they do not write it; old rows lack it")
        elif name not in before:
            yield compatible(f"column {name}", f"added, may be null, class {column.classification}", "it is optional")
    kept = [name for name in before if name in after]
    if kept != [name for name in after if name in before]:
        yield wording("columns", "another order; columns are read by name")


def _column(old: Column, new: Column) -> Iterator[Change]:
    where = f"column {old.name}"
    if old.type != new.type:
        yield _type_change(where, old.type, new.type)
    if old.required and not new.required:
        yield breaking(where, "required to optional", "consumers", "they may read NULL")
    if new.required and not old.required:
        yield breaking(where, "optional to required", "producers", "NULL is refused, and old rows may hold it")
    if old.classification != new.classification:
        what = f"class {old.classification} to {new.classification}"
        if SENSITIVITY.index(new.classification) > SENSITIVITY.index(old.classification):
            yield breaking(where, what, "consumers", "those cleared for the old class may no longer read it")
        else:
            yield breaking(where, what, "producers", "they may write values that the new class does not allow")
    if old.description != new.description:
        yield wording(where, "description reworded")


def _type_change(where: str, old: str, new: str) -> Change:
    what = f"{old} to {new}"
    if _widens(old, new):
        return breaking(where, what, "consumers", "wider: values may not fit their type")
    if _widens(new, old):
        return breaking(where, what, "producers", "narrower: values they write may no longer fit")
    return breaking(where, what, "both", "another type")


def _widens(old: str, new: str) -> bool:
    """Whether every value of a type is also one of the other; for decimals, digits on both sides of the point count."""
    narrow, wide = _decimal(old), _decimal(new)
    if narrow and wide:
        return wide[0] >= narrow[0] and wide[1] >= narrow[1]
    return (old, new) in WIDENINGS


def _decimal(type_: str) -> tuple[int, int] | None:
    """Digits before and after the point of ``decimal(precision,scale)``; None for any other type."""
    if not type_.startswith("decimal("):
        return None
    precision, scale = map(int, type_.removeprefix("decimal(").removesuffix(")").split(","))
    return precision - scale, scale


def _relationships(old: Sequence[Relationship], new: Sequence[Relationship]) -> Iterator[Change]:
    for relation in sorted(set(old) ^ set(new), key=str):
        where, target = f"column {relation.column}", f"{relation.table}.{relation.target}"
        if relation in old:
            yield breaking(where, f"no longer references {target}", "consumers", "a join may find no row")
        else:
            yield breaking(where, f"references {target}", "producers", "values without a match are now invalid")


def _from_to(old: tuple[str, ...], new: tuple[str, ...]) -> str:
    return f"{', '.join(old) or 'none'} to {', '.join(new) or 'none'}"


def _way(contract: TableContract) -> str:
    person = contract.person
    return f"{person.kind} {person.column} {person.table}".rstrip()


def _version_fault(old: str, new: str, bump: str) -> str:
    """What is wrong with a version bump, empty if nothing; a larger bump than required is allowed."""
    before, after = version_numbers(old), version_numbers(new)
    if before is None or after is None:
        return f"versions must be MAJOR.MINOR.PATCH; found {old!r} and {new!r}"
    if after < before:
        return f"the version decreased from {old} to {new}"
    if not bump:
        return ""
    major, minor, patch = before
    needed = {MAJOR: (major + 1, 0, 0), MINOR: (major, minor + 1, 0), PATCH: (major, minor, patch + 1)}[bump]
    if after < needed:
        return f"a {bump} change of version {old} requires at least {'.'.join(map(str, needed))}; found {new}"
    return ""
