"""The sections of a recipe: frozen, closed to unknown keys, each used by one package."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from schemas.documents import Closed

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
EventField = Literal["days_past_due", "amount", "attributes", "loan"]
Unit = Literal["user", "loan"]
Rate = Annotated[float, Field(gt=0, lt=1)]

Baseline = Literal[
    "majority",
    "last_status",
    "logistic",
    "scorecard",
    "lightgbm",
    "lightgbm_no_profile",
    "lightgbm_no_other_loans",
    "gru",
    "zero_shot",
]


class Section(Closed):
    """Base of all sections; defaults are validated like values from a file."""

    model_config = ConfigDict(validate_default=True)


class Lakehouse(Section):
    """Where the tables are and how clients are pseudonymised."""

    root: str = Field(description="absolute URI or path; relative paths start at the working directory")
    user_buckets: Positive = Field(
        8, description="hash buckets of clients, so that a change of few clients rewrites few files"
    )
    key: Literal["env", "published"] = Field("env", description="env: ZIGONG_USER_KEY; published: only for public data")


class Engine(Section):
    """Resource limits of Spark, Ray and torch. They never change a result and are not part of the recipe's digest."""

    spark_master: str = Field("local[2]", description="Spark's master; spark-submit overrides it")
    spark_driver_memory: str = Field(
        "3g", description="memory of the Spark driver; with a local master, of all of Spark"
    )
    spark_shuffle_partitions: Positive = Field(2, description="partitions of a shuffle; two to four per CPU")
    spark_java_options: str = Field("", description="for short runs -XX:TieredStopAtLevel=1 saves compilation")
    incremental: bool = Field(
        False, description="rebuild only those timelines and sequences whose inputs changed since they were published"
    )
    ray_cpus: Positive = Field(2, description="CPUs of a local Ray; one stays free for reading")
    ray_object_store_mb: Positive = Field(400, description="memory of a local Ray's object store")
    ray_actors: Positive | None = Field(None, description="actors of a step; default: one per GPU share or CPU group")
    ray_cpus_per_actor: Positive = Field(1, description="CPUs that an actor reserves")
    ray_gpus_per_actor: float = Field(0, ge=0, description="GPUs that an actor reserves; 0: actors compute on CPUs")
    training_workers: Positive = Field(
        1,
        description="workers of a training; each takes a share of every step, with ray_cpus_per_actor and a GPU if "
        "ray_gpus_per_actor is above 0",
    )
    training_min_workers: Positive | None = Field(
        None, description="fewest workers with which a training begins, or goes on after a lost node; null: all"
    )
    shard_base: bool = Field(
        False,
        description="whether the workers of a training divide the frozen weights of the layers (FSDP2), for bases that "
        "do not fit one device; needs lora",
    )
    training_max_failures: int = Field(
        2, ge=0, description="how often a training goes on from its last snapshot after it has lost a worker"
    )
    training_snapshot_s: Positive = Field(600, description="seconds between two snapshots of a training")
    ray_worker_timeout_s: Positive = Field(
        7200, description="seconds that a worker may take to load a model or to compute one shard; then it is ended"
    )
    ray_idle_timeout_s: Positive = Field(
        600,
        description="seconds in which no worker of a step computes and nothing finishes; then fresh workers start. A "
        "cluster may need as long to start its nodes",
    )
    rescore: Literal["changed", "all"] = Field(
        "changed",
        description="changed: reuse the published influence scores of unchanged samples; all: compute every score",
    )
    torch_threads: Positive = Field(2, description="threads of one torch operation; 1 is best on busy cores")


class Simulation(Section):
    """Size of a simulated lender, for the mapping ``simulated``."""

    users: Positive = Field(1200, description="simulated clients")
    first_month: date = Field(date(2023, 1, 1), description="first day of the first simulated month")
    months: Positive = Field(18, description="simulated months")
    bad_share: Rate = Field(0.12, description="share of the clients whose payments deteriorate")
    several_loans: Share = Field(0.0, description="share of the clients with two or three loans")
    hidden_risk: float = Field(
        0.0,
        ge=0,
        description="risk that follows stress, which only the order of a month's events shows",
    )
    profile_drift: float = Field(
        0.0, ge=0, description="how much more frequent some regions and jobs become the later an account opens"
    )
    seed: int = Field(7, description="seed of the simulated clients and their events")


class Source(Section):
    """The raw files, and the mapping that turns them into events."""

    mapping: str = Field(description="name of a shipped mapping (schemas/sources) or path of a mapping file")
    further: tuple[str, ...] = Field(
        (),
        description="mappings of other sources in the lakehouse whose events are also in the histories; cohort and "
        "labels read the outcome events of `mapping` alone. All need the same id_namespace",
    )
    path: str | None = Field(None, description="folder of the raw files; simulated sources generate their own")
    simulation: Simulation | None = Field(None, description="size of the simulated lender, only for mapping simulated")
    missing_nights: Literal["heal", "refuse"] = Field(
        "heal",
        description="what a scheduled night does with nights before it that were never ingested: heal ingests those "
        "immediately before it as well, refuse ends with a data error; older gaps are always refused",
    )


