"""Finds card, account and phone numbers, national ids and mail addresses in free text, and masks them.

Patterns find what has the form of a number, and python-stdnum tells by check digits and rules of issue whether it can
be one. Every pattern has bounded repeats, or repeats that are never tried again: the time is linear in the length of a
text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from stdnum import luhn
from stdnum.br import cpf
from stdnum.cn import ric
from stdnum.in_ import aadhaar
from stdnum.iso7064 import mod_97_10
from stdnum.us import ssn

from zigong.behavior.sources.phones import phone_spans

CARD, PHONE, NATIONAL_ID, EMAIL, IBAN = "<CARD>", "<PHONE>", "<NATIONAL_ID>", "<EMAIL>", "<IBAN>"
LONGEST_TEXT = 65_536  # characters of a text that are read and kept; longer ones are cut
CUT = "…"
_PHONE_SCORE = 0.4
_KEPT = frozenset("+-.,()/@")
# Lengths by country: ISO 13616, IBAN registry.
IBAN_LENGTHS = {
    country: int(length)
    for length, countries in {
        "15": "NO", "16": "BE", "18": "DK FI FO GL NL SD", "19": "MK SI", "20": "AT BA EE KZ LT LU XK",
        "21": "CH HR LI LV", "22": "BG BH CR DE GB GE IE ME RS VA", "23": "AE GI IL IQ OM TL",
        "24": "AD CZ ES MD PK RO SA SE SK TN VG", "25": "LY PT ST", "26": "IS TR", "27": "BI DJ FR GR IT MC MR SM",
        "28": "AL AZ BY CY DO GT HU LB NI PL SV", "29": "BR EG PS QA UA", "30": "JO KW MU YE", "31": "MT SC",
        "32": "LC", "33": "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip

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


def _luhn(number: str) -> bool:
    return bool(luhn.checksum(number) == 0)  # without the cleaning of is_valid, which takes ten times as long


def _resident(number: str) -> bool:
    return bool(ric.calc_check_digit(number) == number[17].upper())


def _social_security(number: str) -> bool:
    """A number that was or will be issued, or of a taxpayer without one: those begin with 9."""
    return number[0] == "9" or ssn.is_valid(number)


def _always(_: str) -> bool:
    return True


_NUMBERS = (
    # Cards of 13 to 17 digits, in groups or not; 13 digits from 1 are a time in milliseconds.
    Number(
        mask=CARD,
        pattern=re.compile(
            r"\b(?!1\d{12}(?!\d))(?:[1346]\d{3}|5[0-5]\d\d)[- ]?\d{3,4}[- ]?\d{3,4}[- ]?\d{3,5}\b",
        ),
        is_valid=_luhn,
        score=1.0,
    ),
    # UnionPay cards of 19 digits.
    Number(mask=CARD, pattern=re.compile(r"\b62\d\d(?:[- ]?\d{4}){3}[- ]?\d{3}\b"), is_valid=_luhn, score=1.0),
    # United States, social security number: only with one separator, since any nine digits could be one.
    Number(
        mask=NATIONAL_ID,
        pattern=re.compile(r"\b\d{3}([- .])\d\d\1\d{4}\b"),
        is_valid=_social_security,
        score=0.5,
    ),
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
        is_valid=aadhaar.is_valid,
        score=0.6,
    ),
    Number(
        mask=NATIONAL_ID,
        pattern=re.compile(r"\b\d{3}\.\d{3}\.\d{3}[-/]\d\d\b"),
        is_valid=cpf.is_valid,
        score=0.9,
    ),
    Number(mask=NATIONAL_ID, pattern=re.compile(r"\b\d{11}\b"), is_valid=cpf.is_valid, score=0.3),
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
    for number in _NUMBERS:
        yield from number.matches(plain)
    yield from _ibans(plain)
    yield from ((start, end, _PHONE_SCORE, PHONE) for start, end in phone_spans(plain))


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
            if written and _is_iban(re.sub(r"[ -]", "", written[0])):
                yield found.start(), found.start() + len(written[0]), 1.5, IBAN  # a part of it may be a card number


def _is_iban(characters: str) -> bool:
    return bool(mod_97_10.is_valid(characters[4:] + characters[:4]))


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
