"""Masks free text before it is written: card and phone numbers, national ids and mail addresses.

A regular expression in Spark finds the few suspicious values; only those are sent to Python, as Arrow batches, and
each distinct text of a batch is analysed once.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Sequence

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column
from pyspark.sql import functions as F

from zigong.behavior.sources.recognisers import masked_text

# Seven digits with at most three other characters between them, an @, or the form of a British or Indian id with fewer
# digits: other texts hold no card, account, phone or id.
SUSPICIOUS = (
    r"(?s)(?:\p{Nd}\P{Nd}{0,3}){7}|@"
    r"|[A-Za-z]{2} ?(?:\p{Nd}{2} ?){3}[A-Da-d]|[A-Za-z]{5}\p{Nd}{4}[A-Za-z]"
)
SHAPE_LENGTH, LONGEST_NAME = 40, 64


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


def masked_names(attributes: Column) -> Column:
    """Attributes with the shape of every name that a mapping must have taken from a cell: a number, an address."""

    def is_no_name(name: Column) -> Column:
        return name.rlike(SUSPICIOUS) | (F.length(name) > LONGEST_NAME)

    def harmless(name: Column, _: Column) -> Column:
        return F.when(is_no_name(name), shape(name)).otherwise(name)

    return F.when(F.exists(F.map_keys(attributes), is_no_name), F.transform_keys(attributes, harmless)).otherwise(
        attributes
    )


def masked_cell(cell: Column) -> Column:
    """A column of texts, masked."""
    suspicious = cell.rlike(SUSPICIOUS)
    return F.when(suspicious, F.arrow_udf(masked_texts, "string")(F.when(suspicious, cell))).otherwise(cell)


def shape(cell: Column) -> Column:
    """The shape of a field: letters become a, digits become 9, truncated to ``SHAPE_LENGTH`` characters."""
    masked = F.regexp_replace(F.regexp_replace(cell.cast("string"), r"[\p{L}\p{M}]", "a"), r"\p{N}", "9")
    return F.substring(masked, 1, SHAPE_LENGTH)


def shape_of(text: str) -> str:
    """As ``shape``, for a single text."""
    kinds = (unicodedata.category(sign)[0] for sign in text[:SHAPE_LENGTH])
    return "".join(
        "a" if kind in "LM" else "9" if kind == "N" else sign for sign, kind in zip(text, kinds, strict=False)
    )


def shown_names(names: Sequence[str], declared: Collection[str]) -> list[str]:
    """Column names of a file for a message; shapes if no declared column is among them.

    The header of a file that has none is its first row of data.
    """
    return list(names) if set(names) & set(declared) else [shape_of(name) for name in names]


def code_or_shape(code: Column, pattern: str) -> Column:
    """A text that a mapping states as a code; one that does not match the pattern becomes its shape in ``<>``.

    Such a text may be anything, so its row breaks the rule of its column and the text is not kept in quarantine.
    """
    text = code.cast("string")
    return F.when(text.rlike(pattern), text).otherwise(F.concat(F.lit("<"), shape(text), F.lit(">")))
