"""The hash chain of the audit log: a changed, removed, swapped or truncated entry is detected and located."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.audit_facts import fact
from zigong.lakehouse.audit_chain import GENESIS, Break, Entry, chain_break, entry_hash, head_break, head_of, linked


@pytest.fixture
def chain() -> list[Entry]:
    at = datetime(2024, 1, 1, tzinfo=UTC)
    return linked(head_of([]), [fact(number) for number in range(1, 6)], at=at, actor="ana")


def forged(entry: Entry, **changes: object) -> Entry:
    """A changed entry with a valid hash."""
    content = {**vars(entry), **changes}
    return Entry(**{**content, "entry_hash": entry_hash(content)})


def test_the_hash_covers_every_field_as_documented(chain: list[Entry]) -> None:
    content = (
        '{"action":"erased","actor":"ana","at":"2024-01-01T00:00:00.000000+00:00","cells":"true","previous_hash":"'
        + GENESIS
        + '","rows_dropped":1,"run_id":"r1","seq":1,"step":"erase","table_name":"t"}'
    )
    known = subprocess.run(["sha256sum"], input=content.encode(), capture_output=True, check=True).stdout[:64].decode()
    assert chain[0].entry_hash == known
    assert chain_break(chain) is None
    for name, value in vars(chain[2]).items():
        others = {str: "f" * 64, int: 77, datetime: datetime(2024, 1, 2, tzinfo=UTC), type(None): 9}
        change: dict[str, Any] = {name: others[type(value)]}
        broken = chain_break([*chain[:2], replace(chain[2], **change), *chain[3:]])
        assert broken is not None
        assert broken.place.startswith("entry 3: ")


def test_a_changed_field_is_reported_with_both_hashes(chain: list[Entry]) -> None:
    flipped = replace(chain[1], rows_dropped=200)
    expected = Break(place="entry 2: entry_hash", expected=entry_hash(vars(flipped)), found=chain[1].entry_hash)
    assert chain_break([chain[0], flipped, *chain[2:]]) == expected


def test_a_removed_entry_is_detected_even_after_renumbering(chain: list[Entry]) -> None:
    assert chain_break([chain[0], *chain[2:]]) == Break(place="entry 2: seq", expected="2", found="3")
    closed = [chain[0], *(forged(entry, seq=entry.seq - 1) for entry in chain[2:])]
    broken = Break(place="entry 2: previous_hash", expected=chain[0].entry_hash, found=chain[1].entry_hash)
    assert chain_break(closed) == broken


def test_swapped_entries_are_reported(chain: list[Entry]) -> None:
    swapped = [chain[0], forged(chain[2], seq=2), forged(chain[1], seq=3), *chain[3:]]
    broken = Break(place="entry 2: previous_hash", expected=chain[0].entry_hash, found=chain[1].entry_hash)
    assert chain_break(swapped) == broken


def test_a_forged_entry_with_a_valid_hash_breaks_the_next_one(chain: list[Entry]) -> None:
    lie = forged(chain[2], actor="ben")
    broken = Break(place="entry 4: previous_hash", expected=lie.entry_hash, found=chain[2].entry_hash)
    assert chain_break([*chain[:2], lie, *chain[3:]]) == broken


def test_a_stored_head_detects_a_truncated_or_rewritten_end(chain: list[Entry]) -> None:
    kept = head_of(chain)
    assert str(kept) == f"5:{chain[4].entry_hash}"
    cut = chain[:3]
    rewritten = [*chain[:4], forged(chain[4], actor="ben")]
    assert chain_break(cut) is None
    assert chain_break(rewritten) is None
    for tampered in (cut, rewritten):
        broken = Break(place="entry 5, the expected head", expected=str(kept), found=str(head_of(tampered)))
        assert head_break(tampered, kept) == broken
    grown = [*chain, *linked(kept, [fact(6)], at=chain[0].at, actor="ana")]
    assert head_break(grown, kept) is None
