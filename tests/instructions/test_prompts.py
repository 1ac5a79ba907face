"""Batches: every row is, byte for byte, what a naive loop over one user's events makes."""

from __future__ import annotations

import hashlib
import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing

from tests.instructions.test_render import ATTACKS
from zigong.instructions.build import COPIED, RenderPlan, sample_batch, sample_row
from zigong.instructions.encode import LineEncoder
from zigong.instructions.histories import event_columns
from zigong.instructions.render import local_date, render_prompt
from zigong.recipe import Horizon, Instructions

HORIZON = Horizon(window_months=6, dpd_threshold=30)
SHORT_ATTACKS = [attack for attack in ATTACKS if len(attack) < 1000]
EVENT = pa.struct(
    [
        ("event_type", pa.string()),
        ("event_at", pa.timestamp("us", tz="UTC")),
        ("days_past_due", pa.int32()),
        ("amount", pa.decimal128(18, 2)),
        ("attributes", pa.map_(pa.string(), pa.string())),
    ]
)
SEQUENCE = pa.schema(
    [
        *((name, pa.string()) for name in ("sequence_id", "user_id", "person_id")),
        ("observation_at", pa.timestamp("us", tz="UTC")),
        ("observation_date", pa.date32()),
        ("user_bucket", pa.int32()),
        ("profile", pa.map_(pa.string(), pa.string())),
        ("folded", pa.int32()),
        ("events", pa.list_(EVENT)),
    ]
)


