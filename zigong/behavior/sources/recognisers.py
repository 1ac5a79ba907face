"""Presidio's pattern recognisers for card numbers, phone numbers, national ids and mail addresses in free text.

They are called one by one, without Presidio's engine: no language model is loaded, nothing is downloaded. Importing
Presidio takes seconds, so it is deferred until the first suspicious text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from presidio_analyzer import EntityRecognizer

CARD, PHONE, NATIONAL_ID, EMAIL = "<CARD>", "<PHONE>", "<NATIONAL_ID>", "<EMAIL>"
PHONE_REGIONS = ("CN", "US")  # national formats; a number that begins with + is recognised for every country
MIN_PATTERN_SCORE = 0.4  # Presidio's score: excludes patterns it calls weak, such as any nine digits as an SSN
_LONGEST_PHONE_TEXT = 20_000  # characters of a text that the slow phone matcher reads; a prompt uses 400
_KEPT = frozenset("+-.,()/@")
_RESIDENT_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_RESIDENT_CHECKS = "10X98765432"


def masked_text(text: str) -> str:
    """The text with every match replaced by the mask of its kind, such as ``<CARD>``.

    Overlapping matches become one mask, that of the match with the highest score.
    """
    plain = _plain(text)
    found = [
        (result.start, result.end, result.score, mask)
        for mask, recogniser in _recognisers()
        for result in recogniser.analyze(plain[:_LONGEST_PHONE_TEXT] if mask == PHONE else plain, [], None)
        if result.score >= MIN_PATTERN_SCORE
    ]
    pieces, place = [], 0
    for start, end, mask in _merged(found):
        pieces += [text[place:start], mask]
        place = end
    return "".join((*pieces, text[place:]))


def _merged(found: Iterable[tuple[int, int, float, str]]) -> list[tuple[int, int, str]]:
    spans: list[tuple[int, int, float, str]] = []
    for start, end, score, mask in sorted(found):
        if spans and start < spans[-1][1]:
            before = spans[-1]
            surest = max(((score, mask), (before[2], before[3])), key=lambda pair: pair[0])
            spans[-1] = (before[0], max(end, before[1]), *surest)
        else:
            spans.append((start, end, score, mask))
    return [(start, end, mask) for start, end, _, mask in spans]


def _plain(text: str) -> str:
    """Maps digits of every script to 0-9, and non-ASCII letters and symbols to blanks, one character to one.

    The patterns rely on word boundaries, and a Chinese character or an underscore does not form one.
    """
    return "".join(_plain_character(sign) for sign in text)


@cache
def _plain_character(sign: str) -> str:
    digit = unicodedata.decimal(sign, None)
    if digit is not None:
        return str(digit)
    if sign in "‐‑‒–—−":
        return "-"
    return sign if sign.isascii() and (sign.isalnum() or sign in _KEPT) else " "


@cache
def _recognisers() -> tuple[tuple[str, EntityRecognizer], ...]:
    """Each recogniser with its mask."""
    from presidio_analyzer import Pattern, PatternRecognizer
    from presidio_analyzer.predefined_recognizers import (
        CreditCardRecognizer,
        PhoneRecognizer,
        UsItinRecognizer,
        UsSsnRecognizer,
    )

    class ResidentIdRecognizer(PatternRecognizer):  # type: ignore[misc,unused-ignore]
        """Chinese resident identity number: 17 digits and a check character (GB 11643, ISO 7064 MOD 11-2)."""

        def validate_result(self, pattern_text: str) -> bool:
            """Whether the check character is correct."""
            return resident_id_check(pattern_text[:17]) == pattern_text[17].upper()

    # Presidio's pattern covers at most 17 digits; UnionPay numbers have up to 19.
    unionpay = Pattern("UnionPay", r"\b62\d{2}[- ]?\d{4}[- ]?\d{4}[- ]?\d{4}[- ]?\d{3}\b", 0.3)
    resident = Pattern("resident id", r"\b[1-9]\d{5}(?:18|19|20)\d{2}(?:0[1-9]|1[0-2])[0-3]\d{4}[\dX]\b", 0.3)
    mail = Pattern("mail address", r"[A-Za-z0-9.+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+", 0.6)
    return (
        (CARD, CreditCardRecognizer(patterns=[*CreditCardRecognizer.PATTERNS, unionpay])),
        (NATIONAL_ID, ResidentIdRecognizer("CN_RESIDENT_ID", patterns=[resident])),
        (NATIONAL_ID, UsSsnRecognizer()),
        (NATIONAL_ID, UsItinRecognizer()),
        (EMAIL, PatternRecognizer("EMAIL_ADDRESS", patterns=[mail])),
        (PHONE, PhoneRecognizer(supported_regions=PHONE_REGIONS)),
    )


def resident_id_check(digits: str) -> str:
    """The check character for the first 17 digits of a Chinese resident id (ISO 7064 MOD 11-2)."""
    return _RESIDENT_CHECKS[sum(int(d) * w for d, w in zip(digits, _RESIDENT_WEIGHTS, strict=True)) % 11]
