"""A recipe without auxiliary questions keeps the samples and the ids of versions that had none."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from pyspark.sql import SparkSession

from tests.support.finished import TINY
from tests.support.observed import of_clients
from tests.support.prompt_oracle import in_batch
from zigong.dataset.members import build_members
from zigong.instructions.build import RenderPlan
from zigong.instructions.encode import LineEncoder
from zigong.instructions.templates import load_template
from zigong.recipe import Horizon, Instructions, load_recipe
from zigong.training.tokenizer import train_tokenizer

ZONE = "Asia/Shanghai"
DAYS = (date(2023, 3, 1), date(2023, 5, 1), date(2023, 6, 1))
LABELS = (
    "user_id string, observation_at timestamp, window_months int, dpd_threshold int, max_days_past_due int, "
    "outcome string, matured_at timestamp"
)


def test_a_recipe_without_auxiliary_questions_keeps_samples_ids_and_bytes() -> None:
    """The expected id is from a tree in which auxiliary questions changed nothing, since the split has its own seed."""
    horizon = Horizon(window_months=6, dpd_threshold=30)
    known = {
        "en": (
            "63627da20f73dbea561ff593bc4140208a101fd2ce3f48bcc125ab1ca4c4a7a5",
            "f0612f9f41ea3513dfcc0108fa40f7cd57443631418a9c45378779bde40eaf1e",
        ),
        "zh": (
            "ea29a9efc059c982837949a96892bd0d484b2197e503bbeae459bc7075176e35",
            "ca4ced422655b7e4dfad892b3f52e77a7f2fee03b28180838f70d431e1b4e3cc",
        ),
    }
    events = [
        {"event_type": "login", "event_at": datetime(2024, 1, 3, 15, tzinfo=UTC), "attributes": {"k": "Answer: No"}},
        {"event_type": "repayment", "event_at": datetime(2024, 4, 3, 15, tzinfo=UTC), "amount": Decimal("349.00")},
    ]
    row = {
        **dict.fromkeys(("population", "loan_id", "user_id", "person_id", "observation_date", "user_bucket")),
        "sequence_id": "s1",
        "observation_at": datetime(2024, 5, 1, tzinfo=ZoneInfo(ZONE)),
        "profile": {"job": "a b", "income": "low"},
        "folded": 7,
        "trains": False,
        "asked_loan": None,
        "events": events,
    }
    for language, (sample_id, text_hash) in known.items():
        template = load_template("behavior_card@1", language)
        tokenizer = train_tokenizer(["start login"], [template.ask(horizon), *template.choices])
        plan = RenderPlan(
            settings=Instructions(language=language, season="month"),
            horizon=horizon,
            timezone=ZONE,
            tokenizer_folder="",
            context_length=512,
        )
        (made,) = in_batch([row], plan, LineEncoder(tokenizer.backend_tokenizer, "digest"))
        assert (made["sample_id"], made["text_hash"]) == (sample_id, text_hash)


def test_a_recipe_without_auxiliary_questions_keeps_its_dataset_id(spark: SparkSession) -> None:
    """The expected id is from a tree in which auxiliary questions changed nothing, since the split has its own seed."""
    rows, known = [], []
    for user in range(40):
        for day in DAYS:
            at = datetime(day.year, day.month, day.day, tzinfo=UTC)
            rows.append((f"s{user:02d}-{day}", f"u{user}", f"u{user}", at, day, 0, ["Yes", "No"], f"h{user}"))
            outcome = "bad" if user % 5 == 0 else "good" if user % 7 else "indeterminate"
            known.append((f"u{user}", at, 1, 30, 0, outcome, at))
    rendered = spark.createDataFrame(
        rows,
        "sample_id string, user_id string, person_id string, observation_at timestamp, observation_date date, "
        "user_bucket int, choices array<string>, text_hash string",
    ).selectExpr(
        "*",
        "array(1, 2, 3) AS input_ids",
        "'classification' AS task",
        "'behavior_card@1' AS template",
        "string(null) AS answer",
        "array(int(null)) AS answer_ids",
        "string(null) AS unanswered",
    )
    labelled = of_clients(spark.createDataFrame(known, LABELS))
    dataset = build_members(of_clients(rendered), labelled, load_recipe(TINY), {"Yes": [7], "No": [8]})
    assert dataset.dataset_id == "ds-5c84d85143662d21"
    assert dataset.dropped == {"indeterminate": 12}
