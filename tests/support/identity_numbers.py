"""Makes card, account, identity and phone numbers with correct check digits, each by its published rule."""

from __future__ import annotations

import random
from collections.abc import Callable

from zigong.behavior.sources.recognisers import IBAN_LENGTHS


def digits(seed: random.Random, count: int) -> str:
    return "".join(seed.choice("0123456789") for _ in range(count))


def luhn(body: str) -> str:
    """The card number that begins with ``body``: the check digit makes the weighted sum divisible by 10."""
    return next(
        number
        for number in (body + check for check in "0123456789")
        if sum(sum(divmod(int(d) * (1 + i % 2), 10)) for i, d in enumerate(reversed(number))) % 10 == 0
    )


def card(seed: random.Random) -> str:
    start, length = seed.choice((("4", 16), ("5" + seed.choice("12345"), 16), ("62", 16), ("62", 19), ("37", 15)))
    return luhn(start + digits(seed, length - 1 - len(start)))


def grouped(number: str, sign: str) -> str:
    return sign.join(number[place : place + 4] for place in range(0, len(number), 4))


def broken_card(seed: random.Random) -> str:
    number = card(seed)
    return number[:-1] + str((int(number[-1]) + 1) % 10)


def mobile(seed: random.Random) -> str:
    return seed.choice(("138", "139", "150", "186", "177", "199")) + digits(seed, 8)


def resident(seed: random.Random) -> str:
    date = f"{seed.randint(1950, 2005)}{seed.randint(1, 12):02}{seed.randint(1, 28):02}"
    body = seed.choice(("110105", "440305", "310104")) + date + digits(seed, 3)
    weights = (pow(2, 17 - place, 11) for place in range(17))  # ISO 7064, MOD 11-2
    return body + "10X98765432"[sum(int(digit) * weight for digit, weight in zip(body, weights, strict=True)) % 11]


def ssn(seed: random.Random) -> str:
    return f"{seed.randint(130, 665)}-{seed.randint(10, 99)}-{seed.randint(1000, 9999)}"


def iban(seed: random.Random) -> str:
    """An IBAN whose account part is digits: check digits are 98 minus the remainder with 00 in their place."""
    country = seed.choice(("DE", "FR", "ES", "IT", "NL", "PL", "AT", "BE", "PT", "BR"))
    account = digits(seed, IBAN_LENGTHS[country] - 4)
    number = int(account + "".join(str(ord(letter) - 55) for letter in country) + "00")
    return f"{country}{98 - number % 97:02}{account}"


def nino(seed: random.Random) -> str:
    return f"{seed.choice(('AB', 'CE', 'JH', 'RW'))}{digits(seed, 6)}{seed.choice('ABCD')}"


def pan(seed: random.Random) -> str:
    letters = "".join(seed.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(4))
    return f"{letters[:3]}{seed.choice('PCHF')}{letters[3]}{digits(seed, 4)}{seed.choice('AKZ')}"


PRODUCT = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678", "5987604321", "6598710432", "7659821043",
    "8765932104", "9876543210",
)  # fmt: skip
PERMUTED = (
    "0123456789", "1576283094", "5803796142", "8916043527", "9453126870", "4286573901", "2793806415", "7046913258",
)  # fmt: skip


def aadhaar(seed: random.Random) -> str:
    """A number whose last digit makes the product of Verhoeff's permuted digits 0; tables as printed by Verhoeff."""
    body, check = seed.choice("23456789") + digits(seed, 10), 0
    for place, digit in enumerate(reversed(body), start=1):
        check = int(PRODUCT[check][int(PERMUTED[place % 8][int(digit)])])
    return body + str(PRODUCT[check].index("0"))


def cpf(seed: random.Random) -> str:
    """Two check digits, each 11 minus the weighted sum modulo 11, or 0 where that is above 9."""
    number = digits(seed, 9)
    for _ in range(2):
        total = sum(int(digit) * weight for weight, digit in enumerate(reversed(number), start=2))
        number += str((11 - total % 11) % 11 % 10)
    return number


def written(number: str, form: str) -> str:
    """Digits in the place of the # of a form."""
    signs = iter(number)
    return "".join(next(signs) if sign == "#" else sign for sign in form)


def phone(*forms: str) -> Callable[[random.Random], str]:
    """Makes numbers of a form, with random digits in the place of its #."""

    def make(seed: random.Random) -> str:
        form = seed.choice(forms)
        return written(digits(seed, form.count("#")), form)

    return make
