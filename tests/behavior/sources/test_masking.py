"""Card, phone and identity numbers in free text are masked, with measured recall and false positives."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from tests.support.identity_numbers import (
    aadhaar,
    broken_card,
    card,
    cpf,
    digits,
    grouped,
    iban,
    luhn,
    mobile,
    nino,
    pan,
    phone,
    resident,
    ssn,
    written,
)
from zigong.behavior.sources.masking import masked_attributes, masked_cell, masked_texts
from zigong.behavior.sources.recognisers import (
    CARD,
    EMAIL,
    IBAN,
    LONGEST_TEXT,
    NATIONAL_ID,
    PHONE,
    masked_text,
)

A_KIND = 100  # texts of each kind in the corpus
AROUND = ("{}", "paid with {} today", "ref:{}", "客户{}来电", "shop_{}_x", "({})")


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
    "mail address, underscore": (EMAIL, 0.97, lambda seed: f"jürgen_{digits(seed, 3)}@mail.example.com"),
    "IBAN": (IBAN, 0.97, iban),
    "IBAN in groups of four": (IBAN, 0.97, lambda seed: grouped(iban(seed), " ")),
    "UK national insurance": (NATIONAL_ID, 0.97, nino),
    "UK national insurance, groups": (NATIONAL_ID, 0.97, lambda seed: written(nino(seed), "## ## ## ## #")),
    "Indian PAN": (NATIONAL_ID, 0.97, pan),
    "Aadhaar": (NATIONAL_ID, 0.97, aadhaar),
    "Aadhaar in groups of four": (NATIONAL_ID, 0.97, lambda seed: grouped(aadhaar(seed), " ")),
    "CPF": (NATIONAL_ID, 0.97, lambda seed: written(cpf(seed), "###.###.###-##")),
    "UK mobile": (PHONE, 0.9, phone("07911 ######", "07700######", "+44 7911 ######")),
    "UK landline": (PHONE, 0.9, phone("020 7### ####", "0161 4## ####", "(0121) 6## ####")),
    "German phone": (PHONE, 0.9, phone("0151 2#######", "0171/4######", "030 2#######", "+49 30 2#######")),
    "French phone": (PHONE, 0.9, phone("06 1# ## ## ##", "06.2#.##.##.##", "01424#####", "+33 6 1# ## ## ##")),
    "Spanish phone": (PHONE, 0.9, phone("61# ## ## ##", "65#######", "91 5## ## ##")),
    "Italian phone": (PHONE, 0.9, phone("347 #######", "333#######", "06 698#####")),
    "Dutch phone": (PHONE, 0.9, phone("06-1#######", "06 2# ## ## ##", "020-6######")),
    "Polish phone": (PHONE, 0.9, phone("512 ### ###", "601######", "22 6## ## ##")),
    "Swedish phone": (PHONE, 0.9, phone("070-### ## ##", "08-50# ### ##")),
    "Indian mobile": (PHONE, 0.9, phone("98### #####", "98########", "+91 98### #####", "098########")),
    "Brazilian mobile": (PHONE, 0.9, phone("(11) 9####-####", "119########", "+55 11 9####-####")),
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
    "IBAN, wrong check digits": (
        0.05,
        lambda seed: (i := iban(seed))[:2] + f"{(int(i[2:4]) + 1) % 97:02}" + i[4:],
    ),
    "CPF, wrong check digit": (
        0.4,
        lambda seed: written((c := cpf(seed))[:10] + str(9 - int(c[10])), "###.###.###-##"),
    ),
    "period of two dates": (0.02, phone("1#.03.2023 - 2#.04.2023", "2023-03-1# 2023-04-2#", "1#/03/2023-2#/04/2023")),
    "amount with a decimal comma": (0.02, lambda seed: f"{seed.randint(1, 10**9)},{digits(seed, 2)}"),
    "number of 7 or 8 digits": (0.02, lambda seed: str(seed.randint(10**6, 10**8))),
    "order, 9 digits": (0.5, lambda seed: str(seed.randint(10**8, 10**9 - 1))),
    "order, 12 digits": (0.15, lambda seed: str(seed.randint(10**11, 10**12 - 1))),
    "order, 10 digits": (0.95, lambda seed: str(seed.randint(10**9, 10**10 - 1))),
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
        ("DE89 3704 0044 0532 0130 00 paid", f"{IBAN} paid"),
        ("mail anna_smith@mail.example now", f"mail {EMAIL} now"),
        ("13800138000 13900139000", f"{PHONE} {PHONE}"),
        ("nothing here 123", "nothing here 123"),
        ("", ""),
    ],
)
def test_only_the_number_is_masked(text: str, masked: str) -> None:
    assert masked_text(text) == masked


SHORTER = 16  # times
LONGEST_GROWTH = 100  # a linear pattern takes 16 times as long on the longer text, a quadratic one 256 times


@pytest.mark.parametrize("part", ["a", "a@", "a.", "1", "1 ", "1.", "612345678 ", "DE89 ", "a-", "@", "+(", "AB12 "])
def test_masking_grows_with_the_length_of_a_cell_whatever_it_repeats(part: str) -> None:
    text = part * (LONGEST_TEXT // len(part))
    assert len(masked_text(text)) <= LONGEST_TEXT
    assert _growth(text) < LONGEST_GROWTH


def _growth(text: str) -> float:
    """How many times the CPU seconds of a ``SHORTER`` part of the text the whole text takes: least of three turns."""
    return min(_seconds(text) for _ in range(3)) / min(_seconds(text[: len(text) // SHORTER]) for _ in range(3))


def _seconds(text: str) -> float:
    begun = time.process_time()
    masked_text(text)
    return time.process_time() - begun


@pytest.mark.parametrize(
    "make",
    [card, ssn, cpf, *(phone(form) for form in ("0#", "0##", "0#######", "00##########", "+##", "#####", "####", "#"))],
)
def test_masking_grows_with_the_length_of_a_cell_of_different_numbers(make: Callable[[random.Random], str]) -> None:
    seed = random.Random(5)  # noqa: S311
    masked_text(" ".join(make(seed) for _ in range(40)))  # the first call imports the plans of the countries
    assert _growth(" ".join(make(seed) for _ in range(30_000))[:LONGEST_TEXT]) < LONGEST_GROWTH


def test_numbers_that_are_too_many_to_be_checked_are_masked_unchecked() -> None:
    number, many = "00000 00000", ", ".join(f"{place:09}" for place in range(3_000))
    assert masked_text(number) == number  # no country has it
    assert masked_text(f"{many}, {number}").endswith(f", {PHONE}")
    assert masked_text(many) == masked_text(many)  # the count begins anew with each text


def test_what_is_too_long_to_be_read_is_not_kept() -> None:
    assert masked_text("x" * LONGEST_TEXT + " 13800138000") == "x" * LONGEST_TEXT + "…"


def test_ids_with_few_digits_reach_the_recognisers(spark: SparkSession) -> None:
    frame = spark.createDataFrame([("AB123456C",), ("ABCPK1234L",), ("abc 12",)], "text string")
    found = [row[0] for row in frame.select(masked_cell(F.col("text"))).collect()]
    assert found == [NATIONAL_ID, NATIONAL_ID, "abc 12"]


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
