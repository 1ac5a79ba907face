"""Guesses by name and values whether a column of a sample identifies somebody, or holds codes; when in doubt, it does.

A column that may identify and is not declared so would reach attributes and quarantine in clear.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

_NUMBERS = {"id", "uuid", "guid", "key", "no", "nr", "num", "number", "nummer", "ref", "reference", "token", "hash"}
CLIENTS = {
    "client", "customer", "cust", "user", "person", "member", "borrower", "debtor", "applicant", "cardholder", "holder",
    "owner", "subscriber", "kunde", "kundin", "kunden", "kreditnehmer", "cliente", "account", "acct", "konto", "cuenta",
    "compte",
}  # fmt: skip
_THINGS = {
    "loan", "kredit", "darlehen", "contract", "vertrag", "policy", "agreement", "facility", "application", "antrag",
    "card", "karte", "order", "invoice", "device",
}  # fmt: skip
_OTHERS = {
    "counterparty", "merchant", "payee", "payer", "payor", "beneficiary", "recipient", "sender",
    "guarantor", "spouse", "employer", "partner", "referrer", "agent", "broker", "officer", "creditor",
    "empfaenger", "haendler",
}  # fmt: skip
CONTACTS = {
    "name", "vorname", "nachname", "surname", "firstname", "lastname", "fullname", "birthname", "mail", "email",
    "phone", "telephone", "telefon", "tel", "mobile", "handy", "msisdn", "fax", "address", "adresse", "street",
    "strasse", "login", "username",
}  # fmt: skip
_PAPERS = {
    "iban", "ssn", "nino", "passport", "pan", "aadhaar", "cpf", "curp", "imei", "imsi", "ip", "taxid", "steuerid",
}  # fmt: skip
_NAMED = _NUMBERS | CLIENTS | _THINGS | _OTHERS | CONTACTS | _PAPERS
_ENTITIES = CLIENTS | _THINGS | _OTHERS | CONTACTS | _PAPERS
_COMPOUND = re.compile(
    r".+(nummer|number|kennung|phone|mail|name|iban|kontonr|nr)|"
    r"(client|customer|cust|kunden|user|member|account|acct|loan|card|contract|person|borrower)(s|id|no|key|nbr|num)"
)
_CODED = {
    "code",
    "type",
    "kind",
    "status",
    "state",
    "channel",
    "category",
    "class",
    "typ",
    "art",
    "kanal",
    "grund",
    "reason",
}
_PERSONAL = re.compile(r"[^@\s]+@[^@\s]+\.\w+|\+?(?:[\s()/.-]*\d){9,}[\s)]*")
_NOT_NAMED = ("decimal", "double", "date", "timestamp")  # amounts and times: loan_amount names no loan
_CODE = re.compile(r"[^\W\d_][\w.+-]{0,15}|\d{1,3}")
_QUESTION = "identifier: true, if it identifies a person, a loan or a card"
MAX_CODES, ROWS_PER_CODE = 20, 3


@dataclass(frozen=True, kw_only=True)
class IdentifierGuess:
    """What a column seems to be.

    Attributes:
        identifier: whether it is drafted as an identifier.
        note: an open question about it, empty if there is none.
        codes: the distinct values if it seems to hold codes, else empty.
    """

    identifier: bool
    note: str = ""
    codes: tuple[str, ...] = ()


def words_of(name: str) -> tuple[str, ...]:
    """The words of a column's name in lower case without accents: ``clientId`` and ``E-Mail`` have two."""
    parted = re.sub(r"(?<=[^\W\dA-Z_])(?=[A-Z])", "_", name).lower()
    for letter, letters in (("ä", "ae"), ("ö", "oe"), ("ü", "ue")):
        parted = parted.replace(letter, letters)
    plain = unicodedata.normalize("NFKD", parted.replace("ß", "ss")).encode("ascii", "ignore").decode()
    return tuple(word for word in re.split(r"[^a-z0-9]+", plain) if word)


def identifier_guess(name: str, kind: str, texts: Sequence[str]) -> IdentifierGuess:
    """What a column seems to be, by its name, its inferred type and the cells of the sample that are not empty."""
    words = words_of(name) or ("",)
    measured = kind.startswith(_NOT_NAMED)
    counts = Counter(texts)
    repeated = len(counts) * ROWS_PER_CODE <= len(texts)
    unique = len(texts) > 1 and len(counts) == len(texts)
    if words[-1] in _NUMBERS or (not measured and (words[-1] in _NAMED or _COMPOUND.fullmatch(words[-1]))):
        return IdentifierGuess(identifier=True)
    if kind == "string" and texts and sum(bool(_PERSONAL.fullmatch(text)) for text in texts) * 2 > len(texts):
        return IdentifierGuess(identifier=True)
    if measured:
        return IdentifierGuess(identifier=False)
    if unique and kind == "string":
        return IdentifierGuess(identifier=True, note="every value is unique in the sample: does it identify anybody?")
    codes = _codes(words, counts, repeated=repeated) if kind == "string" else ()
    if unique or (not repeated and any(word in _ENTITIES for word in words)):
        return IdentifierGuess(
            identifier=False, note="identifier: true, if it identifies a person, a loan or a card", codes=codes
        )
    return IdentifierGuess(identifier=False, codes=codes)


def _codes(words: tuple[str, ...], counts: Counter[str], *, repeated: bool) -> tuple[str, ...]:
    """The values of a column of few short words that repeat, or whose name suggests that it holds codes."""
    if not 1 <= len(counts) <= MAX_CODES or not all(_CODE.fullmatch(text) for text in counts):
        return ()
    coded = words[-1] in _CODED and len(counts) < counts.total()
    common = repeated and min(counts.values()) > 1
    return tuple(sorted(counts)) if coded or common else ()
