"""A dated ingest: the delivery of some dates becomes new versions; published versions stay as they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.window import Window

from schemas.contracts import table_contract
from schemas.mappings import SourceMapping
from zigong.behavior.sources.ingest import without_erased
from zigong.behavior.sources.redelivery import (
    DROPPED,
    ERASED,
    EVENTS,
    FATE,
    PROFILES,
    PUBLISHED,
    QUARANTINED,
    RETRACTED,
    Facts,
    Terms,
    with_fates,
)
from zigong.behavior.sources.stated import UNFIT, outside_every_range, unfit_payload
from zigong.errors import DataError
from zigong.lakehouse.business_time import local_date, local_midnight
from zigong.lakehouse.counting import CountedRows, RowsRead
from zigong.lakehouse.fence import Basis
from zigong.lakehouse.lineage import Partition
from zigong.lakehouse.row_text import EXACT

LONGEST_RANGE = 400  # days whose partitions are listed one by one, rather than only those that exist


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The published rows of a table at one version.

    Attributes:
        rows: of all sources.
        version: version of the table.
    """

    rows: DataFrame
    version: int


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """The rows of one table.

    Attributes:
        table: behavior_events or user_profiles.
        kept: the complete content of ``cells``: one row per key of the contract.
        cells: SQL predicate of the partitions that are replaced.
        refused: rows that are not published (columns reasons and payload).
        dropped: number of dropped rows, by reason.
        read: counts of the rows read.
        basis: published rows among ``kept``; None: there are none.
        found: number of published rows by kind: ``late``, ``changed``, ``retracted``.
    """

    table: str
    kept: DataFrame
    cells: str
    refused: DataFrame
    dropped: Mapping[str, int]
    read: RowsRead
    basis: Basis | None = None
    found: Mapping[str, int] = field(default_factory=dict)


def refused_rows(rows: DataFrame, reason: Column, names: Collection[str]) -> DataFrame:
    """Rows for quarantine: the reason, and the columns as payload."""
    return rows.select(F.array(reason).alias("reasons"), F.to_json(F.struct(*names), EXACT).alias("payload"))


