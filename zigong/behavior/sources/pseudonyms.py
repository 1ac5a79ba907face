"""Keyed digests: raw ids of clients, events, loans and persons never leave ingest."""

from __future__ import annotations

import hmac
from collections.abc import Callable

import numpy as np
import pandas as pd
from pyspark.sql import Column
from pyspark.sql import functions as F

from zigong.behavior.sources.identifiers import filled_key
from zigong.errors import ConfigError

MIN_KEY_BYTES = 16


def pseudonymiser(key: bytes) -> Callable[[Column], Column]:
    """A function that turns a string column into its HMAC-SHA256 (64 hex digits; null remains null).

    The key is only in the closure of an Arrow-batched function: it appears in no SQL text and in no query plan.

    Raises:
        ConfigError: the key is too short to be secure.
    """
    if len(key) < MIN_KEY_BYTES:
        raise ConfigError(
            f"the pseudonym key has {len(key)} bytes, expected at least {MIN_KEY_BYTES}",
            action="set ZIGONG_USER_KEY to a long random text",
        )

    def keyed_digest(ids: pd.Series) -> pd.Series:
        codes, texts = pd.factorize(ids)  # digests each client of a batch once; missing ids: -1
        digests = [hmac.digest(key, str(text).encode(), "sha256").hex() for text in texts]
        return pd.Series(np.array([*digests, None], dtype=object)[codes])

    udf = F.pandas_udf(keyed_digest, "string")
    return lambda column: udf(column.cast("string"))


def key_digests(key: bytes) -> Callable[[Column], Column]:
    """As ``pseudonymiser``, for the keys that a mapping's SQL yields: null where nothing in a key names anybody."""
    pseudonym = pseudonymiser(key)
    return lambda column: pseudonym(filled_key(column))


def user_bucket(user_id: Column, buckets: int) -> Column:
    """The fixed bucket of a client: the first 8 hex digits of the pseudonym modulo the number of buckets."""
    return F.pmod(F.conv(F.substring(user_id, 1, 8), 16, 10).cast("bigint"), F.lit(buckets)).cast("int")
