"""A small lender whose clients worsen step by step: the trained model must agree with an analyst's judgement."""

from __future__ import annotations

from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from tests.support.prompts import Rendered, encoded_prompt, render_prompt
from tests.support.tiny_models import TINY
from zigong.evaluation.answers import answer_samples
from zigong.instructions.encode import LineEncoder
from zigong.instructions.render import Event
from zigong.instructions.templates import load_template
from zigong.recipe import FinalTraining, Horizon, Instructions
from zigong.tokens.samples import Samples
from zigong.training.base import train_base
from zigong.training.tokenizer import train_tokenizer
from zigong.training.trainer import train_adapter

MONTHS = 10
STATUSES = ("paid_off", "no_loan", "late_1_29", "late_30_59", "late_60_89")
RISK = {"paid_off": 0.0, "no_loan": 0.1, "late_1_29": 0.3, "late_30_59": 0.6, "late_60_89": 0.9}
SETTINGS = Instructions(gap_unit="month", season="none", event_fields=(), profile=False)
TEMPLATE, HORIZON, ZONE = load_template("behavior_card@1", "en"), Horizon(), ZoneInfo("UTC")


def rendered_client(statuses: list[str]) -> Rendered:
    """The prompt of a client whose statuses end in the month before T."""
    events: list[Event] = [
        {"event_type": status, "event_at": datetime(2022, 1 + number, 28, tzinfo=UTC)}
        for number, status in enumerate(statuses)
    ]
    observed = datetime(2022, 1 + len(statuses), 1, tzinfo=UTC)
    return render_prompt(events, {}, 0, observed, template=TEMPLATE, settings=SETTINGS, horizon=HORIZON, zone=ZONE)


def lender(clients: int, seed: int) -> list[list[str]]:
    """Statuses that move at most one step per month; paid off is final."""
    generator = np.random.default_rng(seed)
    walks = []
    for _ in range(clients):
        state = int(generator.integers(1, len(STATUSES)))
        walk = []
        for _ in range(MONTHS):
            walk.append(STATUSES[state])
            state = 0 if state == 0 else int(np.clip(state + generator.integers(-1, 2), 0, len(STATUSES) - 1))
        walks.append(walk)
    return walks


class Analyst:
    """A model trained on the small lender, asked about hand-written clients."""

    def __init__(self, place: Path) -> None:
        walks = lender(1200, seed=1)
        labels = np.random.default_rng(2).random(len(walks)) < [RISK[walk[-1]] for walk in walks]
        rendered = [rendered_client(walk) for walk in walks]
        question = TEMPLATE.ask(HORIZON)
        tokenizer = train_tokenizer(
            {line for prompt in rendered for line in prompt.lines}, [question, *TEMPLATE.choices]
        )
        self.base, self.adapter = place / "base", place / "adapter"
        encoder = LineEncoder(tokenizer.backend_tokenizer)
        endings = [encoder.completion(choice) for choice in TEMPLATE.choices]
        timelines = [
            encoded_prompt(encoder, prompt.text) + endings[number % 2] for number, prompt in enumerate(rendered)
        ]
        tiny = TINY.model_copy(update={"epochs": 12, "batch_tokens": 1024, "learning_rate": 0.002})
        answers = [[token for ending in endings for token in ending]]
        train_base(timelines, tokenizer, tiny, answers=answers, seed=1, torch_threads=1, folder=self.base)
        self.encoder = LineEncoder.of(self.base)
        settings = FinalTraining(epochs=12, learning_rate=0.01, batch_size=32, warmup_steps=5, context_length=64)
        train_adapter(
            self.base, self._samples(rendered, labels), settings, seed=1, torch_threads=1, folder=self.adapter
        )

    def _samples(self, rendered: list[Rendered], labels: np.ndarray) -> Samples:
        keys = [f"c{number}" for number in range(len(rendered))]
        answers = [self.encoder.completion(TEMPLATE.choices[0 if bad else 1]) for bad in labels]
        return Samples(
            sample_id=tuple(keys),
            user_id=tuple(keys),
            observation_date=(date(2022, 11, 1),) * len(keys),
            matured_at=(datetime(2023, 5, 1, tzinfo=UTC),) * len(keys),
            label=labels.astype(np.int64),
            input_ids=tuple(np.array(encoded_prompt(self.encoder, prompt.text), dtype=np.int32) for prompt in rendered),
            completion_ids=tuple(np.array(answer, dtype=np.int32) for answer in answers),
        )

    def p_bad(self, clients: list[list[str]]) -> np.ndarray:
        """Probability of bad for each list of statuses."""
        answers = answer_samples(
            self.base,
            self.adapter,
            [f"a{number}" for number in range(len(clients))],
            [
                np.array(encoded_prompt(self.encoder, rendered_client(client).text), dtype=np.int32)
                for client in clients
            ],
            [self.encoder.completion(choice) for choice in TEMPLATE.choices],
            batch_tokens=4096,
            torch_threads=1,
        )
        p_bad: np.ndarray = answers["p_bad"].to_numpy()
        return p_bad


@pytest.fixture(scope="module")
def analyst(tmp_path_factory: pytest.TempPathFactory) -> Analyst:
    return Analyst(tmp_path_factory.mktemp("sense"))


def test_the_score_moves_with_the_last_status(analyst: Analyst) -> None:
    for place in (2, 3):
        before, reached = STATUSES[place], STATUSES[place - 1 : place + 2]  # clients move one step per month
        rising = analyst.p_bad([["no_loan"] * 4 + ["late_1_29"] * 3 + [before, status] for status in reached])
        assert all(low < high for low, high in pairwise(rising)), rising
        assert rising[-1] - rising[0] > 0.15, rising


def test_an_account_in_arrears_ranks_above_the_same_account_without(analyst: Analyst) -> None:
    clean = lender(40, seed=7)
    calm = [[*walk[:-2], "late_1_29", "no_loan"] for walk in clean if "paid_off" not in walk]
    late = [[*walk[:-2], "late_30_59", "late_60_89"] for walk in clean if "paid_off" not in walk]
    assert len(calm) > 10
    assert (analyst.p_bad(late) > analyst.p_bad(calm)).all()


def test_a_closed_account_ranks_lowest(analyst: Analyst) -> None:
    open_accounts = analyst.p_bad([["late_1_29"] * 7 + [status] * 2 for status in STATUSES[1:]])
    (closed,) = analyst.p_bad([["late_1_29"] * 7 + ["paid_off"] * 2])
    assert closed < open_accounts.min(), (closed, open_accounts)
