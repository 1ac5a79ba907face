"""Codes of the numbers of many events: equal exactly where an event's line shows the same words."""

from __future__ import annotations

from decimal import Decimal
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zigong.instructions.codes import Integers, combined, first_positions, text_codes, valid
from zigong.instructions.numbers import Kind, NumberWords
from zigong.instructions.render import round_number
from zigong.recipe import Instructions

AMOUNT = pa.decimal128(18, 2)
LARGEST_AMOUNT = 10**18 - 1  # in hundredths


def day_codes(days_past_due: pa.Array, numbers: NumberWords | None) -> Integers:
    """Equal codes for equal words of days past due; 0 where there is none."""
    days: Integers = days_past_due.fill_null(0).to_numpy().astype(np.int64)
    if numbers is None:
        return days
    return np.where(valid(days_past_due), _steps_passed(numbers, "days_past_due", "", "", days, scale=0), 0)


def currency_codes(events: pa.RecordBatch, settings: Instructions) -> Integers | None:
    """Equal codes for equal currencies that the text names; 0 for others. None: the text names no currency."""
    return text_codes(_foreign(events, settings)) if names_currencies(settings) else None


def names_currencies(settings: Instructions) -> bool:
    """Whether the text names currencies other than the main one."""
    return settings.currency is not None and "amount" in settings.event_fields


def amount_codes(events: pa.RecordBatch, settings: Instructions, numbers: NumberWords | None) -> Integers:
    """Equal codes for equal words of amounts of one event type and currency; 0 where there is none."""
    exact = events["amount"].cast(AMOUNT)
    hundredths = np.frombuffer(exact.buffers()[1], dtype=np.int64)[::2][exact.offset : exact.offset + len(exact)]
    if numbers is None:
        codes = 1 + np.searchsorted(_amount_steps(), hundredths, side="right")
    else:
        codes = _codes_by_type(events, settings, numbers, hundredths)
    return np.where(valid(exact), codes, 0)


def _codes_by_type(
    events: pa.RecordBatch, settings: Instructions, numbers: NumberWords, hundredths: Integers
) -> Integers:
    types, currencies = events["event_type"], pa.nulls(len(events), pa.string())
    if names_currencies(settings):
        currencies = _foreign(events, settings)
    fields, codes = combined(text_codes(types), text_codes(currencies)), np.zeros(len(events), dtype=np.int64)
    for field, first in enumerate(first_positions(fields).tolist()):
        chosen, currency = fields == field, currencies[first].as_py() or ""
        codes[chosen] = _steps_passed(numbers, "amount", types[first].as_py(), currency, hundredths[chosen], scale=2)
    return codes


def _steps_passed(
    numbers: NumberWords, kind: Kind, name: str, currency: str, values: Integers, *, scale: int
) -> Integers:
    """1 and the number of steps at or below each value; 1 for a field without bins."""
    bins = numbers.bins(kind, name, currency)
    steps = np.array([] if bins is None else bins.steps(scale), dtype=np.int64)
    return 1 + np.searchsorted(steps, values, side="right")


def _foreign(events: pa.RecordBatch, settings: Instructions) -> pa.Array:
    """The currency of each amount that is not in the main one; null for others."""
    foreign = pc.and_(pc.is_valid(events["amount"]), pc.not_equal(events["currency"], settings.currency))
    return pc.if_else(foreign, events["currency"], None)


@cache
def _amount_steps() -> Integers:
    """The amounts, in hundredths, at which the word of ``round_number`` changes; its words grow with the number."""

    def rounded(hundredths: int) -> str:
        return round_number(float(Decimal(hundredths).scaleb(-2)))

    steps, intervals = [], [(-LARGEST_AMOUNT, LARGEST_AMOUNT)]
    while intervals:
        low, high = intervals.pop()
        if rounded(low) == rounded(high):
            continue
        if high - low == 1:
            steps.append(high)
            continue
        middle = (low + high) // 2
        intervals += [(low, middle), (middle, high)]
    return np.array(sorted(steps), dtype=np.int64)


def attribute_codes(maps: pa.MapArray, numbers: NumberWords | None) -> Integers:
    """Equal codes for maps with equal entries in equal order; null equals an empty map.

    Numbers that have words are equal where their words are.

    Codes are built entry by entry: a map's code after entry p is the code of the pair (previous code, entry p).
    """
    starts = maps.offsets.to_numpy().astype(np.int64)
    entries = slice(int(starts[0]), int(starts[-1])) if len(starts) else slice(0, 0)
    pairs = _pair_codes(maps.keys[entries], maps.items[entries], numbers)
    sizes = np.where(valid(maps), np.diff(starts), 0)
    codes, used, entry = np.zeros(len(maps), dtype=np.int64), 1, 0
    left = np.flatnonzero(sizes)
    while len(left):
        found = combined(codes[left], pairs[starts[left] - entries.start + entry])
        codes[left] = used + found
        used, entry = used + int(found.max()) + 1, entry + 1
        left = left[sizes[left] > entry]
    return codes


def _pair_codes(keys: pa.Array, values: pa.Array, numbers: NumberWords | None) -> Integers:
    """Equal codes for entries with equal keys and equal values, or equal words of numbers."""
    codes = combined(text_codes(keys), text_codes(values))
    if numbers is None:
        return codes
    first = pa.array(first_positions(codes))
    distinct = list(zip(keys.take(first).to_pylist(), values.take(first).to_pylist(), strict=True))
    words = [None if value is None else numbers.attribute(key, value) for key, value in distinct]
    shown = [value if word is None else word for (_, value), word in zip(distinct, words, strict=True)]
    of_words = combined(text_codes(pa.array(words, pa.string())), text_codes(pa.array(shown, pa.string())))
    return combined(text_codes(keys), of_words[codes])
