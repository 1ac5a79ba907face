"""What decides about rows besides their inputs, as one digest: rows of another method are never taken over."""

from __future__ import annotations

import hashlib
import inspect
import json
from types import ModuleType

from schemas.contracts import table_contract
from zigong.behavior import sequences, timeline
from zigong.lakehouse import business_time


def timelines_method(timezone: str) -> str:
    """The digest that names how timelines are made."""
    return _digest("user_timelines", (business_time, timeline), timezone=timezone)


def sequences_method(*, timezone: str, max_events: int, policy_id: str) -> str:
    """The digest that names how sequences are made."""
    settings = {"timezone": timezone, "max_events": max_events, "policy_id": policy_id}
    return _digest("user_sequences", (business_time, timeline, sequences), **settings)


def _digest(table: str, modules: tuple[ModuleType, ...], **settings: object) -> str:
    """Of the settings, the contract and the code itself, so that no edit is forgotten."""
    code = [inspect.getsource(module) for module in modules]
    told = json.dumps([settings, table_contract(table).digest, code], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()
