"""Shard workers of the tests, in a module that Ray's actors can import, since they share the tests' working folder."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from zigong.errors import DataError


class Squares:
    """Squares the numbers of a shard, and records each build and each shard in files."""

    def __init__(self, *, notes: Path, power: int = 2) -> None:
        self.notes, self.power = notes, power
        (notes / f"built_{os.getpid()}").touch()

    def __call__(self, shard: Mapping[str, Any]) -> pa.Table:
        (self.notes / f"{shard['shard']}_{os.getpid()}").touch()
        numbers = shard["numbers"]
        if 13 in numbers:
            raise DataError("13 is refused", action="leave it out")
        if 0 in numbers:
            raise ZeroDivisionError("0 is no number of ours")
        if "kill_once" in shard and not (self.notes / "killed").exists():
            (self.notes / "killed").touch()
            os._exit(1)
        return pa.table({"key": numbers, "value": [number**self.power for number in numbers]})


class Deadly(Squares):
    """Squares keys that are texts; the keys in ``deadly`` always end its process."""

    def __init__(self, *, notes: Path, deadly: Collection[str]) -> None:
        super().__init__(notes=notes)
        self.deadly = deadly

    def __call__(self, shard: Mapping[str, Any]) -> pa.Table:
        keys = shard.get("only", shard["numbers"])
        with (self.notes / f"tries_{shard['shard']}").open("a") as tries:
            tries.write("x")
        if set(keys) & set(self.deadly):
            os._exit(1)
        return pa.table({"key": keys, "value": [int(key) ** 2 for key in keys]})


class Hanging(Squares):
    """Never returns from a shard that says so, or from its first attempt only."""

    def __call__(self, shard: Mapping[str, Any]) -> pa.Table:
        tried = self.notes / f"tried_{shard['shard']}"
        if shard.get("hangs") == "always" or ("hangs" in shard and not tried.exists()):
            tried.touch()
            time.sleep(3600)
        return super().__call__(shard)


def die_at_build(**_: object) -> Squares:
    os._exit(1)


def refuse_to_build(**_: object) -> Squares:
    raise DataError("the engine cannot be built", action="check its inputs")
