"""Settings that are fixed for a lakehouse: written into it by its first run, compared by every other one.

Pseudonyms, user buckets, dates and partitions of all its tables follow from them; a run under others would publish
every client a second time.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schemas.contracts import table_contract, table_names
from zigong.errors import ConfigError
from zigong.files.atomic import json_text, write_json, write_once

FILE = "lakehouse.json"
KEY = "key_fingerprint"
MEANING = {
    "user_buckets": "lakehouse.user_buckets",
    "business_timezone": "business_timezone",
    KEY: "the key of the pseudonyms (lakehouse.key, ZIGONG_USER_KEY)",
    "cells": "the partition columns of the contracts",
}


def key_fingerprint(key: bytes) -> str:
    """A digest that distinguishes keys and does not reveal them."""
    return hmac.digest(key, b"zigong lakehouse key", "sha256").hex()[:16]


def require_settings(root: Path, *, user_buckets: int, business_timezone: str, key: bytes | None) -> None:
    """Writes the settings of a new lakehouse, or compares them with those of an existing one.

    Args:
        root: root of the lakehouse.
        user_buckets: number of user buckets.
        business_timezone: IANA name.
        key: of the pseudonyms; None where this process has none, which only steps after the ingest may lack.

    Raises:
        ConfigError: a setting differs; the message names both values and what a change would take.
    """
    partitions = {name: list(table_contract(name).partitions) for name in table_names()}
    given: dict[str, Any] = {"user_buckets": user_buckets, "business_timezone": business_timezone, "cells": partitions}
    given[KEY] = key_fingerprint(key) if key is not None else None
    file = root / FILE
    if not file.is_file() and write_once(file, json_text(given)):
        return
    fixed: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    for name, value in _comparable(given, fixed).items():
        if value != fixed[name]:
            raise ConfigError(
                f"{MEANING[name]} is fixed for the lakehouse {root}: its first run had {_text(fixed[name], value)}, "
                f"this one has {_text(value, fixed[name])}",
                action="use the former value; another one takes a rebuild: a new lakehouse.root, and every source "
                "ingested whole into it",
            )
    unknown = {name: value for name, value in given.items() if value is not None and fixed.get(name) is None}
    if unknown:
        write_json(file, {**fixed, **unknown})


def _comparable(given: Mapping[str, Any], fixed: Mapping[str, Any]) -> dict[str, Any]:
    """What both sides state; tables that only one of them has are no difference."""
    both = {name: value for name, value in given.items() if value is not None and fixed.get(name) is not None}
    return {**both, "cells": {**fixed["cells"], **{n: c for n, c in given["cells"].items() if n in fixed["cells"]}}}


def _text(value: Any, other: Any) -> str:
    """The value; of partition columns only those of tables that differ."""
    if not isinstance(value, dict):
        return str(value)
    return ", ".join(f"{name} ({', '.join(own)})" for name, own in value.items() if own != other.get(name))
