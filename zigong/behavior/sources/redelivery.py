"""Compares delivered rows with the published versions of the same facts: a published fact of the past never changes.

A delivered row states a version of a fact: an event, or the profile of a user since some moment. It is known from
``known_at``, but never from before it arrived. Each row gets one fate; those in ``PUBLISHED`` become versions.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from functools import reduce
from operator import and_

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.window import Window

from schemas.contracts import table_contract
from zigong.lakehouse.business_time import local_date, local_midnight
from zigong.lakehouse.row_text import row_text

FATE, ARRIVED_ON = "_fate", "arrived_on"
NEW, LATE, CHANGED, RETRACTED = "new", "late", "changed", "retracted"
DUPLICATE, REPETITION, SUPERSEDED, ERASED = "duplicate", "repetition", "superseded", "erased"
CONFLICTING, REFUSED = "conflicting_version", "changed_redelivery"
PUBLISHED = (NEW, LATE, CHANGED)
DROPPED = (DUPLICATE, REPETITION, SUPERSEDED, ERASED)
QUARANTINED = (CONFLICTING, REFUSED)

_STANDING, _CONTENT, _MOMENT, _MICROS, _WON = "_standing", "_content", "_moment", "_micros", "_won"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What identifies a fact in a table, and what a version states about it."""

    table: str
    identity: tuple[str, ...]
    stated: tuple[str, ...]


EVENTS = Facts(
    table="behavior_events",
    identity=("event_id",),
    stated=(
        "op", "user_id", "loan_id", "event_type", "event_at", "amount", "currency", "days_past_due", "attributes",
    ),
)  # fmt: skip
PROFILES = Facts(table="user_profiles", identity=("user_id", "valid_from"), stated=("person_id", "attributes"))


@dataclass(frozen=True, kw_only=True)
class Terms:
    """How a delivery is read.

    Attributes:
        first: first date of the run; what was known before is late; None: nothing is known about arrival.
        end: end of the dates of the run, excluded; None: no end.
        frontier: the first date after all that was published in an earlier run of the same dates; what such a run
            learns anew becomes known then; None: the dates are ingested for the first time.
        timezone: business time zone.
        refuse: whether rows that differ from the published version are refused, instead of becoming a version.
        as_stated: whether every row arrived when it states, so that nothing is late: the files of a simulation.
        by_arrival: whether only the files that arrived on these dates were read, instead of all files so far.
    """

    first: date | None
    end: date | None
    frontier: date | None
    timezone: str
    refuse: bool
    as_stated: bool
    by_arrival: bool

    @property
    def last(self) -> date | None:
        """The date on which a late row arrived at the latest, where its file does not say when."""
        return self.first if self.first is None or self.end is None else self.end - timedelta(days=1)


def with_fates(delivered: DataFrame, standing: DataFrame, facts: Facts, terms: Terms) -> DataFrame:
    """The fate of every delivered row.

    - ``new``: nothing published contradicts it. Rows that lack an identity or a time are new too: the rules of the
      contract refuse them.
    - ``late``: it states an earlier known_at than its arrival, and becomes known when it arrived.
    - ``changed``: the published version has other values and its known_at is not later; it becomes known when it
      arrived, or, where its dates were ingested before, at the frontier. With ``terms.refuse`` ``changed_redelivery``.
    - ``repetition``: it is published already. ``duplicate``: the delivery holds it twice.
    - ``superseded``: the delivery itself holds a later version, which arrived at the same moment.
    - ``conflicting_version``: another row has the same identity and known_at, and nothing determines which is right.

    Args:
        delivered: columns of the contract, known_at as stated, and ``arrived_on``: the date of the row's file; NULL:
            the last date of the run, for a row that was known before the first.
        standing: published versions of the facts.

    Returns:
        The delivered rows with known_at (and known_date) as they become known and ``_fate``, materialised.
    """
    both = _versions(delivered, standing, facts, terms)
    compared = _compared(both, facts).withColumn(FATE, _fate(terms))
    moved = compared.withColumn(_MOMENT, _known_from(terms))
    settled = _settled(moved, facts).where(~F.col(_STANDING)).withColumn("known_at", F.col(_MOMENT))
    names = table_contract(facts.table).column_names
    if "known_date" in names:
        settled = settled.withColumn("known_date", local_date(F.col("known_at"), terms.timezone))
    return settled.select(*names, FATE).localCheckpoint()


def _versions(delivered: DataFrame, standing: DataFrame, facts: Facts, terms: Terms) -> DataFrame:
    """Published and delivered versions with their content and the moment from which each is known by itself."""
    published = standing.withColumn(ARRIVED_ON, F.lit(None).cast("date")).withColumn(_STANDING, F.lit(True))
    both = published.unionByName(delivered.withColumn(_STANDING, F.lit(False)))
    types = {column.name: column.type for column in table_contract(facts.table).columns}
    content = F.sha2(row_text((name, types[name]) for name in facts.stated), 256)
    whole = F.col("known_at").isNotNull() & _identified(facts)
    moment = F.when(F.col(_STANDING), F.col("known_at")).when(whole, _known_by_arrival(terms))
    return (
        both.withColumn(_CONTENT, content)
        .withColumn(_MOMENT, moment)
        .withColumn(_MICROS, F.unix_micros(F.col(_MOMENT)))
    )


def _identified(facts: Facts) -> Column:
    return reduce(and_, (F.col(name).isNotNull() for name in facts.identity))


