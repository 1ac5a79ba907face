"""Facts of the audit log."""

from __future__ import annotations

from zigong.lakehouse.audit_chain import Fact


def fact(number: int) -> Fact:
    return Fact(action="erased", run_id=f"r{number}", step="erase", table_name="t", cells="true", rows_dropped=number)
