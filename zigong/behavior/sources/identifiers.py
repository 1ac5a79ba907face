"""Which texts name somebody: rounded numbers, texts with invisible letters and empty keys name nobody."""

from __future__ import annotations

import hashlib
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from schemas.mappings import SourceColumn, SourceFile
from zigong.errors import DataError

# Spaces, line ends, no-break and zero-width spaces, direction marks, soft hyphens, byte order marks; not NUL.
_UNSEEN = (
    range(0x01, 0x21), range(0x7F, 0xA1), (0xAD, 0x61C, 0x1680, 0x180E), range(0x2000, 0x2010), range(0x2028, 0x2030),
    range(0x205F, 0x2070), (0x3000, 0xFEFF),
)  # fmt: skip
BLANKS: Final = "".join(chr(code) for codes in _UNSEEN for code in codes)
_INSIDE = "[" + "".join(f"\\x{{{ord(letter):x}}}" for letter in BLANKS if letter != " ") + "]"
_SCIENTIFIC = r"^[+-]?\d+(?:[.,]\d+)?[eE][+-]\d+$|^[+-]?\d+[.,]\d+[eE]\d+$"

_ZEROS_AND_NINES = ("-1", *("0" * length for length in range(1, 13)), *("9" * length for length in range(5, 13)))
_WORDS = """
    unknown unknow unbekannt inconnu desconocido sconosciuto onbekend n/a na n.a. #n/a #na #ref! #value! none null
    (null) (none) nil nan undefined undef missing empty blank void default dummy test tbd nobody noone anonymous anonym
    guest \\n - -- --- ? ?? . .. * x xx xxx 未知 无 空 不详
"""
STAND_INS: Final = frozenset((*_WORDS.split(), "not available", "not applicable", "no id", "no name"))
NUMBER_STAND_INS: Final = frozenset(_ZEROS_AND_NINES)

_EMPTY_TEXTS = ("", " ", "{}", "[]", "null", *(mark * count for mark in "|-_;,:/#" for count in range(1, 5)))
_EMPTY_DIGESTS = sorted(
    hashlib.new(algorithm, text.encode(), usedforsecurity=False).hexdigest()
    for algorithm in ("md5", "sha1", "sha256", "sha512")
    for text in _EMPTY_TEXTS
)
_DIGEST_LENGTHS = tuple(sorted({len(digest) for digest in _EMPTY_DIGESTS}))
# As one SQL text: every literal of a Column is a call of the JVM of its own.
_DIGEST_ARRAY = "array(" + ", ".join(f"'{digest}'" for digest in _EMPTY_DIGESTS) + ")"
_STAND_IN_ARRAY = (
    "array(" + ", ".join(f"'{text}'".replace("\\", "\\\\") for text in sorted(STAND_INS | NUMBER_STAND_INS)) + ")"
)


def trimmed(column: SourceColumn, text: Column) -> Column:
    """The text of a field without spaces at its ends; in an identifier also without blanks and invisible letters."""
    return F.btrim(text, F.lit(BLANKS)) if column.identifier else F.trim(text)


def identifier_reasons(column: SourceColumn, cell: Column) -> list[Column]:
    """Why a field of an identifier column identifies nobody: ``scientific_notation:COL``, ``invisible_letters:COL``."""
    if not column.identifier:
        return []
    text = cell.cast("string")
    return [
        F.when(text.rlike(_SCIENTIFIC), F.lit(f"scientific_notation:{column.name}")),
        F.when(text.rlike(_INSIDE), F.lit(f"invisible_letters:{column.name}")),
    ]


def filled_key(key: Column) -> Column:
    """The key as text; null where nothing in it names anybody.

    That is a key without a letter or a digit (blanks, separators, ``{}``), JSON whose values are all empty, and a
    digest of such a text: ``to_json`` and ``concat_ws`` make them from columns that are all null.
    """
    text = key.cast("string")
    values = F.regexp_replace(F.regexp_replace(text, r'"[^"\\]*"\s*:', ""), r"\bnull\b", "")
    normalised = F.when(text.rlike(r"^\s*[\[{]"), values).otherwise(text)
    of_nothing = F.length(text).isin(*_DIGEST_LENGTHS) & F.array_contains(F.expr(_DIGEST_ARRAY), F.lower(text))
    return F.when(normalised.rlike(r"[\p{L}\p{N}]") & ~of_nothing, text)


def is_stand_in(text: Column) -> Column:
    """Whether a text is one of ``STAND_INS`` or ``NUMBER_STAND_INS``, in any case."""
    return F.array_contains(F.expr(_STAND_IN_ARRAY), F.lower(text))


def require_exact_identifiers(file: SourceFile, found: DataFrame) -> None:
    """Refuses a typed file that holds an identifier as float or double, whose last digits are lost.

    Raises:
        DataError: it names the column.
    """
    kinds = dict(found.dtypes)
    for column in file.columns:
        if column.identifier and kinds.get(column.name) in {"float", "double"}:
            raise DataError(
                f"raw file {file.name}: identifier {column.name} is a {kinds[column.name]}, which rounds long ids and "
                "makes one client of several",
                action="have the column delivered as text or as an integer",
            )
