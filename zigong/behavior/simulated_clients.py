"""The clients and loans of the simulated lender: risk, missed instalments and ends month by month, and profiles."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.window import Window

from zigong.recipe import Simulation

_WRITE_OFF_STREAK = 7  # consecutive missed instalments after which the loan is written off
_MAX_CLOSING_CHANCE = 0.012
_PERSON_SPAN = 12  # every twelfth account belongs to the person of the account before it
_MORE_LOANS = ((2, 2, 1.0), (3, 5, 0.4))  # number, months after the first at the earliest, share of those with several
_STRESS_ONSET, _STRESS_WARNING, _STRESS_MONTHS = 0.06, 2, 3  # chance a month; months of signs; months of more risk


def draw(seed: int, what: str | Column, *keys: str | Column) -> Column:
    """Uniform in [0, 1): the upper 53 bits of a hash."""
    purpose = F.lit(what) if isinstance(what, str) else what
    return F.shiftrightunsigned(F.xxhash64(F.lit(seed), purpose, *keys), 11) / F.lit(float(2**53))


def bell(seed: int, what: str, *keys: str | Column) -> Column:
    """Approximately normal with mean 0 and variance 1: the sum of three uniform draws."""
    return (sum((draw(seed, f"{what}/{i}", *keys) for i in range(3)), F.lit(-1.5))) * 2


def of_loan(what: str) -> Column:
    """The purpose of a draw for each loan; that of the first loan is ``what``."""
    return F.when(F.col("loan") == 1, F.lit(what)).otherwise(F.concat(F.lit(f"{what}/"), F.col("loan")))


def accounts_of(spark: SparkSession, simulation: Simulation, seed: int) -> DataFrame:
    """One row per user: half the accounts are open from the first month, the others open over the first 60%."""
    opened = F.floor(draw(seed, "opened", "user") * (0.6 * simulation.months))
    users = spark.range(simulation.users).withColumnRenamed("id", "user")
    return users.select(
        "user",
        F.format_string("U%07d", "user").alias("user_key"),
        F.when(draw(seed, "early", "user") < 0.5, 0).otherwise(opened).cast("int").alias("opened"),
        bell(seed, "trait", "user").alias("trait"),
        (500 * F.round(2 + 18 * draw(seed, "limit", "user"))).alias("limit"),
    )


def loan_months(accounts: DataFrame, simulation: Simulation, seed: int) -> DataFrame:
    """One row per loan and month in which it is open: risk, consecutive missed instalments, and whether it ends.

    A missed payment depends on the state: a monthly draw below ``fall`` always misses, at or above ``stay`` always
    pays, and in between repeats the previous month. So a run of missed instalments starts at the first fall after a
    payment.

    The months of ``stress`` precede more risk by ``simulation.hidden_risk``, and change no count of events and no
    amount: only the order of the events of a month shows them (``simulate._pay_day``).
    """
    open_months = F.explode(F.sequence(F.col("opened"), F.lit(simulation.months - 1)))
    months = (
        _loans(accounts, simulation, seed)
        .select("*", open_months.alias("month"))
        .withColumn("first_day", F.add_months(F.lit(simulation.first_month), F.col("month")))
    )
    weights = (0.45, 0.35, 0.25)
    drift = sum((bell(seed, "drift", "user", F.col("month") - ago) * w for ago, w in enumerate(weights)), F.lit(0.0))
    season = F.when(F.month("first_day").isin(1, 2), 0.25).when(F.month("first_day").isin(6, 7), -0.15).otherwise(0.0)
    hidden = F.when(_onset(seed, range(_STRESS_WARNING, _STRESS_WARNING + _STRESS_MONTHS)), simulation.hidden_risk)
    risky = months.select(
        "*",
        (0.9 * F.col("trait") + drift + season + hidden.otherwise(0.0)).alias("risk"),
        _onset(seed, range(_STRESS_WARNING)).alias("stress"),
    )
    fall = F.least(0.40 * simulation.bad_share * F.exp("risk"), F.lit(0.5))
    stay = F.least(F.greatest(0.5 + 0.12 * F.col("risk"), fall), F.lit(0.85))
    pays = F.when(F.col("month") == F.col("opened"), 1.0).otherwise(draw(seed, of_loan("pay"), "user", "month"))
    drawn = risky.select("*", pays.alias("draw"), fall.alias("fall"), stay.alias("stay"))
    return _until_closed(_with_streak(drawn), seed)


def _loans(accounts: DataFrame, simulation: Simulation, seed: int) -> DataFrame:
    """One row per loan: each client's first, and for ``simulation.several_loans`` of the clients one or two more."""
    several = draw(seed, "several", "user") < simulation.several_loans
    more = [
        F.when(
            several & (draw(seed, f"has_loan_{number}", "user") < share),
            F.struct(
                F.lit(number).alias("loan"),
                (F.col("opened") + after + F.floor(6 * draw(seed, f"opened_{number}", "user"))).alias("opened"),
                (500 * F.round(2 + 18 * draw(seed, f"limit_{number}", "user"))).alias("limit"),
            ),
        )
        for number, after, share in _MORE_LOANS
    ]
    first = F.struct(F.lit(1).alias("loan"), F.col("opened").cast("long").alias("opened"), F.col("limit"))
    loans = F.inline(F.array_compact(F.array(first, *more)))
    opened = accounts.select("user", "user_key", "trait", loans).withColumn("opened", F.col("opened").cast("int"))
    return opened.where(F.col("opened") < simulation.months)