def encoder() -> LineEncoder:
    """One token a letter, so that every letter counts for the budget, after a token that begins each text."""
    letters = {chr(code): code for code in range(1, 0x500)} | {"[UNK]": 0}
    tokenizer = Tokenizer(WordLevel(letters, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Split("", "isolated")
    tokenizer.post_processor = TemplateProcessing(single="\x01 $A", special_tokens=[("\x01", 1)])
    return LineEncoder(tokenizer, "digest")


def plan(zone: str, context_length: int, **settings: Any) -> RenderPlan:
    return RenderPlan(
        settings=Instructions.model_validate(settings),
        horizon=HORIZON,
        timezone=zone,
        tokenizer_folder="",
        context_length=context_length,
    )


def random_events(chance: random.Random, count: int, around: datetime) -> list[dict[str, Any]]:
    words = [*SHORT_ATTACKS, "order", "login", "statement"]
    moments = sorted(
        around + timedelta(seconds=chance.choice((chance.uniform(-2e4, 2e4), chance.uniform(-2e7, 2e7))))
        for _ in range(count)
    )
    return [
        {
            "event_type": chance.choice(words),
            "event_at": moment,
            "days_past_due": chance.choice((None, None, 0, 30, -5, 2**31 - 1)),
            "amount": chance.choice((None, Decimal(chance.randint(-(10**6), 10**6)).scaleb(-2), Decimal(0))),
            "attributes": chance.choice(
                (
                    None,
                    {},
                    {"channel": chance.choice(("web", "app"))},
                    {word: chance.choice(words) for word in chance.sample(words, chance.randint(1, 4))},
                )
            ),
        }
        for moment in moments
    ]


def random_sequences(seed: int, count: int, around: datetime) -> list[dict[str, Any]]:
    chance = random.Random(seed)  # noqa: S311
    rows = []
    for number in range(count):
        events = random_events(chance, chance.choice((0, 1, 2, 5, 30, 60)), around)
        rows.append(
            {
                "sequence_id": f"s{number}",
                "user_id": f"u{number}",
                "person_id": f"p{number}",
                "observation_at": around + timedelta(days=300),
                "observation_date": date(2024, 5, 1),
                "user_bucket": number % 7,
                "profile": chance.choice(({}, {"job": chance.choice(SHORT_ATTACKS), "age": "25_34"})),
                "folded": chance.choice((0, 0, 7, 4000)),
                "events": events,
            }
        )
    return rows


def batch_of(rows: list[dict[str, Any]], settings: Instructions) -> pa.RecordBatch:
    """The columns that a worker receives; a slice of a longer batch, as Arrow may hand it over."""
    plain = [
        {
            **row,
            "profile": list(row["profile"].items()),
            "events": [
                {**event, "attributes": None if event["attributes"] is None else list(event["attributes"].items())}
                for event in row["events"]
            ],
        }
        for row in rows
    ]
    longer = [plain[-1], plain[0], *plain, plain[0]]
    whole = pa.RecordBatch.from_pylist(longer, schema=SEQUENCE).slice(2, len(rows))
    events, names = whole["events"], event_columns(settings)
    bounds = events.offsets
    fields = {name: pa.ListArray.from_arrays(bounds, events.values.field(name)) for name in names}
    columns = {name: whole[name] for name in (*COPIED, "profile", "folded")} | fields
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def in_batch(rows: list[dict[str, Any]], wanted: RenderPlan, encoder: LineEncoder) -> list[dict[str, Any]]:
    batch, zone = batch_of(rows, wanted.settings), ZoneInfo(wanted.timezone)
    made = [part.to_pylist() for part in sample_batch(batch, wanted, encoder, zone)]
    return [row for part in made for row in part]


def naive(row: dict[str, Any], wanted: RenderPlan, encoder: LineEncoder) -> tuple[str, list[int], int]:
    """Prompt, ids and length of the history: renders everything again after each month that it leaves out."""
    zone, events, folded = ZoneInfo(wanted.timezone), list(row["events"]), row["folded"]
    answers = max(len(encoder.completion(choice)) for choice in wanted.template.choices)

    def month(event: dict[str, Any]) -> tuple[int, int]:
        day = local_date(event["event_at"], zone)
        return day.year, day.month

    while True:
        rendered = render_prompt(
            events, row["profile"], folded, row["observation_at"],
            template=wanted.template, settings=wanted.settings, horizon=HORIZON, zone=zone,
        )  # fmt: skip
        history, branch = encoder.history(rendered.history), encoder.branch(rendered.branch)
        younger = [event for event in events if month(event) != month(events[0])]
        if len(history) + len(branch) <= wanted.context_length - answers - 1 or not younger:
            return rendered.text, history + branch, len(history)
        events, folded = younger, folded + len(events) - len(younger)


def served(row: dict[str, Any], wanted: RenderPlan, encoder: LineEncoder) -> dict[str, Any]:
    return sample_row({**row, "counts": {"folded": row["folded"]}}, wanted, encoder, ZoneInfo(wanted.timezone))


SETTINGS = (
    {},
    {"time": "both", "season": "weekday"},
    {"time": "date", "gap_unit": "month", "event_fields": ("amount",)},
    {"gap_unit": "month", "season": "month", "language": "zh"},
    {"season": "weekday", "event_fields": (), "profile": False},
)
AROUND = (  # a clock set back over midnight between two months; an offset with seconds; a year without time zones
    ("America/St_Johns", datetime(2009, 11, 1, 2, 31, tzinfo=UTC)),
    ("Asia/Shanghai", datetime(2024, 1, 1, tzinfo=UTC)),
    ("America/New_York", datetime(1883, 11, 18, 17, tzinfo=UTC)),
    ("Europe/Berlin", datetime(1969, 12, 31, 23, tzinfo=UTC)),
)


@pytest.mark.parametrize(("zone", "around"), AROUND, ids=[zone for zone, _ in AROUND])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("context_length", [150, 700, 10**6])
def test_rows_of_a_batch_are_those_of_a_naive_loop_over_the_events(
    zone: str, around: datetime, settings: dict[str, Any], context_length: int
) -> None:
    rows, wanted, letters = (
        random_sequences(context_length, 40, around),
        plan(zone, context_length, **settings),
        encoder(),
    )
    made = in_batch(rows, wanted, letters)
    assert [row["sequence_id"] for row in made] == [row["sequence_id"] for row in rows]
    for row, sample in zip(rows, made, strict=True):
        prompt, ids, history_tokens = naive(row, wanted, letters)
        assert sample["prompt"] == prompt
        assert (sample["input_ids"], sample["history_tokens"]) == (ids, history_tokens)
        assert sample["text_hash"] == hashlib.sha256(prompt.encode()).hexdigest()
        assert served(row, wanted, letters) == sample
