"""Digest of everything, except the inputs, that determines rows: rows built by another method are never reused."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Sequence
from types import ModuleType

from schemas.contracts import table_contract
from zigong.behavior import sequences, timeline
from zigong.features import baseline, event_arrays, names, table
from zigong.features.settings import FEATURE_TABLE
from zigong.lakehouse import business_time


def timelines_method(timezone: str, sources: Sequence[str]) -> str:
    """The digest of how the timelines of some sources are built."""
    return _digest("user_timelines", (business_time, timeline), timezone=timezone, sources=sorted(sources))


def sequences_method(*, timezone: str, max_events: int, policy_id: str) -> str:
    """The digest of how sequences are built."""
    settings = {"timezone": timezone, "max_events": max_events, "policy_id": policy_id}
    return _digest("user_sequences", (business_time, timeline, sequences), **settings)


def features_method(**settings: object) -> str:
    """The digest of how features are built, by the settings that they depend on."""
    return _digest(FEATURE_TABLE, (event_arrays, names, baseline, table), **settings)


def _digest(name: str, modules: tuple[ModuleType, ...], **settings: object) -> str:
    """The digest of the settings, the contract and the source code, so that no code change is missed."""
    code = [inspect.getsource(module) for module in modules]
    content = json.dumps([settings, table_contract(name).digest, code], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()
