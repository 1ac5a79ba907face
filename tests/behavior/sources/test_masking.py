"""Card, phone and identity numbers in free text are masked, with measured recall and false positives."""

from __future__ import annotations

import random
from collections.abc import Callable

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from zigong.behavior.sources.masking import masked_attributes, masked_cell, masked_texts
from zigong.behavior.sources.recognisers import CARD, EMAIL, NATIONAL_ID, PHONE, masked_text, resident_id_check

A_KIND = 200  # texts of each kind in the corpus
AROUND = ("{}", "paid with {} today", "ref:{}", "客户{}来电", "shop_{}_x", "({})")


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
    return body + resident_id_check(body)


def ssn(seed: random.Random) -> str:
    return f"{seed.randint(130, 665)}-{seed.randint(10, 99)}-{seed.randint(1000, 9999)}"


# kind: (mask, least share found, how to make one)
FOUND: dict[str, tuple[str, float, Callable[[random.Random], str]]] = {
    "card": (CARD, 0.97, card),
    "card in groups of four": (CARD, 0.97, lambda seed: grouped(luhn("4" + digits(seed, 14)), seed.choice(" -"))),
    "Chinese mobile": (PHONE, 0.97, mobile),
    "Chinese mobile, dashes": (PHONE, 0.97, lambda seed: (m := mobile(seed))[:3] + f"-{m[3:7]}-{m[7:]}"),
    "Chinese mobile, +86": (PHONE, 0.97, lambda seed: "+86 " + mobile(seed)),
    "US phone": (PHONE, 0.97, lambda seed: f"({seed.choice(('202', '415', '617'))}) 555-{digits(seed, 4)}"),
    "resident id": (NATIONAL_ID, 0.97, resident),
    "US social security": (NATIONAL_ID, 0.97, ssn),
    "mail address": (EMAIL, 0.97, lambda seed: f"user{digits(seed, 3)}@mail.example.com"),
}
# kind: (largest share masked in error, how to make one)
NOT_FOUND: dict[str, tuple[float, Callable[[random.Random], str]]] = {
    "card, wrong check digit": (0.05, broken_card),
    "resident id, wrong check": (0.05, lambda seed: (r := resident(seed))[:17] + ("0" if r[17] != "0" else "1")),
    "amount": (0.02, lambda seed: f"{seed.randint(1, 10**7)}.{digits(seed, 2)}"),
    "amount, thousands": (0.02, lambda seed: f"{seed.randint(10**5, 10**8):,}.00"),
    "date": (0.02, lambda seed: f"20{seed.randint(10, 29)}-{seed.randint(1, 12):02}-{seed.randint(1, 28):02}"),
    "date and time": (
        0.02,
        lambda seed: (
            f"20{seed.randint(10, 29)}-{seed.randint(1, 12):02}-{seed.randint(1, 28):02} "
            f"{seed.randint(10, 23)}:{digits(seed, 1)}0:00"
        ),
    ),
    "order, date and 6 digits": (
        0.05,
        lambda seed: f"20{seed.randint(10, 29)}1{seed.randint(0, 2)}15{digits(seed, 6)}",
    ),
    "order, 12 digits": (0.1, lambda seed: str(seed.randint(10**11, 10**12 - 1))),
    "order, 10 digits": (0.8, lambda seed: str(seed.randint(10**9, 10**10 - 1))),
}


def texts(make: Callable[[random.Random], str]) -> list[str]:
    seed = random.Random(7)  # noqa: S311
    return [seed.choice(AROUND).format(make(seed)) for _ in range(A_KIND)]


def masked_share(make: Callable[[random.Random], str], mask: str) -> float:
    return sum(mask in masked_text(text) for text in texts(make)) / A_KIND


@pytest.fixture(scope="module")
def shares() -> dict[str, float]:
    """Share of the texts of each kind that get their mask (recall), or any mask (false alarms)."""
    found = {kind: masked_share(make, mask) for kind, (mask, _, make) in FOUND.items()}
    return found | {kind: masked_share(make, "<") for kind, (_, make) in NOT_FOUND.items()}


def test_recall_and_false_positives_are_within_the_measured_bounds(shares: dict[str, float]) -> None:
    for kind, share in shares.items():
        print(f"| {kind} | {share:.1%} |")  # noqa: T201
    assert {kind: shares[kind] for kind, (_, least, _) in FOUND.items() if shares[kind] < least} == {}
    assert {kind: shares[kind] for kind, (most, _) in NOT_FOUND.items() if shares[kind] > most} == {}


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("card 4111 1111 1111 1111 ok", f"card {CARD} ok"),
        ("卡号6222021234567890128号", f"卡号{CARD}号"),
        ("４１１１１１１１１１１１１１１１", CARD),
        ("call 13800138000 or a.b@c.example", f"call {PHONE} or {EMAIL}"),
        ("id 11010519491231002X", f"id {NATIONAL_ID}"),
        ("id 110105194912310021", "id 110105194912310021"),
        ("nothing here 123", "nothing here 123"),
        ("", ""),
    ],
)
def test_only_the_number_is_masked(text: str, masked: str) -> None:
    assert masked_text(text) == masked


def test_a_batch_keeps_its_order_and_its_nulls() -> None:
    batch = pa.array(["x", None, "13800138000", "x", None])
    assert masked_texts(batch).to_pylist() == ["x", None, PHONE, "x", None]


def test_spark_masks_everything_but_declared_codes_and_missing_values(spark: SparkSession) -> None:
    rows = [
        ({"note": "card 4111 1111 1111 1111", "channel": "4111111111111111", "shop": "x"},),
        ({},),
        ({"new": "13800138000"},),
        (None,),
    ] * 3
    frame = spark.createDataFrame(rows, "words map<string,string>").repartition(2)
    found = frame.select(
        masked_attributes(F.col("words"), ("channel",)).alias("words"), masked_cell(F.col("words.note")).alias("note")
    ).collect()
    masked_rows = sorted((str(row["words"] and sorted(row["words"].items())), row["note"] or "") for row in found)
    note = f"card {CARD}"
    wanted = [
        ([("channel", "4111111111111111"), ("note", note), ("shop", "x")], note),
        ({}, ""),
        ([("new", PHONE)], ""),
        (None, ""),
    ]
    assert masked_rows == sorted((str(words), text) for words, text in wanted for _ in range(3))
