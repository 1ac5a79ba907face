"""One change between two versions of a contract, and what it means to whom."""

from __future__ import annotations

from dataclasses import dataclass

MAJOR, MINOR, PATCH = "major", "minor", "patch"


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change of a contract.

    Attributes:
        where: part of the contract.
        what: what became of it.
        breaks: ``producers``, ``consumers``, ``both``, or empty where it breaks nobody.
        why: what it means to them.
        bump: the step of the version it asks for: ``major``, ``minor`` or ``patch``.
    """

    where: str
    what: str
    breaks: str
    why: str
    bump: str


def breaking(where: str, what: str, breaks: str, why: str) -> Change:
    """Somebody who keeps to the old contract fails under the new one."""
    return Change(where=where, what=what, breaks=breaks, why=why, bump=MAJOR)


def compatible(where: str, what: str, why: str) -> Change:
    """The contract changes, and those who kept to the old one still do well."""
    return Change(where=where, what=what, breaks="", why=why, bump=MINOR)


def wording(where: str, what: str) -> Change:
    """Words change; what is promised does not."""
    return Change(where=where, what=what, breaks="", why="nothing that is promised changes", bump=PATCH)
