"""One change between two versions of a contract, and its effect on producers and consumers."""

from __future__ import annotations

from dataclasses import dataclass

MAJOR, MINOR, PATCH = "major", "minor", "patch"


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change of a contract.

    Attributes:
        where: part of the contract.
        what: the change of that part.
        breaks: ``producers``, ``consumers``, ``both``, or empty if it breaks nobody.
        why: the effect on them.
        bump: the version bump it requires: ``major``, ``minor`` or ``patch``.
    """

    where: str
    what: str
    breaks: str
    why: str
    bump: str


def breaking(where: str, what: str, breaks: str, why: str) -> Change:
    """A change under which someone who follows the old contract fails."""
    return Change(where=where, what=what, breaks=breaks, why=why, bump=MAJOR)


def compatible(where: str, what: str, why: str) -> Change:
    """A change under which everyone who follows the old contract still works."""
    return Change(where=where, what=what, breaks="", why=why, bump=MINOR)


def wording(where: str, what: str) -> Change:
    """A change of wording only."""
    return Change(where=where, what=what, breaks="", why="the contract itself does not change", bump=PATCH)
