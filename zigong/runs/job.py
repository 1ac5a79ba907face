"""What a step may use: its recipe, its run, and the lakehouse through pinned reads and one publish."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zigong.console import LOG
from zigong.errors import ConfigError, ConflictError
from zigong.lakehouse.attempts import Attempt
from zigong.lakehouse.paths import LakehousePaths
from zigong.recipe import Recipe
from zigong.recipe.population import population_of
from zigong.runs.dates import Dates, ObservationDates
from zigong.runs.handover import Dataset
from zigong.runs.run import Run
from zigong.runs.value import Artefact, V, Value

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset as ds
    from pyspark.sql import DataFrame, SparkSession

    from zigong.dataset.samples import SampleSource
    from zigong.lakehouse.counting import RowsRead
    from zigong.lakehouse.fence import Basis
    from zigong.lakehouse.lineage import Lineage


@dataclass(kw_only=True)
class Job:
    """What a step may use: its recipe, its run, and the lakehouse through pinned reads and publish.

    Attributes:
        tables: per published table its counts, for the outcome.
        inputs: versions of the tables that the step has read.
        taken: names of the values the step took or looked up, for the outcome.
        left: names of the values it left.
        attempt: the attempt of the run that this is.
        schedule: the schedule that has started the step, None if none has.
        trains: whether the run goes on to train a model, so that what cannot be trained on is refused at once.
        warnings: for the outcome: what does not stop the step but somebody should know.
    """

    step: str
    run: Run
    paths: LakehousePaths
    dates: Dates = field(default_factory=Dates)
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    inputs: dict[str, int] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    left: set[str] = field(default_factory=set)
    attempt: Attempt = field(default_factory=Attempt)
    schedule: str | None = None
    trains: bool = False
    warnings: list[str] = field(default_factory=list)

    @property
    def recipe(self) -> Recipe:
        """The recipe of the run."""
        return self.run.recipe

    @cached_property
    def population(self) -> str:
        """The population of the run's recipe: the key of its rows in the tables that are built from it."""
        return population_of(self.recipe)

    @cached_property
    def spark(self) -> SparkSession:
        """The Spark session, opened on first use."""
        from zigong.lakehouse.session import open_spark

        return open_spark(self.recipe.engine, app_name=f"zigong {self.step}", log=self.run.folder / "spark.log")

    @property
    def scratch(self) -> Path:
        """The folder for files that only this step reads."""
        return self.run.scratch(self.step)

    def artefact_folder(self, kind: type[Artefact]) -> Path:
        """The folder in which this step writes the files of an artefact."""
        return self.run.artefact_folder(kind)

    def take(self, kind: type[V]) -> V:
        """The value an earlier step of the run left; see :meth:`Run.take`."""
        self.taken.add(kind.__name__)
        return self.run.take(kind)

    def find(self, kind: type[V]) -> V | None:
        """The value an earlier step of the run left, None without one; see :meth:`Run.find`."""
        self.taken.add(kind.__name__)
        return self.run.find(kind)

    def warn(self, text: str) -> None:
        """Logs a finding that does not stop the step, and keeps it for the outcome."""
        LOG.warning(text, extra={"fields": {"step": self.step}})
        self.warnings.append(text)

    def leave(self, value: Value) -> None:
        """Writes a value for the later steps of the run."""
        self.attempt.require_held()
        self.run.leave(value)
        self.left.add(type(value).__name__)

    def version(self, table: str) -> int:
        """The version of a table this run reads: the one it wrote or pinned before, else the newest, pinned now."""
        from zigong.lakehouse.tables import latest_version

        pinned = self.run.pinned_version(table)
        if pinned is None:
            pinned = latest_version(self.paths, table)
            self._pin(table, pinned)
        self.inputs[table] = pinned
        return pinned

    def _pin(self, table: str, version: int) -> None:
        self.attempt.require_held()
        self.run.pin(table, version)

    def read(self, table: str) -> DataFrame:
        """A table at the run's version, as a Spark frame."""
        from zigong.lakehouse.tables import open_pinned

        return open_pinned(self.spark, self.paths, table, self.version(table))

    def arrow(self, table: str, columns: Sequence[str] | None = None, where: ds.Expression | None = None) -> pa.Table:
        """A table at the run's version, as Arrow."""
        from zigong.lakehouse.tables import arrow_pinned

        return arrow_pinned(self.paths, table, self.version(table), columns=columns, where=where)

    def sample_source(self) -> SampleSource:
        """The run's dataset at the versions this run pinned."""
        from zigong.dataset.samples import SampleSource

        return SampleSource(
            root=self.paths.root,
            dataset_id=self.take(Dataset).dataset_id,
            members_version=self.version("dataset_members"),
            samples_version=self.version("instruction_samples"),
            population=self.population,
        )

    def publish(
        self,
        table: str,
        frame: DataFrame,
        *,
        cells: str,
        rejected: DataFrame | None = None,
        dropped: Mapping[str, int] | None = None,
        may_be_empty: bool = False,
        lineage: Lineage | None = None,
        basis: Basis | None = None,
        pin: bool = True,
        counted: bool = True,
        read: RowsRead | None = None,
        found: Mapping[str, int] | None = None,
    ) -> int:
        """Stages, audits and promotes ``frame`` as all rows that match ``cells``; pins and returns the new version.

        Args:
            rejected: rows the transform already rejected (columns ``reasons`` and ``payload``).
            dropped: rows the transform dropped, by reason.
            may_be_empty: whether no row is valid.
            lineage: what the rows were built from.
            basis: published rows that the rows were built from, beyond the run's pinned inputs.
            counted: whether the rows are those that the step is counted by; a replay within it is not.
            pin: whether the run depends on the version, so that it must stay readable as long as the run is kept.
            read: counts of the rows read, where they are not all in ``frame``, ``rejected`` and ``dropped``.
            found: further counts, which ``tables`` holds afterwards, also if an earlier attempt made the commit.
        """
        from zigong.lakehouse.publish import publish
        from zigong.quality.audit import contract_rules
        from zigong.quality.audit_context import audit_context

        whole = not (self.recipe.engine.incremental and lineage is not None)
        context = audit_context(self.recipe, self.paths, self.run.run_id, other=self.read, whole=whole)
        done = publish(
            self.spark,
            self.paths,
            frame,
            table=table,
            cells=cells,
            run_id=self.run.run_id,
            step=self.step,
            rules=contract_rules(self.run.folder, context),
            rejected=rejected,
            dropped=dropped,
            may_be_empty=may_be_empty,
            lineage=lineage,
            basis=basis,
            again=self.lost_before,
            attempt=self.attempt,
            read=read,
            found=found,
        )
        if pin:
            self._pin(table, done.version)
        if counted:
            self._count(table, done.counts(), version=done.version)
            if done.found is not None:
                self.tables[table]["found"] = done.found
        return done.version

    @property
    def lost_before(self) -> bool:
        """Whether this step ended in a conflict before: its commits of that time may have been replaced since."""
        former = self.run.outcome(self.step)
        return former is not None and former.kind == ConflictError.kind

    def keep(self, table: str, version: int) -> None:
        """Keeps a published version unchanged: none of its inputs has changed."""
        self._pin(table, version)
        nothing = {"rows_in": 0, "published": 0, "quarantined": 0, "dropped": {}, "outside": 0}
        self._count(table, nothing, version=version)

    def stage(self, name: str) -> Path:
        """Folder for shards that workers write before the lakehouse commits them."""
        return self.paths.local("_staging", self.run.run_id, f"{name}.shards")

    def frame(self, rows: pa.Table) -> DataFrame:
        """Rows of the driver as a Spark frame."""
        return self.spark.createDataFrame(rows)

    def quarantine(
        self,
        name: str,
        rejected: DataFrame,
        *,
        refused: int,
        rows_in: int,
        rules_version: str,
        dropped: Mapping[str, int],
    ) -> None:
        """Quarantines rows of raw files, with their reasons.

        Args:
            name: name of the files in the counts.
            rejected: ``refused`` rows with their reasons; not computed if there are none.
            rows_in: rows of the files.
            dropped: further rows dropped, by reason.
        """
        from zigong.lakehouse.quarantining import Refusing

        if refused:
            named = {"table": name, "run_id": self.run.run_id, "step": self.step, "rules_version": rules_version}
            with Refusing(self.spark, self.paths, attempt=self.attempt, **named) as refusing:
                refusing.add(rejected)
                refusing.commit()
        read = rows_in - refused - sum(dropped.values())
        counts = {"rows_in": rows_in, "published": read, "quarantined": refused, "dropped": dict(dropped), "outside": 0}
        self._count(name, counts, version=None)

    def _count(self, name: str, counts: dict[str, Any], *, version: int | None) -> None:
        self.tables[name] = {**counts, "version": version}
        figures = {kind: counts[kind] for kind in ("published", "quarantined", "outside")}
        figures["dropped"] = sum(counts["dropped"].values())
        self.run.add_metrics({f"rows.{name}.{kind}": number for kind, number in figures.items()})

    def observation_dates(self) -> ObservationDates:
        """The recipe's observation dates within the range the job was started for, as far as they have been reached.

        A night works for the dates up to its ``as_of``: the histories of later ones are not complete yet.

        Raises:
            ConfigError: no observation date of the recipe lies in the range, or none up to ``as_of``.
        """
        known, as_of = self.recipe.observation_dates(), self.recipe.as_of
        days = tuple(day for day in self.dates.within(known) if day <= as_of)
        if not days:
            raise ConfigError(
                f"no observation date lies in [{self.dates.first}, {self.dates.end}) and is not after as_of {as_of}; "
                f"the recipe has {known[0]} to {known[-1]}",
                action="choose --from-date and --to-date around the recipe's observations, and as_of after them",
            )
        return ObservationDates(population=self.population, days=days)

    def tombstones(self) -> DataFrame | None:
        """Tombstones of every erased user, including the newest; None if no user was ever erased."""
        from zigong.lakehouse.tables import latest_version, open_pinned, published_tables

        if "erasure_requests" not in published_tables(self.paths):
            return None
        newest = latest_version(self.paths, "erasure_requests")
        return open_pinned(self.spark, self.paths, "erasure_requests", newest).select("tombstone").distinct()


def runs_folder(recipe: Recipe) -> Path:
    """The folder of the runs of a recipe's lakehouse."""
    return LakehousePaths.at(recipe.lakehouse.root).local("_runs")
