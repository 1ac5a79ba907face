"""Finds card, account and phone numbers, national ids and mail addresses in free text, and masks them.

Cards and US ids are found by the patterns of Presidio's recognisers and tested by their checks, without Presidio's
engine: no language model is loaded, nothing is downloaded. Importing Presidio takes seconds, so it is deferred until
the first suspicious text. Every pattern has bounded repeats, or repeats that are never tried again: the time is linear
in the length of a text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from zigong.behavior.sources.check_digits import IBAN_LENGTHS, is_aadhaar, is_cpf, is_iban, resident_id_check
from zigong.behavior.sources.phones import phone_spans

if TYPE_CHECKING:
    from presidio_analyzer import PatternRecognizer

CARD, PHONE, NATIONAL_ID, EMAIL, IBAN = "<CARD>", "<PHONE>", "<NATIONAL_ID>", "<EMAIL>", "<IBAN>"
MIN_PATTERN_SCORE = 0.4  # Presidio's score: excludes patterns it calls weak, such as any nine digits as an SSN
LONGEST_TEXT = 65_536  # characters of a text that are read and kept; longer ones are cut
CUT = "…"
_PHONE_SCORE = 0.4
_KEPT = frozenset("+-.,()/@")

Match = tuple[int, int, float, str]


@dataclass(frozen=True, kw_only=True)
class Number:
    """A number of a fixed form.

    Attributes:
        pattern: finds it; separators are left out before it is validated.
        is_valid: whether its check digits are correct.
        score: where two kinds overlap, the higher score decides; above that of a phone if other numbers rarely fit.
    """

    mask: str
    pattern: re.Pattern[str]
    is_valid: Callable[[str], bool]
    score: float

    def matches(self, text: str) -> Iterator[Match]:
        """The numbers in a text, with their score and mask."""
        for found in self.pattern.finditer(text):
            if self.is_valid(re.sub(r"[^A-Za-z0-9]", "", found[0])):
                yield found.start(), found.end(), self.score, self.mask


def _resident(number: str) -> bool:
    return resident_id_check(number[:17]) == number[17].upper()


def _always(_: str) -> bool:
    return True


_NUMBERS = (
    Number(
        mask=NATIONAL_ID,
        pattern=re.compile(r"\b[1-9]\d{5}(?:18|19|20)\d{2}(?:0[1-9]|1[0-2])[0-3]\d{4}[\dXx]\b"),
        is_valid=_resident,
        score=1.0,
    ),
    # United Kingdom, national insurance number: no check digit, but prefixes that are never given out.
    Number(
        mask=NATIONAL_ID,
        pattern=re.compile(
            r"\b(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d\d ?\d\d ?\d\d ?[A-D]\b", re.IGNORECASE
        ),
        is_valid=_always,
        score=0.9,
    ),
    # India, permanent account number: its check letter is not public; the fourth letter is the kind of holder.
    Number(
        mask=NATIONAL_ID,
        pattern=re.compile(r"\b[A-Z]{3}[ABCFGHLJPT][A-Z]\d{4}[A-Z]\b", re.IGNORECASE),
        is_valid=_always,
        score=0.9,
    ),
    Number(
        mask=NATIONAL_ID,
        pattern=re.compile(r"\b[2-9]\d{3}([ -]?)\d{4}\1\d{4}\b"),
        is_valid=is_aadhaar,
        score=0.6,
    ),
    Number(
        mask=NATIONAL_ID,
        pattern=re.compile(r"\b\d{3}\.\d{3}\.\d{3}[-/]\d\d\b"),
        is_valid=is_cpf,
        score=0.9,
    ),
    Number(mask=NATIONAL_ID, pattern=re.compile(r"\b\d{11}\b"), is_valid=is_cpf, score=0.3),
)
_IBAN = re.compile(r"\b[A-Z]{2}\d\d(?=(?:[ -]?[A-Z0-9]){11})", re.IGNORECASE)
_MAIL_SIGNS = r"A-Za-z0-9\u00c0-\u024f\u0370-\u04ff-"
# The local part is not entered in its middle, and neither part is tried again at a shorter length.
_MAIL = re.compile(rf"(?<![{_MAIL_SIGNS}_.+%'])[{_MAIL_SIGNS}_.+%']++@[{_MAIL_SIGNS}]++(?:\.[{_MAIL_SIGNS}]++)+")


def masked_text(text: str) -> str:
    """The text with every match replaced by the mask of its kind, such as ``<CARD>``.

    Overlapping matches become one mask, that of the match with the highest score. What lies behind ``LONGEST_TEXT``
    characters is cut off.
    """
    read = text[:LONGEST_TEXT]
    pieces, place = [], 0
    for start, end, mask in _merged((*_matches(_plain(read)), *_mails(read))):
        pieces += [read[place:start], mask]
        place = end
    return "".join((*pieces, read[place:], CUT if len(text) > LONGEST_TEXT else ""))


def _matches(plain: str) -> Iterator[Match]:
    for mask, recogniser in _recognisers():
        yield from _checked_by(recogniser, mask, plain)
    for number in _NUMBERS:
        yield from number.matches(plain)
    yield from _ibans(plain)
    yield from ((start, end, _PHONE_SCORE, PHONE) for start, end in phone_spans(plain))


def _checked_by(recogniser: PatternRecognizer, mask: str, plain: str) -> Iterator[Match]:
    """The matches of Presidio's patterns that its checks do not refuse.

    Presidio's own ``analyze`` compares each match with all others, and leaves out a pattern that takes too long.
    """
    for pattern in recogniser.patterns:
        for found in re.finditer(pattern.regex, plain, re.IGNORECASE):
            valid = recogniser.validate_result(found[0])
            score = pattern.score if valid is None else float(valid)
            if score >= MIN_PATTERN_SCORE and not recogniser.invalidate_result(found[0]):
                yield found.start(), found.end(), score, mask


def _mails(text: str) -> Iterator[Match]:
    """Mail addresses of the text itself: an underscore or an accented letter is part of them."""
    yield from ((found.start(), found.end(), 0.6, EMAIL) for found in _MAIL.finditer(text))


def _ibans(plain: str) -> Iterator[Match]:
    """IBANs, plain or in groups; the country defines where one ends, so a word behind it is not read as part of it."""
    for found in _IBAN.finditer(plain):
        length = IBAN_LENGTHS.get(found[0][:2].upper(), 0)
        if length:
            written = re.match(
                rf"[A-Z]{{2}}\d\d(?:[ -]?[A-Z0-9]){{{length - 4}}}\b", plain[found.start() : found.start() + 80], re.I
            )
            if written and is_iban(re.sub(r"[ -]", "", written[0])):
                yield found.start(), found.start() + len(written[0]), 1.5, IBAN  # a part of it may be a card number


def _merged(found: Iterable[Match]) -> list[tuple[int, int, str]]:
    spans: list[Match] = []
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
def _recognisers() -> tuple[tuple[str, PatternRecognizer], ...]:
    """Presidio's recognisers, each with its mask."""
    from presidio_analyzer import Pattern
    from presidio_analyzer.predefined_recognizers import CreditCardRecognizer, UsItinRecognizer, UsSsnRecognizer

    # Presidio's pattern covers at most 17 digits; UnionPay numbers have up to 19.
    unionpay = Pattern("UnionPay", r"\b62\d{2}[- ]?\d{4}[- ]?\d{4}[- ]?\d{4}[- ]?\d{3}\b", 0.3)
    return (
        (CARD, CreditCardRecognizer(patterns=[*CreditCardRecognizer.PATTERNS, unionpay])),
        (NATIONAL_ID, UsSsnRecognizer()),
        (NATIONAL_ID, UsItinRecognizer()),
    )
