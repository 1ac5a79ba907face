"""The audit log as a hash chain: pure functions over its entries, independent of Delta.

The hash of an entry covers its own fields and the hash of the previous entry, so changing, removing or reordering
entries means recomputing every later hash; a head (seq and hash) that was stored elsewhere then no longer matches.
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
    """One logged decision; two equal facts are the same fact. The contract describes the columns."""

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
    """A fact at its position in the chain."""

    seq: int
    at: datetime
    actor: str
    previous_hash: str
    entry_hash: str

    @property
    def fact(self) -> Fact:
        """The content of the entry, without its author, time and position in the chain."""
        return Fact(**{item.name: getattr(self, item.name) for item in fields(Fact)})


@dataclass(frozen=True, kw_only=True)
class Head:
    """The newest entry at some moment; stored elsewhere, it shows whether the log was later truncated or rewritten."""

    seq: int
    entry_hash: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.entry_hash}"


@dataclass(frozen=True, kw_only=True)
class Break:
    """Where the log contradicts itself, a Delta log or a head that was stored elsewhere."""

    place: str
    expected: str
    found: str


def entry_hash(content: dict[str, Any]) -> str:
    """SHA-256 of an entry's fields without ``entry_hash``, as JSON with sorted keys, no spaces and UTC microseconds.

    Fields without a value are left out, so adding a column later does not change the older hashes.
    """
    present = {
        name: value.astimezone(UTC).isoformat(timespec="microseconds") if isinstance(value, datetime) else value
        for name, value in content.items()
        if value is not None and name != "entry_hash"
    }
    return hashlib.sha256(json.dumps(present, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def head_of(entries: Sequence[Entry]) -> Head:
    """The seq and hash of the last entry; 0 and 64 zeros for an empty log."""
    return Head(seq=entries[-1].seq, entry_hash=entries[-1].entry_hash) if entries else Head(seq=0, entry_hash=GENESIS)


def linked(head: Head, facts: Sequence[Fact], *, at: datetime, actor: str) -> list[Entry]:
    """Turns facts into the entries that follow ``head``."""
    made: list[Entry] = []
    for seq, fact in enumerate(facts, head.seq + 1):
        previous = made[-1].entry_hash if made else head.entry_hash
        content = {**asdict(fact), "seq": seq, "at": at, "actor": actor, "previous_hash": previous}
        made.append(Entry(**content, entry_hash=entry_hash(content)))
    return made


def chain_break(entries: Sequence[Entry]) -> Break | None:
    """The first entry, by seq, that does not continue the previous one or does not match its own hash."""
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
    """The mismatch between a valid chain and an earlier head of it, None if they agree; the chain may have grown."""
    found = head_of(entries[: head.seq])
    if found == head:
        return None
    return Break(place=f"entry {head.seq}, the expected head", expected=str(head), found=str(found))