def _known_by_arrival(terms: Terms) -> Column:
    """known_at, or the start of the date of arrival where that is later.

    Of a row whose file states no arrival, it is later if the row was known before the dates of the run.
    """
    known = F.col("known_at")
    if terms.as_stated:
        return known
    early = F.col(ARRIVED_ON).isNull() & (known >= local_midnight(F.lit(terms.first).cast("date"), terms.timezone))
    arrived = local_midnight(_arrived_on(terms), terms.timezone)
    return F.when(F.coalesce(early, F.lit(False)), known).otherwise(F.greatest(known, arrived))


def _arrived_on(terms: Terms) -> Column:
    return F.coalesce(F.col(ARRIVED_ON), F.lit(terms.last).cast("date"))


def _compared(both: DataFrame, facts: Facts) -> DataFrame:
    """Adds what the other versions of the same fact say about each version."""
    fact = Window.partitionBy(*facts.identity)
    key, exact = (Window.partitionBy(*facts.identity, "known_at", *more) for more in ((), (_CONTENT,)))
    copies = Window.partitionBy(*facts.identity, "known_at", _CONTENT, ARRIVED_ON, _STANDING).orderBy(F.lit(0))
    earlier = fact.orderBy(_MICROS).rangeBetween(Window.unboundedPreceding, -1)
    stands, content = F.col(_STANDING), F.col(_CONTENT)
    return (
        both.withColumn("_copy", F.row_number().over(copies) > 1)
        .withColumn("_taken", F.max(stands).over(key))
        .withColumn("_same", F.max(stands).over(exact))
        .withColumn("_newest", F.max(F.when(stands, F.struct("known_at", _CONTENT))).over(fact)[_CONTENT])
        .withColumn("_restated", F.max(~stands & (content == F.col("_newest"))).over(fact))
        .withColumn(
            "_later",
            F.max(F.when(stands, F.col("known_at"))).over(Window.partitionBy(*facts.identity, _CONTENT))
            > F.col(_MOMENT),
        )
        .withColumn("_at", F.max(F.when(stands, content)).over(Window.partitionBy(*facts.identity, _MOMENT)))
        .withColumn("_prior", F.max(F.struct(_MOMENT, "known_at", _CONTENT)).over(earlier)[_CONTENT])
    )


def _fate(terms: Terms) -> Column:
    """The fate of a delivered row by itself, before rows that become known at the same moment are compared."""
    content, late = F.col(_CONTENT), F.col("known_at") < F.col(_MOMENT)
    current = F.coalesce("_at", "_prior")  # the version that is known when the row arrives
    repeats = F.col("_same") & ~late
    if not terms.as_stated:
        repeats |= F.coalesce(current == content, F.lit(False))
    if not terms.by_arrival:  # files of earlier nights are read again, with versions that were superseded since
        repeats |= (F.col("_same") & F.col("_restated")) | F.coalesce(F.col("_later"), F.lit(False))
    changes = F.when(late, current.isNotNull()).otherwise(F.col("_taken"))
    if terms.frontier is not None:  # an earlier run of these dates may have published the change at the frontier
        repeats |= changes & F.coalesce(content == F.col("_newest"), F.lit(False))
    return (
        F.when(F.col(_MOMENT).isNull(), NEW)
        .when(F.col("_copy"), DUPLICATE)
        .when(repeats, REPETITION)
        .when(changes, REFUSED if terms.refuse else CHANGED)
        .when(late, LATE)
        .otherwise(NEW)
    )


def _known_from(terms: Terms) -> Column:
    """When a row becomes known: at its own moment, or, if it contradicts what a run of these dates published, later."""
    moment, timezone = F.col(_MOMENT), terms.timezone
    late = F.col("known_at") < moment
    after = F.lit(terms.end) if terms.end else F.date_add(local_date(F.col("known_at"), timezone), 1)
    frontier = F.lit(terms.frontier).cast("date")
    shifted = F.when(late, F.greatest(_arrived_on(terms), frontier)).otherwise(F.greatest(after, frontier))
    changed = ~F.col(_STANDING) & F.col(FATE).isin(CHANGED)
    return F.when(changed, F.greatest(moment, local_midnight(shifted, timezone))).otherwise(moment)


def _settled(moved: DataFrame, facts: Facts) -> DataFrame:
    """One version per fact and moment: the one stated latest; equal claims conflict, but for the smallest content."""
    candidate = ~F.col(_STANDING) & F.col(FATE).isin(*PUBLISHED) & F.col(_MOMENT).isNotNull()
    together = Window.partitionBy(*facts.identity, _MOMENT, "_candidate")
    claim = F.struct(F.col(ARRIVED_ON), F.col("known_at"))
    ranked = moved.withColumn("_candidate", candidate)
    ranked = ranked.withColumn("_best", F.max(claim).over(together))
    rank = F.row_number().over(together.orderBy(F.desc(ARRIVED_ON), F.desc("known_at"), _CONTENT))
    ranked = ranked.withColumn(_WON, rank == 1)
    occupied = F.max(F.col(_STANDING)).over(Window.partitionBy(*facts.identity, _MOMENT))
    ranked = ranked.withColumn("_occupied", occupied)
    loses = F.when(claim.eqNullSafe(F.col("_best")), CONFLICTING).otherwise(SUPERSEDED)
    fate = (
        F.when(~F.col("_candidate"), F.col(FATE))
        .when(F.col("_occupied"), CONFLICTING)
        .when(F.col(_WON), F.col(FATE))
        .otherwise(loses)
    )
    return ranked.withColumn(FATE, fate)
