"""Numbers as words: one word for each quantile bin of a field, with words of their own for zero and for negatives.

Words are numbered within a field: ``q0`` is zero, ``q1`` has its smallest positive numbers and ``-q1`` the negative
ones next to zero. A number of a field that no training text had is ``q_``.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from zigong.errors import DataError
from zigong.files.digests import json_digest

Kind = Literal["days_past_due", "amount", "attribute", "profile"]
NUMBER = r"-?(?:0|[1-9][0-9]{0,11})(?:\.[0-9]{1,6})?"  # with a zero in front it is a code; more digits are an id
ZERO, UNFITTED = "q0", "q_"
_NUMBER = re.compile(NUMBER)


@dataclass(frozen=True, kw_only=True)
class FieldBins:
    """The bins of one field.

    Attributes:
        kind: where the field is.
        name: event type of an amount; key of an attribute or of a profile field; empty for days past due.
        currency: of an amount that is not in the main currency; else empty.
        above: ascending upper bounds, included, of all bins of positive numbers but the last.
        below: the same for the sizes of negative numbers.
    """

    kind: Kind
    name: str
    currency: str
    above: tuple[Decimal, ...]
    below: tuple[Decimal, ...]

    def word(self, number: Decimal) -> str:
        """The word of a number."""
        if number == 0:
            return ZERO
        return f"q{1 + bisect_left(self.above, number)}" if number > 0 else f"-q{1 + bisect_left(self.below, -number)}"

    def words(self) -> list[str]:
        """Every word that a number of this field can have."""
        above = [f"q{number}" for number in range(1, len(self.above) + 2)]
        return [ZERO, *above, *(f"-q{number}" for number in range(1, len(self.below) + 2))]

    def steps(self, scale: int) -> list[int]:
        """Ascending integers at which the word of a number changes, for numbers in units of ``10 ** -scale``."""
        above, below = (
            [int(bound.scaleb(scale).to_integral_value()) for bound in bounds] for bounds in (self.above, self.below)
        )
        return [*(-bound for bound in reversed(below)), 0, 1, *(bound + 1 for bound in above)]


@dataclass(frozen=True, kw_only=True)
class NumberWords:
    """The bins of all fields that are written as quantile words: part of what a prompt depends on.

    Attributes:
        fields: sorted by kind, name and currency.
    """

    fields: tuple[FieldBins, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of all bins, as 64 hex digits."""
        return json_digest(_WORDS.dump_python(self, mode="json"))

    @cached_property
    def _by_field(self) -> dict[tuple[Kind, str, str], FieldBins]:
        return {(field.kind, field.name, field.currency): field for field in self.fields}

    def bins(self, kind: Kind, name: str = "", currency: str = "") -> FieldBins | None:
        """The bins of a field; None if no training text had a number there."""
        return self._by_field.get((kind, name, currency))

    def days_past_due(self, days: int) -> str:
        """The word of days past due."""
        bins = self.bins("days_past_due")
        return UNFITTED if bins is None else bins.word(Decimal(days))

    def amount(self, amount: Decimal, event_type: str, currency: str) -> str:
        """The word of an amount among those of its event type; ``currency`` is empty for the main one."""
        bins = self.bins("amount", event_type, currency)
        return UNFITTED if bins is None else bins.word(amount)

    def attribute(self, key: str, value: str) -> str | None:
        """The word of an attribute's value; None: it is written as text."""
        return self._word_of_text("attribute", key, value)

    def profile(self, profile: Mapping[str, str]) -> dict[str, str]:
        """A profile with the words of its numbers."""
        return {key: self._word_of_text("profile", key, value) or value for key, value in profile.items()}

    def keys(self, kind: Kind) -> list[str]:
        """The keys of attributes or profile fields whose numbers have words."""
        return [field.name for field in self.fields if field.kind == kind]

    def _word_of_text(self, kind: Kind, key: str, value: str) -> str | None:
        bins = self.bins(kind, key)
        return bins.word(Decimal(value)) if bins is not None and _NUMBER.fullmatch(value) else None


_WORDS = TypeAdapter(NumberWords)


def words_as_text(numbers: NumberWords) -> str:
    """The bins as JSON."""
    return json.dumps(_WORDS.dump_python(numbers, mode="json"), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def words_from_text(text: str, *, origin: str) -> NumberWords:
    """Reads the output of :func:`words_as_text`.

    Args:
        origin: name of the file in errors.

    Raises:
        DataError: it is not valid.
    """
    try:
        content: Any = json.loads(text)
        return _WORDS.validate_python(content)
    except (ValueError, ValidationError) as error:
        raise DataError(f"{origin}: the bins of numbers cannot be read", action="run fit_numbers again") from error
