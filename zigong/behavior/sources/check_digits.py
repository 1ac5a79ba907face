"""Check digits of identity and account numbers: whether a number of the right form can be one."""

from __future__ import annotations

_RESIDENT_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_RESIDENT_CHECKS = "10X98765432"
# The dihedral group of a pentagon and its permutation: J. Verhoeff, Error Detecting Decimal Codes, 1969.
_PRODUCT = tuple(
    tuple((a + b) % 5 + 5 * (b > 4) if a < 5 else (a - b) % 5 + 5 * (b < 5) for b in range(10)) for a in range(10)
)
_PERMUTED = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)
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


def resident_id_check(digits: str) -> str:
    """The check character for the first 17 digits of a Chinese resident id (ISO 7064 MOD 11-2)."""
    return _RESIDENT_CHECKS[sum(int(d) * w for d, w in zip(digits, _RESIDENT_WEIGHTS, strict=True)) % 11]


def is_iban(characters: str) -> bool:
    """Whether letters and digits are an IBAN of its country's length (ISO 7064 MOD 97-10)."""
    text = characters.upper()
    if IBAN_LENGTHS.get(text[:2]) != len(text):
        return False
    return int("".join(str(int(sign, 36)) for sign in text[4:] + text[:4])) % 97 == 1


def is_cpf(digits: str) -> bool:
    """Whether 11 digits are a Brazilian taxpayer number (CPF): two check digits, modulo 11."""
    if len(set(digits)) == 1:
        return False
    for place in (9, 10):
        rest = sum(int(d) * w for d, w in zip(digits[:place], range(place + 1, 1, -1), strict=True)) * 10 % 11 % 10
        if rest != int(digits[place]):
            return False
    return True


def is_aadhaar(digits: str) -> bool:
    """Whether 12 digits are an Indian Aadhaar number: the scheme of Verhoeff, not a palindrome."""
    check = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit)
        for _ in range(place % 8):
            value = _PERMUTED[value]
        check = _PRODUCT[check][value]
    return check == 0 and digits != digits[::-1]
