"""A simulated consumer lender: raw files of loans whose future depends on their past.

Every random draw is a hash of (seed, purpose, user, month), so the rows do not depend on how Spark partitions the
work. Business hours are 02:00 to 13:00 UTC, so an event has the same local date from UTC-2 to UTC+10, and the monthly
statement is issued on the 26th, so it is usually known before the next month begins.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from zigong.behavior.simulated_clients import accounts_of, bell, draw, loan_months, of_loan, profiles_of
from zigong.recipe import Simulation

_DAY_SECONDS = 86_400
_STATEMENT_DAY, _CLOSING_DAY = 26, 27
_LATE_SHARE, _DUPLICATE_SHARE, _WRONG_STATEMENT_SHARE = 0.03, 0.01, 0.02
_WRONG_ORDER_SHARE, _CANCELLED_ORDER_SHARE = 0.03, 0.02


def simulate_lender(spark: SparkSession, simulation: Simulation, *, seed: int, folder: str) -> None:
    """Writes ``events.parquet`` and ``profiles.parquet`` below ``folder``, for the mapping ``simulated``.

    Args:
        spark: the session.
        simulation: number of users, first month, months, and the share of accounts that go bad within three months.
        seed: seed of all draws.
        folder: output folder; files of an earlier simulation are replaced.
    """
    accounts = accounts_of(spark, simulation, seed)
    months = loan_months(accounts, simulation, seed)
    events = _versions(_happenings(months, seed, hidden=simulation.hidden_risk > 0), seed)
    events.write.mode("overwrite").parquet(f"{folder}/events.parquet")
    profiles_of(accounts, simulation, seed).write.mode("overwrite").parquet(f"{folder}/profiles.parquet")


def _happenings(months: DataFrame, seed: int, *, hidden: bool) -> DataFrame:
    """One row per event, with its true values; what a client does apart from loans is in the months of the first."""
    of_client = [F.when(F.col("loan") == 1, event) for event in _client_events(seed, hidden=hidden)]
    events = F.array_compact(F.array(*_loan_events(seed), *of_client))
    exploded = months.select("user", "user_key", "loan", "first_day", "month", F.explode(events).alias("event"))
    return exploded.select("user", "user_key", "loan", "month", "first_day", "event.*")


def _late(seed: int) -> Column:
    return draw(seed, "slow", "user", "month") < F.least(0.15 * F.exp("risk"), F.lit(0.8))


def _pay_day(seed: int) -> Column:
    """The day on which a loan's instalment is paid.

    Several loans are paid one day apart, in a month of stress the newest first and otherwise the oldest first.
    """
    share = draw(seed, "pay_day", "user", "month")
    first = F.when(_late(seed), 11 + 8 * share).otherwise(3 + 7 * share)
    return first + F.when(F.col("stress"), -1).otherwise(1) * (F.col("loan") - 1)


def _loan_events(seed: int) -> list[Column]:
    paid, ends = F.col("streak") == 0, F.col("ends")
    used = 0.45 + 0.15 * F.col("risk") + 0.12 * bell(seed, "usage", "user", "month")
    usage = F.when(used < 0.3, "low").when(used < 0.6, "medium").when(used < 0.85, "high").otherwise("full")
    balance, instalment = F.col("limit") * F.least(F.greatest(used, F.lit(0.05)), F.lit(1.0)), F.col("limit") * 0.08
    dpd = F.col("days_past_due")
    return [
        _event(seed, "loan_opened", F.col("opens"), F.lit(1), amount=F.col("limit")),
        _event(
            seed, "repayment", paid & ~F.col("opens"), _pay_day(seed), amount=instalment,
            timing=F.when(_late(seed), "slow").otherwise("prompt"),
        ),
        _event(seed, "instalment_missed", ~paid, F.lit(20), amount=instalment),
        _event(seed, "statement", F.lit(True), F.lit(_STATEMENT_DAY), amount=balance, days_past_due=dpd, usage=usage),
        _event(seed, "loan_closed", ends & paid, F.lit(_CLOSING_DAY), days_past_due=dpd),
        _event(seed, "written_off", ends & ~paid, F.lit(_CLOSING_DAY), amount=balance, days_past_due=dpd),
    ]  # fmt: skip


def _client_events(seed: int, *, hidden: bool) -> list[Column]:
    """What a client does apart from loans.

    With hidden risk cash is drawn as often in calm as in stress, but in stress on the day before the first loan is
    paid and otherwise on the day after it.
    """
    risk, busy = F.col("risk"), F.when(F.month("first_day").isin(11, 12), 1.6).otherwise(1.0)

    def day(what: str) -> Column:
        return 2 + 23 * draw(seed, f"{what}_day", "user", "month")

    def happens(what: str, chance: Column) -> Column:
        return draw(seed, what, "user", "month") < chance

    taste = draw(seed, "taste", "user", "month") + 0.1 * risk
    category = F.when(taste < 0.4, "groceries").when(taste < 0.7, "clothing").when(taste < 0.9, "electronics")
    spent = 20 + 400 * draw(seed, "spent", "user", "month") * draw(seed, "spent_more", "user", "month")
    logins = [
        _event(
            seed, "login", happens(f"login_{slot}", 0.22 * F.exp(0.2 * risk)), day(f"login_{slot}"), slot=slot,
            channel=F.when(draw(seed, f"channel_{slot}", "user", "month") < 0.8, "app").otherwise("web"),
        )
        for slot in range(2)
    ]  # fmt: skip
    around_payment = _pay_day(seed) + F.when(F.col("stress"), -1).otherwise(1)
    draws, draw_day = (F.lit(0.6), around_payment) if hidden else (0.08 * F.exp(0.6 * risk), day("cash_draw"))
    return [
        *logins,
        _event(
            seed, "order", happens("order", 0.25 * busy), day("order"), amount=spent,
            category=category.otherwise("gaming"),
        ),
        _event(seed, "cash_draw", happens("cash_draw", draws), draw_day, amount=spent * 2),
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
    hour = 2 + 11 * draw(seed, of_loan(f"{kind}_{slot}_hour"), "user", "month")
    seconds = (F.floor(day) - 1) * _DAY_SECONDS + hour * 3600
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
        return draw(seed, of_loan(what), *keys) < share

    def later(what: str, first_day: float, last_day: float) -> Column:
        return F.floor((first_day + (last_day - first_day) * draw(seed, of_loan(what), *keys)) * _DAY_SECONDS * 1e6)

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
    of_further_loan = F.when(F.col("loan") > 1, F.concat(F.lit("L"), F.col("loan")))
    event_key = F.concat_ws(
        "-", "user_key", F.date_format("first_day", "yyyy-MM"), "event_type", F.col("slot"), of_further_loan
    )
    received = happenings.withColumn("version", F.explode(F.array_compact(versions)))
    return received.select(
        "user_key",
        event_key.alias("event_key"),
        F.concat("user_key", F.lit("-L"), F.col("loan")).alias("loan_key"),
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
