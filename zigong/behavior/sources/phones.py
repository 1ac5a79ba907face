"""Finds phone numbers in texts: international ones, and those of the national plans of a bank's likely clients.

A text is split into runs of digit groups; phonenumbers, the port of Google's libphonenumber, decides which of them are
numbers of a national plan. The time is linear in the length of the text, since a number has at most eight groups, and
small, since a text with very many numbers has the further ones masked without a check.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate

Span = tuple[int, int]

# Countries whose national numbers begin with a trunk prefix: without its 0 such a number is not recognised.
_TRUNK_0 = (
    "GB", "DE", "FR", "NL", "BE", "AT", "SE", "FI", "IE", "BG", "HR", "RO", "SI", "SK", "HU", "LT", "IT", "CN", "IN",
    "BR",
)  # fmt: skip
_BY_DIGITS = {  # countries without one, by the number of digits
    8: ("DK", "EE", "LV", "LU", "MT", "CY"),
    9: ("ES", "PT", "PL", "CZ"),
    10: ("US", "IN", "GR", "IT", "BR"),
    11: ("CN", "BR", "US"),
}
_GROUP = re.compile(r"[+(]{0,2}(?<![A-Za-z0-9])\d+(?![A-Za-z])")
_GAP = re.compile(r"[ ().\-/]{1,3}")
_DATE = re.compile(
    r"(?<!\d)(?<!\d[-./])(?:\d{4}([-./])\d{1,2}\1\d{1,2}|\d{1,2}([-./])\d{1,2}\2(?:\d{4}|\d\d))(?!\d|[-./]\d)"
)
_AMOUNT = re.compile(r"\d+\.\d{1,2}")
_FEWEST, _MOST, _GROUPS = 8, 16, 8  # digits of a number, and the groups it may be written in
_MOST_CHECKS = 2_000  # of libphonenumber for one text, of tens of microseconds each


def phone_spans(text: str) -> Iterator[Span]:
    """The places of the phone numbers in a text of ASCII characters, in order and disjoint."""
    dated = _DATE.sub(lambda found: "x" * len(found[0]), text)
    is_valid = _Checks()
    run: list[Span] = []
    for found in _GROUP.finditer(dated):
        if run and not _GAP.fullmatch(dated, run[-1][1], found.start()):
            yield from _in_run(dated, run, is_valid)
            run = []
        run.append(found.span())
    yield from _in_run(dated, run, is_valid)


class _Checks:
    """Checks the numbers of one text; after ``_MOST_CHECKS`` each further one counts as a phone number."""

    def __init__(self) -> None:
        self._left = _MOST_CHECKS

    def __call__(self, number: str, region: str | None, *, mobile: bool = False) -> bool:
        self._left -= 1
        return self._left < 0 or _is_valid(number, region, mobile=mobile)


def _in_run(text: str, run: list[Span], is_valid: _Checks) -> Iterator[Span]:
    """Phone numbers among neighbouring groups; one of a part of the run begins and ends at a blank."""
    signs = [text.count("+", start, end) + text.count("(", start, end) for start, end in run]
    digits = [0, *accumulate(end - start - others for (start, end), others in zip(run, signs, strict=True))]
    first = 0
    while first < len(run):
        ends = _ends(text, run, first, digits)
        last = next((end for end in ends if _is_phone(text, run, first, end, is_valid)), None)
        if last is not None:
            yield run[first][0], run[last][1]
        first = first + 1 if last is None else last + 1


def _ends(text: str, run: list[Span], first: int, digits: list[int]) -> Iterator[int]:
    """Last groups of the numbers that may begin at a group, the longest first.

    Args:
        digits: number of digits before each group of the run.
    """
    if first and text[run[first - 1][1]] != " ":
        return
    for last in range(min(first + _GROUPS, len(run)) - 1, first - 1, -1):
        fits = _FEWEST <= digits[last + 1] - digits[first] <= _MOST
        if fits and (last == len(run) - 1 or text[run[last][1]] == " "):
            yield last


def _is_phone(text: str, run: list[Span], first: int, last: int, is_valid: _Checks) -> bool:
    start, end = run[first][0], run[last][1]
    written = text[start:end]
    digits = re.sub(r"\D", "", written)
    if _AMOUNT.fullmatch(written.lstrip("(")):
        return False
    if re.match(r"[.,]\d", text[end : end + 2]) or re.match(r"\d[.,]", text[max(start - 2, 0) : start]):
        return False  # part of a decimal number
    if written.lstrip("(").startswith("+") or digits.startswith("00"):
        return is_valid(f"+{digits.removeprefix('00')}", None)
    if len(digits) == _FEWEST and ((last - first + 1) not in (2, 4) or (first, last) != (0, len(run) - 1)):
        return False  # eight digits are usually a date or an amount: only if grouped, and alone
    if digits.startswith("0"):
        return any(is_valid(digits, region) for region in _TRUNK_0)
    plain = first == last and written[0] != "("  # as order numbers are written: a landline would match most of them
    return any(is_valid(digits, region, mobile=plain) for region in _BY_DIGITS.get(len(digits), ()))


@lru_cache(maxsize=4096)
def _is_valid(number: str, region: str | None, *, mobile: bool = False) -> bool:
    import phonenumbers

    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return False
    kinds = (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE_OR_MOBILE)
    return bool(phonenumbers.is_valid_number(parsed) and (not mobile or phonenumbers.number_type(parsed) in kinds))