def _onset(seed: int, months_ago: range) -> Column:
    """Whether stress began in one of some months before a month, 0 months ago being the month itself."""
    began = [draw(seed, "onset", "user", F.col("month") - ago) < _STRESS_ONSET for ago in months_ago]
    return F.array_contains(F.array(*began), True)


def _with_streak(drawn: DataFrame) -> DataFrame:
    so_far = (
        Window.partitionBy("user", "loan").orderBy("month").rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    last_paid = F.max(F.when(F.col("draw") >= F.col("stay"), F.col("month"))).over(so_far)
    since_paid = (
        Window.partitionBy("user", "loan", "last_paid")
        .orderBy("month")
        .rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    first_fall = F.min(F.when(F.col("draw") < F.col("fall"), F.col("month"))).over(since_paid)
    streak = F.coalesce(F.col("month") - first_fall + 1, F.lit(0)).cast("int")
    return drawn.withColumn("last_paid", last_paid).withColumn("streak", streak)


def _until_closed(months: DataFrame, seed: int) -> DataFrame:
    """Ends an account when the client closes it or when it is written off, whichever comes first."""
    settled = (F.col("streak") == 0) & (F.col("month") - F.col("opened") >= 3)
    leaves = settled & (draw(seed, of_loan("leaves"), "user", "month") < _MAX_CLOSING_CHANCE)
    ends = leaves | (F.col("streak") >= _WRITE_OFF_STREAK)
    whole = Window.partitionBy("user", "loan").rowsBetween(Window.unboundedPreceding, Window.unboundedFollowing)
    last_month = F.min(F.when(ends, F.col("month"))).over(whole)
    lasting = months.withColumn("last_month", last_month)
    return lasting.where(F.col("last_month").isNull() | (F.col("month") <= F.col("last_month"))).select(
        "user",
        "user_key",
        "loan",
        "month",
        "first_day",
        "risk",
        "stress",
        "limit",
        "streak",
        F.when(F.col("streak") == 0, 0).otherwise(30 * F.col("streak") - 9).alias("days_past_due"),
        (F.col("month") == F.col("opened")).alias("opens"),
        F.coalesce(F.col("month") == F.col("last_month"), F.lit(False)).alias("ends"),
    )


def profiles_of(accounts: DataFrame, simulation: Simulation, seed: int) -> DataFrame:
    """A first profile when the account opens, and for some users a later one that becomes known with a delay."""
    moved_month = F.col("opened") + 3 + F.floor(9 * draw(seed, "moves_in", "user")).cast("int")
    moves = (draw(seed, "moves", "user") < 0.15) & (moved_month < simulation.months)
    delay_days = 1 + F.floor(20 * draw(seed, "moves_told", "user")).cast("int")
    versions = F.array(
        F.struct(F.col("opened").alias("since"), F.lit(0).alias("delay_days")),
        F.when(moves, F.struct(moved_month.alias("since"), delay_days.alias("delay_days"))),
    )
    late = F.col("opened") / F.lit(simulation.months)
    dated = accounts.select("*", F.inline(F.array_compact(versions)))
    valid_from = F.add_months(F.lit(simulation.first_month), F.col("since")).cast("timestamp")
    wealth = -0.5 * F.col("trait") + bell(seed, "wealth", "user", "since")
    income = F.when(wealth < -0.8, "low").when(wealth < 0.8, "middle").otherwise("high")
    person = F.col("user") - (F.col("user") % _PERSON_SPAN == _PERSON_SPAN - 1).cast("bigint")
    return dated.select(
        "user_key",
        valid_from.alias("valid_from"),
        F.date_add(valid_from.cast("date"), F.col("delay_days")).cast("timestamp").alias("known_at"),
        F.format_string("P%07d", person).alias("person_key"),
        income.alias("income"),
        _chosen(seed, "age", ("under_25", "25_34", "35_44", "45_54", "from_55")).alias("age"),
        _chosen(seed, "region", ("north", "east", "south", "west"), late, simulation.profile_drift).alias("region"),
        _chosen(seed, "job", ("employee", "self_employed", "student", "retired"), late, simulation.profile_drift).alias(
            "job"
        ),
    )


def _chosen(seed: int, what: str, options: tuple[str, ...], late: Column | None = None, drift: float = 0.0) -> Column:
    """One of the options; with drift, the last ones are more frequent the later an account opens, from 0 to 1."""
    uniform = draw(seed, what, "user")
    if late is not None and drift:
        uniform = F.pow(uniform, 1 / (1 + drift * late))
    index = F.floor(uniform * len(options)).cast("int")
    return F.element_at(F.array(*(F.lit(option) for option in options)), index + 1)
