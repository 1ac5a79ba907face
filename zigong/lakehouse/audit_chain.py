"""The audit log as a chain of hashes: pure functions over its entries, which know nothing of Delta.

An entry's hash covers its own fields and the hash of the entry before, so whoever changes, removes or reorders entries
has to make every later hash anew; a head (seq and hash) that was kept elsewhere then shows it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any

GENESIS = "0" * 64


@dataclass(frozen=True, kw_only=True)
class Fact:
    """What the log says of one decision; two equal facts are one fact. The columns stand in the contract."""

    action: str
    run_id: str
    step: str
    table_name: str
    cells: str
    table_id: str | None = None
    version: int | None = None
    verdict: str | None = None
    rows_in: int | None = None
    rows_published: int | None = None
    rows_quarantined: int | None = None
    rows_dropped: int | None = None
    rules_version: str | None = None


@dataclass(frozen=True, kw_only=True)
class Entry(Fact):
    """A fact in its place in the chain."""

    seq: int
    at: datetime
    actor: str
    previous_hash: str
    entry_hash: str

    @property
    def fact(self) -> Fact:
        """What the entry says, without who logged it, when and where in the chain."""
        return Fact(**{item.name: getattr(self, item.name) for item in fields(Fact)})


@dataclass(frozen=True, kw_only=True)
class Head:
    """The newest entry at some moment; kept elsewhere, it tells whether the log was cut or made anew since."""

    seq: int
    entry_hash: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.entry_hash}"


@dataclass(frozen=True, kw_only=True)
class Break:
    """Where the log contradicts itself, or something else that knows better."""

    place: str
    expected: str
    found: str


def entry_hash(content: dict[str, Any]) -> str:
    """SHA-256 of an entry's fields without ``entry_hash``, as JSON with sorted keys, no spaces and UTC microseconds.

    Fields without a value are left out, so that a column which is added one day leaves the older hashes as they are.
    """
    told = {
        name: value.astimezone(UTC).isoformat(timespec="microseconds") if isinstance(value, datetime) else value
        for name, value in content.items()
        if value is not None and name != "entry_hash"
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def head_of(entries: Sequence[Entry]) -> Head:
    """The last entry's seq and hash; 0 and 64 zeros of an empty log."""
    return Head(seq=entries[-1].seq, entry_hash=entries[-1].entry_hash) if entries else Head(seq=0, entry_hash=GENESIS)


def linked(head: Head, facts: Sequence[Fact], *, at: datetime, actor: str) -> list[Entry]:
    """Facts as the entries that follow ``head``."""
    made: list[Entry] = []
    for seq, fact in enumerate(facts, head.seq + 1):
        previous = made[-1].entry_hash if made else head.entry_hash
        content = {**asdict(fact), "seq": seq, "at": at, "actor": actor, "previous_hash": previous}
        made.append(Entry(**content, entry_hash=entry_hash(content)))
    return made


def chain_break(entries: Sequence[Entry]) -> Break | None:
    """The first entry, in the order of seq, that does not continue the one before or does not fit its own hash."""
    before = GENESIS
    for seq, entry in enumerate(entries, 1):
        for name, expected, found in (
            ("seq", seq, entry.seq),
            ("previous_hash", before, entry.previous_hash),
            ("entry_hash", entry_hash(asdict(entry)), entry.entry_hash),
        ):
            if expected != found:
                return Break(place=f"entry {seq}: {name}", expected=str(expected), found=str(found))
        before = entry.entry_hash
    return None


def head_break(entries: Sequence[Entry], head: Head) -> Break | None:
    """Whether a whole chain still holds the entry that once was its head; it may have grown since."""
    found = head_of(entries[: head.seq])
    if found == head:
        return None
    return Break(place=f"entry {head.seq}, the expected head", expected=str(head), found=str(found))