@dataclass(frozen=True, kw_only=True)
class Night:
    """The delivery of some dates of one source, and what is published of it.

    Attributes:
        newest: whether no later date of the source was ingested before: only then can a full delivery withdraw rows.
        rebuild: whether the delivery, of all files by their arrival, replaces all that is published of the source.
        tombstones: of erased users, see :func:`zigong.behavior.sources.ingest.without_erased`.
    """

    mapping: SourceMapping
    terms: Terms
    newest: bool
    tombstones: DataFrame | None
    rebuild: bool = False

    def events(self, stated: DataFrame, standing: Standing) -> Delivered:
        """The events of the dates, together with the published ones of the same partitions.

        Args:
            stated: columns of behavior_events, ``_unfit`` and ``arrived_on``.
            standing: behavior_events.

        Raises:
            DataError: a full delivery is empty.
        """
        found = self._compared(stated, standing, EVENTS, outside=self._outside(), full=self.mapping.full_events)
        if self.rebuild:
            return found.delivered(standing.rows.limit(0), self._ours, None)
        days = _known_dates(found.new)
        beyond = sorted(day for day in days if not self._within(day))
        dates = " OR ".join([self._dates(), *(f"known_date = DATE'{day.isoformat()}'" for day in beyond)])
        cells = f"{self._ours} AND ({dates})" if beyond else f"{self._ours} AND {dates}"
        carried = standing.rows.where(cells)
        partitions = days | self._listed() | _known_dates(carried)
        basis = Basis(
            table=EVENTS.table,
            version=standing.version,
            partitions=frozenset(Partition.of(known_date=day) for day in partitions),
        )
        return found.delivered(carried, cells, basis)

    def profiles(self, stated: DataFrame, standing: Standing) -> Delivered:
        """The profile versions of a delivery, together with all published ones of the source; as ``events``."""
        found = self._compared(stated, standing, PROFILES, outside=F.lit(False), full=self.mapping.full_profiles)
        if self.rebuild:
            return found.delivered(standing.rows.limit(0), self._ours, None)
        partitions = frozenset({Partition.of(source=self.mapping.name)})
        basis = Basis(table=PROFILES.table, version=standing.version, partitions=partitions)
        return found.delivered(standing.rows.where(self._ours), self._ours, basis)

    def _compared(
        self, stated: DataFrame, standing: Standing, facts: Facts, *, outside: Column, full: bool
    ) -> _Compared:
        counted = CountedRows(stated, outside=outside)
        # Read several times: without the checkpoint each read would compute, and count, the delivery again.
        inside = counted.frame.where(~outside).localCheckpoint()
        split = without_erased(inside.where(F.size(UNFIT) == 0).drop(UNFIT), self.tombstones)
        unfit = without_erased(inside.where(F.size(UNFIT) > 0), self.tombstones)
        published = standing.rows.where("false" if self.rebuild else self._ours)
        facts_of_it = split.kept.select(*facts.identity).distinct()
        known = published.join(facts_of_it, list(facts.identity), "left_semi").select(*published.columns)
        fates = with_fates(split.kept, known, facts, self.terms)
        counts = {row[FATE]: row["count"] for row in fates.groupBy(FATE).count().collect()}
        counts[ERASED] = split.erased + unfit.erased
        new = fates.where(F.col(FATE).isin(*PUBLISHED)).drop(FATE)
        if full and self.newest and self.terms.first is not None:
            withdrawn = self._withdrawn(inside, published, facts)
            counts[RETRACTED] = withdrawn.count()
            new = new.unionByName(withdrawn)
        return _Compared(facts=facts, fates=fates, new=new, unfit=unfit.kept, counts=counts, counted=counted)

    def _withdrawn(self, delivered: DataFrame, published: DataFrame, facts: Facts) -> DataFrame:
        """A version that ends each published fact which a full delivery leaves out."""
        if not delivered.head(1):
            raise DataError(
                f"source {self.mapping.name}: the delivery has no row for {facts.table}, but the mapping declares full "
                "deliveries, so that it would withdraw every published one",
                action="have the files delivered again, or declare deliveries of changes in the mapping",
            )
        moment = local_midnight(F.lit(self.terms.last), self.terms.timezone)
        whose = facts.identity[:1]  # the event; the user, whatever the moments of the profile versions
        newest = Window.partitionBy(*whose).orderBy(*(F.desc(name) for name in (*facts.identity[1:], "known_at")))
        last = published.where(F.col("known_at") < moment).withColumn("_place", F.row_number().over(newest))
        missing = last.where("_place = 1").drop("_place").join(delivered.select(*whose), list(whose), "left_anti")
        if facts is EVENTS:
            ended = missing.where("op = 'upsert'").withColumns(
                {
                    "op": F.lit("retract"),
                    "known_at": moment,
                    "known_date": local_date(moment, self.terms.timezone),
                }
            )
        else:
            nothing = F.create_map().cast("map<string,string>")
            ended = missing.where(F.size("attributes") > 0).withColumns(
                {
                    "valid_from": moment,
                    "known_at": moment,
                    "attributes": nothing,
                    "person_id": F.lit(None).cast("string"),
                }
            )
        return ended.select(*table_contract(facts.table).column_names).localCheckpoint()

    @property
    def _ours(self) -> str:
        return f"source = '{self.mapping.name}'"

    def _outside(self) -> Column:
        """Whether an event is not one of these dates: known later, or, in a simulation, earlier."""
        outside = F.lit(False)
        if self.terms.end is not None and not self.terms.by_arrival:
            outside |= F.col("known_date") >= F.lit(self.terms.end)
        if self.terms.first is not None and self.terms.as_stated:
            outside |= F.col("known_date") < F.lit(self.terms.first)
        return F.coalesce(outside & ~outside_every_range(F.col("known_date")), F.lit(False))

    def _within(self, day: date) -> bool:
        first, end = self.terms.first, self.terms.end
        return (first is None or day >= first) and (end is None or day < end)

    def _dates(self) -> str:
        bounds = ((">=", self.terms.first), ("<", self.terms.end))
        return " AND ".join(f"known_date {sign} DATE'{day.isoformat()}'" for sign, day in bounds if day is not None)

    def _listed(self) -> set[date]:
        """Every date of the run, also those without rows: another writer may add some."""
        first, end = self.terms.first, self.terms.end
        if first is None or end is None:
            return set()
        return {first + timedelta(days=day) for day in range(min((end - first).days, LONGEST_RANGE))}


@dataclass(frozen=True, kw_only=True)
class _Compared:
    """The rows of a delivery with their fates."""

    facts: Facts
    fates: DataFrame
    new: DataFrame
    unfit: DataFrame
    counts: Mapping[str, int]
    counted: CountedRows

    def delivered(self, carried: DataFrame, cells: str, basis: Basis | None) -> Delivered:
        """The rows to publish together with the published ones of the cells."""
        names = table_contract(self.facts.table).column_names
        refused = refused_rows(self.fates.where(F.col(FATE).isin(*QUARANTINED)), F.col(FATE), names)
        withdrawn = self.counts.get(RETRACTED, 0)
        return Delivered(
            table=self.facts.table,
            kept=carried.select(*names).unionByName(self.new),
            cells=cells,
            refused=refused.unionByName(unfit_payload(self.unfit, self.facts.table, EXACT)),
            dropped={reason: self.counts[reason] for reason in DROPPED if self.counts.get(reason)},
            read=RowsRead(
                rows=self.counted.rows + withdrawn, outside=self.counted.count("outside"), carried=carried.count()
            ),
            basis=basis,
            found={kind: self.counts.get(kind, 0) for kind in (*PUBLISHED[1:], RETRACTED)},
        )


def _known_dates(rows: DataFrame) -> set[date]:
    found = rows.select("known_date").where("known_date IS NOT NULL").distinct().collect()
    return {row["known_date"] for row in found}
