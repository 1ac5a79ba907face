"""Free text of a source is masked before anything of it is written: numbers of cards, phones and persons, addresses.

Spark's own pattern finds the few suspicious values; only those travel to Python, as Arrow batches, and each distinct
text of a batch is read once.
"""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column
from pyspark.sql import functions as F

from zigong.behavior.sources.recognisers import masked_text

# Seven digits with at most three signs between them, or an @: less is no number of a card, a phone or a person.
SUSPICIOUS = r"(?s)(?:\p{Nd}\P{Nd}{0,3}){7}|@"
SHAPE_LENGTH = 40


def masked_texts(texts: pa.Array) -> pa.Array:
    """Every text with what the recognisers find replaced by a mask; null stays null."""
    known = pc.dictionary_encode(pa.array(texts, pa.string()))
    masked = pa.array([masked_text(text) for text in known.dictionary.to_pylist()], pa.string())
    return pa.DictionaryArray.from_arrays(known.indices, masked).cast(pa.string())


def masked_values(attributes: pa.Array) -> pa.Array:
    """A batch of attributes (map<string,string>) with every value masked; null stays null."""
    whole = attributes.take(pa.array(range(len(attributes)), pa.int32()))  # a slice keeps the offsets of its parent
    masked = masked_texts(whole.items)
    return pa.MapArray.from_arrays(whole.offsets, whole.keys, masked, type=whole.type, mask=whole.is_null())


def masked_attributes(attributes: Column, codes: Collection[str]) -> Column:
    """Attributes of which every value is masked that its mapping does not declare a code.

    Args:
        attributes: map<string,string>.
        codes: names whose values are codes of the source or words of the mapping's own.
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
    """The shape of a cell: letters become a, digits become 9, and no more than its beginning is kept."""
    masked = F.regexp_replace(F.regexp_replace(cell.cast("string"), r"[\p{L}\p{M}]", "a"), r"\p{N}", "9")
    return F.substring(masked, 1, SHAPE_LENGTH)
