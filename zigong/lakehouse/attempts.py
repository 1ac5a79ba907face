"""One attempt of a run at a step, as far as publishing has to know it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


def _always() -> None:
    """Of an attempt that nobody can replace."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """The attempt that publishes.

    Attributes:
        token: fencing token: larger than that of every earlier attempt of the run; 0 outside a lease. The committer
            refuses a commit of a run and its predicate below a token that is in the log.
        rerun: how often the step had finished in its run before it was requested again; its earlier commits do not
            count as this attempt's.
        require_held: raises a ConflictError once a later attempt has taken over the run.
    """

    token: int = 0
    rerun: int = 0
    require_held: Callable[[], None] = _always