class DateRange(Section):
    """Monthly observation dates, both ends included."""

    first: date = Field(description="first observation date, the first day of a month")
    last: date = Field(description="last observation date, included, the first day of a month")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.first > self.last:
            raise ValueError(f"first {self.first} is after last {self.last}")
        if self.first.day != 1 or self.last.day != 1:
            raise ValueError("observation dates must be the first day of a month")
        return self

    def dates(self) -> tuple[date, ...]:
        """The first day of every month in the range."""
        months = range(self.first.year * 12 + self.first.month - 1, self.last.year * 12 + self.last.month)
        return tuple(date(month // 12, month % 12 + 1, 1) for month in months)


class Cohort(Section):
    """Who is observed. Every rule uses only what was known before T."""

    min_history_months: int = Field(0, ge=0, description="smallest number of calendar months with known outcome events")
    max_months_since_last_event: Positive | None = Field(
        None,
        description="only clients with an outcome event (one of the mapping's outcome_events, no other event) in so "
        "many months before T; 1: in the last month",
    )
    max_days_past_due: int | None = Field(
        None, ge=0, description="only clients whose worst open loan is at most so many days past due; null: all"
    )
    open_loan: bool = Field(
        True, description="only clients with a loan that no closing_events of the mapping closed before T"
    )


class Observations(Section):
    """The observation dates of every split. ``score`` is the T that the service scores after training."""

    unit: Unit = Field(
        "user", description="who is observed, labelled and scored: a client, or each of the client's loans"
    )
    train: DateRange = Field(description="observation dates of train, and of the held-out clients of test")
    validation: DateRange | None = Field(
        None, description="observation dates of target and select; after every label window of train has closed"
    )
    oot: DateRange | None = Field(
        None, description="out-of-time observation dates, on which results are reported; after those of validation"
    )
    score: date | None = Field(
        None, description="observation date that the released model scores; null: nothing is scored"
    )
    cohort: Cohort = Cohort()

    def dates(self) -> tuple[date, ...]:
        """Every observation date of the recipe, sorted, without duplicates."""
        ranges = (self.train, self.validation, self.oot)
        dates = {day for item in ranges if item for day in item.dates()} | ({self.score} if self.score else set())
        return tuple(sorted(dates))


class Horizon(Section):
    """One question about the future: within how many months, how late."""

    window_months: Positive = Field(
        6, description="length of the performance window; good needs an outcome event in every month of it"
    )
    dpd_threshold: Positive = Field(30, description="days past due in the window that make a client bad")

    @property
    def name(self) -> str:
        """Short name used in tables, such as ``6m30dpd``."""
        return f"{self.window_months}m{self.dpd_threshold}dpd"


class Labels(Section):
    """Performance windows. The first horizon is the main question; each other one is a further question."""

    horizons: tuple[Horizon, ...] = Field(
        (Horizon(),),
        description="questions to label; the first one is that of card, gate and selection, each other one is trained "
        "with it and answered as well",
    )
    reporting_lag_days: int = Field(0, ge=0, description="days from the end of a window until all its events are known")

    @property
    def further(self) -> tuple[Horizon, ...]:
        """The horizons after the first."""
        return self.horizons[1:]

    def matures(self, observed: date, horizon: Horizon) -> date:
        """The date from which a label of this observation date is mature: its window has closed and is reported."""
        months = observed.year * 12 + observed.month - 1 + horizon.window_months
        return date(months // 12, months % 12 + 1, observed.day) + timedelta(days=self.reporting_lag_days)

    @field_validator("horizons")
    @classmethod
    def _some(cls, horizons: tuple[Horizon, ...]) -> tuple[Horizon, ...]:
        if not horizons or len(set(horizons)) != len(horizons):
            raise ValueError("expected at least one horizon and no duplicates")
        return horizons


class Split(Section):
    """How samples are divided. Hash splits divide by ``unit``, which may be wider than the user."""

    by: Literal["time", "user_hash"] = Field(
        "time", description="time: validation and oot have later dates; user_hash: for a source with one date"
    )
    unit: Literal["user_id", "person_id"] = Field(
        "user_id",
        description="unit that is never divided between splits; person_id where a person has several accounts",
    )
    test_share: Share = Field(0.1, description="share of the units held out at train dates, as split test")
    validation_share: Share = Field(
        0.2, description="share of the units held out as target and select; only used by user_hash"
    )
    seed: int = Field(
        7, description="seed of every hash split; models of one data set share it, independently of their own seed"
    )
    target_share: Rate = Field(0.5, description="share of the validation units used for the target gradients")
    max_train_samples: Positive | None = Field(
        None, description="largest number of train samples; complete units are kept by their hash"
    )


class Duplicates(Section):
    """Treatment of train samples that repeat another train sample, or one of a held-out split.

    With a small vocabulary, equal texts of different clients are normal: by default they are counted, not dropped.
    """

    exact: Literal["report", "drop"] = Field("report", description="same prompt and answer as a train sample")
    near: Literal["ignore", "report", "drop"] = Field("report", description="similar to a train text of another unit")
    contamination: Literal["report", "drop"] = Field("report", description="equal or similar to a held-out sample")
    threshold: Rate = Field(
        0.9, description="Jaccard similarity of token shingles at or above which texts are near duplicates"
    )
    shingle_tokens: Positive = Field(3, description="consecutive tokens that are compared as one")
    max_bucket: Positive = Field(
        100, description="largest number of texts of a bucket that all its other texts are compared with"
    )
