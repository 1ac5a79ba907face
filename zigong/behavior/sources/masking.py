"""Masks free text before it is written: card and phone numbers, national ids and mail addresses.

A regular expression in Spark finds the few suspicious values; only those are sent to Python, as Arrow batches, and
each distinct text of a batch is analysed once.
"""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column
from pyspark.sql import functions as F

from zigong.behavior.sources.recognisers import masked_text

# Seven digits with at most three other characters between them, or an @: shorter texts hold no card, phone or id.
SUSPICIOUS = r"(?s)(?:\p{Nd}\P{Nd}{0,3}){7}|@"
SHAPE_LENGTH = 40


def masked_texts(texts: pa.Array) -> pa.Array:
    """The texts, with everything the recognisers find replaced by a mask; null remains null."""
    known = pc.dictionary_encode(pa.array(texts, pa.string()))
    masked = pa.array([masked_text(text) for text in known.dictionary.to_pylist()], pa.string())
    return pa.DictionaryArray.from_arrays(known.indices, masked).cast(pa.string())


def masked_values(attributes: pa.Array) -> pa.Array:
    """A batch of attributes (map<string,string>) with every value masked; null remains null."""
    copied = attributes.take(pa.array(range(len(attributes)), pa.int32()))  # a slice keeps the offsets of its parent
    masked = masked_texts(copied.items)
    return pa.MapArray.from_arrays(copied.offsets, copied.keys, masked, type=copied.type, mask=copied.is_null())


def masked_attributes(attributes: Column, codes: Collection[str]) -> Column:
    """Attributes with every value masked, except those the mapping declares to be codes.

    Args:
        attributes: map<string,string>.
        codes: names of attributes whose values are codes of the source or words of the mapping.
    """
    checked = F.map_filter(attributes, lambda key, value: ~key.isin(*codes) & value.rlike(SUSPICIOUS))
    found = F.when(F.size(checked) > 0, checked)
    mask = F.arrow_udf(masked_values, "map<string,string>")
    untouched = F.map_filter(attributes, lambda key, _: ~F.map_contains_key(checked, key))
    return F.when(found.isNull(), attributes).otherwise(F.map_concat(untouched, mask(found)))


def masked_cell(cell: Column) -> Column:
    """A column of texts, masked."""
    suspicious = cell.rlike(SUSPICIOUS)
    return F.when(suspicious, F.arrow_udf(masked_texts, "string")(F.when(suspicious, cell))).otherwise(cell)


def shape(cell: Column) -> Column:
    """The shape of a field: letters become a, digits become 9, truncated to ``SHAPE_LENGTH`` characters."""
    masked = F.regexp_replace(F.regexp_replace(cell.cast("string"), r"[\p{L}\p{M}]", "a"), r"\p{N}", "9")
    return F.substring(masked, 1, SHAPE_LENGTH)
