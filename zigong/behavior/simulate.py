"""A simulated consumer lender: raw files of accounts whose future depends on their past.

Every random draw is a hash of (seed, purpose, user, month), so the rows do not depend on how Spark partitions the
work. Business hours are 02:00 to 13:00 UTC, so an event has the same local date from UTC-2 to UTC+10, and the monthly
statement is issued on the 26th, so it is usually known before the next month begins.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.window import Window

from zigong.recipe import Simulation

_DAY_SECONDS = 86_400
_STATEMENT_DAY, _CLOSING_DAY = 26, 27
_WRITE_OFF_STREAK = 7  # consecutive missed instalments after which the account is written off
_MAX_CLOSING_CHANCE = 0.012
_LATE_SHARE, _DUPLICATE_SHARE, _WRONG_STATEMENT_SHARE = 0.03, 0.01, 0.02
_WRONG_ORDER_SHARE, _CANCELLED_ORDER_SHARE = 0.03, 0.02
_PERSON_SPAN = 12  # every twelfth account belongs to the person of the account before it


def simulate_lender(spark: SparkSession, simulation: Simulation, *, seed: int, folder: str) -> None:
    """Writes ``events.parquet`` and ``profiles.parquet`` below ``folder``, for the mapping ``simulated``.

    Args:
        spark: the session.
        simulation: number of users, first month, months, and the share of accounts that go bad within three months.
        seed: seed of all draws.
        folder: output folder; files of an earlier simulation are replaced.
    """
    accounts = _accounts(spark, simulation, seed)
    events = _versions(_happenings(_account_months(accounts, simulation, seed), seed), seed)
    events.write.mode("overwrite").parquet(f"{folder}/events.parquet")
    _profiles(accounts, simulation, seed).write.mode("overwrite").parquet(f"{folder}/profiles.parquet")


def _draw(seed: int, what: str, *keys: str | Column) -> Column:
    """Uniform in [0, 1): the upper 53 bits of a hash."""
    return F.shiftrightunsigned(F.xxhash64(F.lit(seed), F.lit(what), *keys), 11) / F.lit(float(2**53))


def _bell(seed: int, what: str, *keys: str | Column) -> Column:
    """Approximately normal with mean 0 and variance 1: the sum of three uniform draws."""
    return (sum((_draw(seed, f"{what}/{i}", *keys) for i in range(3)), F.lit(-1.5))) * 2


def _accounts(spark: SparkSession, simulation: Simulation, seed: int) -> DataFrame:
    """One row per user: half the accounts are open from the first month, the others open over the first 60%."""
    opened = F.floor(_draw(seed, "opened", "user") * (0.6 * simulation.months))
    users = spark.range(simulation.users).withColumnRenamed("id", "user")
    return users.select(
        "user",
        F.format_string("U%07d", "user").alias("user_key"),
        F.when(_draw(seed, "early", "user") < 0.5, 0).otherwise(opened).cast("int").alias("opened"),
        _bell(seed, "trait", "user").alias("trait"),
        (500 * F.round(2 + 18 * _draw(seed, "limit", "user"))).alias("limit"),
    )


def _account_months(accounts: DataFrame, simulation: Simulation, seed: int) -> DataFrame:
    """One row per user and month of an open account: risk, consecutive missed instalments, and whether it ends.

    A missed payment depends on the state: a monthly draw below ``fall`` always misses, at or above ``stay`` always
    pays, and in between repeats the previous month. So a run of missed instalments starts at the first fall after a
    payment.
    """
    open_months = F.explode(F.sequence(F.col("opened"), F.lit(simulation.months - 1)))
    months = accounts.select("*", open_months.alias("month")).withColumn(
        "first_day", F.add_months(F.lit(simulation.first_month), F.col("month"))
    )
    weights = (0.45, 0.35, 0.25)
    drift = sum((_bell(seed, "drift", "user", F.col("month") - ago) * w for ago, w in enumerate(weights)), F.lit(0.0))
    season = F.when(F.month("first_day").isin(1, 2), 0.25).when(F.month("first_day").isin(6, 7), -0.15).otherwise(0.0)
    risky = months.withColumn("risk", 0.9 * F.col("trait") + drift + season)
    fall = F.least(0.40 * simulation.bad_share * F.exp("risk"), F.lit(0.5))
    stay = F.least(F.greatest(0.5 + 0.12 * F.col("risk"), fall), F.lit(0.85))
    draw = F.when(F.col("month") == F.col("opened"), 1.0).otherwise(_draw(seed, "pay", "user", "month"))
    drawn = risky.select("*", draw.alias("draw"), fall.alias("fall"), stay.alias("stay"))
    return _until_closed(_with_streak(drawn), seed)


def _with_streak(drawn: DataFrame) -> DataFrame:
    so_far = Window.partitionBy("user").orderBy("month").rowsBetween(Window.unboundedPreceding, Window.currentRow)
    last_paid = F.max(F.when(F.col("draw") >= F.col("stay"), F.col("month"))).over(so_far)
    since_paid = (
        Window.partitionBy("user", "last_paid")
        .orderBy("month")
        .rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    first_fall = F.min(F.when(F.col("draw") < F.col("fall"), F.col("month"))).over(since_paid)
    streak = F.coalesce(F.col("month") - first_fall + 1, F.lit(0)).cast("int")
    return drawn.withColumn("last_paid", last_paid).withColumn("streak", streak)


def _until_closed(months: DataFrame, seed: int) -> DataFrame:
    """Ends an account when the client closes it or when it is written off, whichever comes first."""
    settled = (F.col("streak") == 0) & (F.col("month") - F.col("opened") >= 3)
    leaves = settled & (_draw(seed, "leaves", "user", "month") < _MAX_CLOSING_CHANCE)
    ends = leaves | (F.col("streak") >= _WRITE_OFF_STREAK)
    whole = Window.partitionBy("user").rowsBetween(Window.unboundedPreceding, Window.unboundedFollowing)
    last_month = F.min(F.when(ends, F.col("month"))).over(whole)
    lasting = months.withColumn("last_month", last_month)
    return lasting.where(F.col("last_month").isNull() | (F.col("month") <= F.col("last_month"))).select(
        "user",
        "user_key",
        "month",
        "first_day",
        "risk",
        "limit",
        "streak",
        F.when(F.col("streak") == 0, 0).otherwise(30 * F.col("streak") - 9).alias("days_past_due"),
        (F.col("month") == F.col("opened")).alias("opens"),
        F.coalesce(F.col("month") == F.col("last_month"), F.lit(False)).alias("ends"),
    )


def _happenings(months: DataFrame, seed: int) -> DataFrame:
    """One row per event, with its true values."""
    events = F.array_compact(F.array(*_loan_events(seed), *_client_events(seed)))
    exploded = months.select("user", "user_key", "first_day", "month", F.explode(events).alias("event"))
    return exploded.select("user", "user_key", "month", "first_day", "event.*")


def _loan_events(seed: int) -> list[Column]:
    paid, ends = F.col("streak") == 0, F.col("ends")
    late = _draw(seed, "slow", "user", "month") < F.least(0.15 * F.exp("risk"), F.lit(0.8))
    pay_day = F.when(late, 11 + 8 * _draw(seed, "pay_day", "user", "month")).otherwise(
        3 + 7 * _draw(seed, "pay_day", "user", "month")
    )
    used = 0.45 + 0.15 * F.col("risk") + 0.12 * _bell(seed, "usage", "user", "month")
    usage = F.when(used < 0.3, "low").when(used < 0.6, "medium").when(used < 0.85, "high").otherwise("full")
    balance, instalment = F.col("limit") * F.least(F.greatest(used, F.lit(0.05)), F.lit(1.0)), F.col("limit") * 0.08
    dpd = F.col("days_past_due")
    return [
        _event(seed, "loan_opened", F.col("opens"), F.lit(1), amount=F.col("limit")),
        _event(
            seed, "repayment", paid & ~F.col("opens"), pay_day, amount=instalment,
            timing=F.when(late, "slow").otherwise("prompt"),
        ),
        _event(seed, "instalment_missed", ~paid, F.lit(20), amount=instalment),
        _event(seed, "statement", F.lit(True), F.lit(_STATEMENT_DAY), amount=balance, days_past_due=dpd, usage=usage),
        _event(seed, "loan_closed", ends & paid, F.lit(_CLOSING_DAY), days_past_due=dpd),
        _event(seed, "written_off", ends & ~paid, F.lit(_CLOSING_DAY), amount=balance, days_past_due=dpd),
    ]  # fmt: skip


def _client_events(seed: int) -> list[Column]:
    risk, busy = F.col("risk"), F.when(F.month("first_day").isin(11, 12), 1.6).otherwise(1.0)

    def day(what: str) -> Column:
        return 2 + 23 * _draw(seed, f"{what}_day", "user", "month")

    def happens(what: str, chance: Column) -> Column:
        return _draw(seed, what, "user", "month") < chance

    taste = _draw(seed, "taste", "user", "month") + 0.1 * risk
    category = F.when(taste < 0.4, "groceries").when(taste < 0.7, "clothing").when(taste < 0.9, "electronics")
    spent = 20 + 400 * _draw(seed, "spent", "user", "month") * _draw(seed, "spent_more", "user", "month")
    logins = [
        _event(
            seed, "login", happens(f"login_{slot}", 0.22 * F.exp(0.2 * risk)), day(f"login_{slot}"), slot=slot,
            channel=F.when(_draw(seed, f"channel_{slot}", "user", "month") < 0.8, "app").otherwise("web"),
        )
        for slot in range(2)
    ]  # fmt: skip
    return [
        *logins,
        _event(
            seed, "order", happens("order", 0.25 * busy), day("order"), amount=spent,
            category=category.otherwise("gaming"),
        ),
        _event(seed, "cash_draw", happens("cash_draw", 0.08 * F.exp(0.6 * risk)), day("cash_draw"), amount=spent * 2),
    ]  # fmt: skip


def _event(
    seed: int,
    kind: str,
    happens: Column,
    day: Column,
    *,
    slot: int = 0,
    amount: Column | None = None,
    days_past_due: Column | None = None,
    **words: Column,
) -> Column:
    """An event struct, null where the event does not occur; ``day`` counts from 1 and may have a fraction."""
    seconds = (F.floor(day) - 1) * _DAY_SECONDS + (2 + 11 * _draw(seed, f"{kind}_{slot}_hour", "user", "month")) * 3600
    micros = F.unix_micros(F.col("first_day").cast("timestamp")) + F.floor(seconds * 1e6)
    event = F.struct(
        F.lit(kind).alias("event_type"),
        F.lit(slot).alias("slot"),
        F.timestamp_micros(micros).alias("event_at"),
        (F.lit(None) if amount is None else amount).cast("decimal(18,2)").alias("amount"),
        (F.lit(None) if days_past_due is None else days_past_due).cast("int").alias("days_past_due"),
        *(
            words.get(name, F.lit(None)).cast("string").alias(name)
            for name in ("channel", "category", "usage", "timing")
        ),
    )
    return F.when(happens, event)


def _versions(happenings: DataFrame, seed: int) -> DataFrame:
    """The events as the platform received them: late, duplicated, wrong at first, or withdrawn."""
    keys = ("user", "month", "event_type", "slot")

    def chance(what: str, share: float) -> Column:
        return _draw(seed, what, *keys) < share

    def later(what: str, first_day: float, last_day: float) -> Column:
        return F.floor((first_day + (last_day - first_day) * _draw(seed, what, *keys)) * _DAY_SECONDS * 1e6)

    known = F.unix_micros("event_at") + later("lag", 0.001, 0.06)
    known = known + F.when(chance("late", _LATE_SHARE), later("late_by", 1, 9)).otherwise(0)
    known_again = known + later("corrected_by", 2, 8)
    kind, dpd, amount = F.col("event_type"), F.col("days_past_due"), F.col("amount")
    unbooked = (kind == "statement") & (dpd == 0) & chance("unbooked", _WRONG_STATEMENT_SHARE)
    mispriced = (kind == "order") & chance("mispriced", _WRONG_ORDER_SHARE)
    cancelled = (kind == "order") & chance("cancelled", _CANCELLED_ORDER_SHARE)
    truth = _version("upsert", known_again, amount, dpd)
    first = _version(
        "upsert",
        known,
        F.when(mispriced, amount * 10).otherwise(amount),
        F.when(unbooked, 21).otherwise(dpd),  # a payment that was not booked yet looks like a missed one
    )
    versions = F.array(
        first,
        F.when(chance("twice", _DUPLICATE_SHARE), first),
        F.when(unbooked | mispriced, truth),
        F.when(cancelled, _version("retract", known_again + 1, amount, dpd)),
    )
    event_key = F.concat_ws("-", "user_key", F.date_format("first_day", "yyyy-MM"), "event_type", F.col("slot"))
    received = happenings.withColumn("version", F.explode(F.array_compact(versions)))
    return received.select(
        "user_key",
        event_key.alias("event_key"),
        F.concat("user_key", F.lit("-L1")).alias("loan_key"),
        "version.op",
        "event_type",
        "event_at",
        "version.known_at",
        "version.amount",
        F.when(F.col("version.amount").isNotNull(), "CNY").alias("currency"),
        "version.days_past_due",
        "channel",
        "category",
        "usage",
        "timing",
    )


def _version(op: str, known: Column, amount: Column, days_past_due: Column) -> Column:
    return F.struct(
        F.lit(op).alias("op"),
        F.timestamp_micros(known).alias("known_at"),
        amount.cast("decimal(18,2)").alias("amount"),
        days_past_due.cast("int").alias("days_past_due"),
    )


def _profiles(accounts: DataFrame, simulation: Simulation, seed: int) -> DataFrame:
    """A first profile when the account opens, and for some users a later one that becomes known with a delay."""
    moved_month = F.col("opened") + 3 + F.floor(9 * _draw(seed, "moves_in", "user")).cast("int")
    moves = (_draw(seed, "moves", "user") < 0.15) & (moved_month < simulation.months)
    delay_days = 1 + F.floor(20 * _draw(seed, "moves_told", "user")).cast("int")
    versions = F.array(
        F.struct(F.col("opened").alias("since"), F.lit(0).alias("delay_days")),
        F.when(moves, F.struct(moved_month.alias("since"), delay_days.alias("delay_days"))),
    )
    dated = accounts.select("*", F.inline(F.array_compact(versions)))
    valid_from = F.add_months(F.lit(simulation.first_month), F.col("since")).cast("timestamp")
    wealth = -0.5 * F.col("trait") + _bell(seed, "wealth", "user", "since")
    income = F.when(wealth < -0.8, "low").when(wealth < 0.8, "middle").otherwise("high")
    person = F.col("user") - (F.col("user") % _PERSON_SPAN == _PERSON_SPAN - 1).cast("bigint")
    return dated.select(
        "user_key",
        valid_from.alias("valid_from"),
        F.date_add(valid_from.cast("date"), F.col("delay_days")).cast("timestamp").alias("known_at"),
        F.format_string("P%07d", person).alias("person_key"),
        income.alias("income"),
        _chosen(seed, "age", ("under_25", "25_34", "35_44", "45_54", "from_55")).alias("age"),
        _chosen(seed, "region", ("north", "east", "south", "west")).alias("region"),
        _chosen(seed, "job", ("employee", "self_employed", "student", "retired")).alias("job"),
    )


def _chosen(seed: int, what: str, options: tuple[str, ...]) -> Column:
    index = F.floor(_draw(seed, what, "user") * len(options)).cast("int")
    return F.element_at(F.array(*(F.lit(option) for option in options)), index + 1)
