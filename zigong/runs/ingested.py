"""What ingest_events does with the tables of a delivery: publishes, counts and records them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from schemas.contracts import table_contract
from schemas.mappings import SourceMapping
from zigong.behavior.sources.arrival import Arrivals, arrivals
from zigong.behavior.sources.delivery import RefusedRaw, profiled_users, require_few_refused
from zigong.behavior.sources.findings import SourceFinding
from zigong.behavior.sources.key_health import shared_key_findings
from zigong.behavior.sources.nights import Delivered, Night, Standing
from zigong.behavior.sources.redelivery import CHANGED, EVENTS, LATE, PROFILES, RETRACTED, Terms
from zigong.behavior.sources.rewrites import rewritten
from zigong.errors import ConfigError
from zigong.lakehouse.commits import create_if_missing, own_commits
from zigong.lakehouse.deliveries import DeliveredFile, Delivery, EventCounts, deliveries_of, frontier, record_delivery
from zigong.lakehouse.lost_files import require_readable
from zigong.lakehouse.tables import latest_version, open_pinned, published_version
from zigong.quality.rows import REASONS, conform
from zigong.runs.handover import MissingProfiles
from zigong.runs.job import Job
from zigong.runs.known_dates import NewestDates
from zigong.runs.replay import repeat_replays


def require_all_readable(job: Job) -> None:
    """Refuses tables that have lost files, unless the job replaces them; then it warns."""
    for table in (EVENTS.table, PROFILES.table):
        lost = require_readable(job.paths, table, replaced=not job.dates.bounded, run_id=job.run.run_id)
        if lost:
            job.warn(lost)


def quarantine_raw(job: Job, mapping: SourceMapping, found: RefusedRaw) -> None:
    """Quarantines the raw rows that do not fit the mapping; too many of them end the step."""
    job.quarantine(
        f"raw_{mapping.name}",
        found.rows,
        refused=found.refused - found.erased,
        rows_in=found.rows_in,
        rules_version=mapping.digest,
        dropped=found.dropped,
    )
    require_few_refused(mapping, found)
    for text in found.warnings:
        job.warn(text)


def warn_of(job: Job, findings: Iterable[SourceFinding]) -> None:
    """Makes findings of `zigong source check` warnings of the outcome."""
    for finding in findings:
        job.warn(finding.sentence)


def arrived(job: Job, mapping: SourceMapping, folder: str, earlier: Sequence[Delivery]) -> Arrivals | None:
    """The files that arrived on the dates of the job; None: the mapping has no pattern of arrivals.

    What somebody should know of these files becomes a warning of the outcome.
    """
    if not mapping.by_arrival:
        return None
    # Without dates everything is read again: it replaces what is published.
    found = arrivals(mapping, folder, job.dates.first, job.dates.end, earlier if job.dates.bounded else ())
    for text in found.warnings():
        job.warn(text)
    job.run.add_metrics({"files.read": len(found.files), "files.known": found.known})
    return found


def night_of(job: Job, mapping: SourceMapping, earlier: Sequence[Delivery]) -> Night | None:
    """The dates that the job was started for; None: it was started without dates, and no file states its arrival."""
    if not job.dates.bounded and not mapping.by_arrival:
        return None
    first, end = job.dates.first, job.dates.end
    terms = Terms(
        first=first,
        end=end,
        frontier=frontier(earlier, first, end) if job.dates.bounded else None,
        timezone=job.recipe.business_timezone,
        refuse=mapping.refuse_changes,
        as_stated=mapping.data == "simulated",
        by_arrival=mapping.by_arrival,
    )
    newest = first is not None and all(first >= (known.to_date or known.known_before) for known in earlier)
    return Night(
        mapping=mapping, terms=terms, newest=newest, tombstones=job.tombstones(), rebuild=not job.dates.bounded
    )


def standing_rows(job: Job, table: str) -> Standing:
    """The newest published rows of a table, which is created if it is missing."""
    create_if_missing(job.paths, table_contract(table))
    version = latest_version(job.paths, table)
    return Standing(rows=open_pinned(job.spark, job.paths, table, version), version=version)


def publish_delivered(job: Job, rows: Delivered) -> Mapping[str, int]:
    """Publishes the rows of one table; the number of late, changed and retracted ones.

    Of an ingest without dates, that of published rows that it has added, changed and removed.
    """
    version = job.publish(
        rows.table,
        rows.kept,
        cells=_committed_cells(job, rows.table) or rows.cells,
        rejected=rows.refused,
        dropped=rows.dropped,
        may_be_empty=job.dates.bounded,
        basis=rows.basis,
        read=rows.read,
        found=rows.found,
    )
    found: dict[str, int] = job.tables[rows.table].get("found") or dict(rows.found)
    if not job.dates.bounded:
        found |= _rewritten(job, rows.table, rows.cells, version)
    if job.tables[rows.table]["quarantined"]:
        repeat_replays(job, rows.table)
    job.run.add_metrics({f"rows.{rows.table}.{kind}": count for kind, count in found.items()})
    return found


def _committed_cells(job: Job, table: str) -> str | None:
    """The cells that an earlier attempt of this step has committed, None if there is none.

    For a later attempt they are not the same: what the commit has added is published now, and new no more.
    """
    if job.lost_before or published_version(job.paths, table) is None:
        return None
    wanted = (job.step, job.attempt.rerun)
    own = own_commits(job.paths, table, job.run.run_id)
    delivered = [commit for commit in own if commit.get("found") is not None]
    return next((c["cells"] for c in delivered if (c.get("step"), c.get("rerun", 0)) == wanted), None)


def _rewritten(job: Job, table: str, cells: str, version: int) -> dict[str, int]:
    """What the commit of a version has changed in its cells; nothing is counted where nothing was published."""
    try:
        before = open_pinned(job.spark, job.paths, table, version - 1).where(cells) if version else None
    except ConfigError:  # an erasure has removed it since
        before = None
    if before is None or not before.head(1):
        return {}
    done = rewritten(before, open_pinned(job.spark, job.paths, table, version).where(cells), table)
    warning = done.warning(table)
    if warning:
        job.warn(warning)
    return {"added": done.added, CHANGED: done.changed, "removed": done.removed}


def warn_of_shared_keys(job: Job, source: str, events: DataFrame) -> None:
    """Warns of keys that hold a large share of the delivered events, or of the source's profiles.

    Args:
        events: as for :func:`leave_missing_profiles`.
    """
    profiles = job.read("user_profiles").where(F.col("source") == source)
    warn_of(job, shared_key_findings(events, profiles))


def leave_missing_profiles(job: Job, events: DataFrame) -> None:
    """Hands over the number of users of the published events that have no profile.

    Args:
        events: the rows to publish, those that broke a rule among them; they are computed already, and reading the
            table would open a file for every date.
    """
    published = conform(events, table_contract(EVENTS.table)).where(F.size(REASONS) == 0)
    found = profiled_users(published, job.read("user_profiles"))
    missing = f"{found.without_profile:,} of {found.users:,}" if found.without_profile else None
    job.leave(MissingProfiles(users_without_profile=missing))
    job.run.add_metrics({"users.of_events": found.users, "users.without_profile": found.without_profile})


def record_ingested(
    job: Job,
    mapping: SourceMapping,
    night: Night | None,
    found: Mapping[str, int],
    files: Arrivals | None,
    newest: NewestDates | None,
) -> None:
    """Records the dates, the files and the counts of the delivery in the table of deliveries."""
    counts: dict[str, Any] = job.tables[EVENTS.table]
    events = EventCounts(
        read=counts["rows_in"],
        published=counts["published"],
        quarantined=counts["quarantined"],
        dropped=sum(counts["dropped"].values()),
        outside=counts["outside"],
        late=found.get(LATE, 0),
        changed=found.get(CHANGED, 0),
        retracted=found.get(RETRACTED, 0),
    )
    delivery = Delivery(
        source=mapping.name,
        run_id=job.run.run_id,
        from_date=job.dates.first,
        to_date=job.dates.end,
        known_before=_known_before(job, night, newest, changed=events.changed),
        mapping_digest=mapping.digest,
        files=_files(job, mapping, files),
        events=events,
    )
    record_delivery(job.paths, delivery)


def _files(job: Job, mapping: SourceMapping, files: Arrivals | None) -> tuple[DeliveredFile, ...]:
    """The files that the run has read, those of its earlier attempts among them."""
    own = [
        file
        for item in deliveries_of(job.paths, mapping.name)
        if item.run_id == job.run.run_id and item.mapping_digest == mapping.digest
        for file in item.files
    ]
    found = {file.path: file for file in (*own, *(files.files if files else ()))}
    return tuple(found[path] for path in sorted(found))


def _known_before(job: Job, night: Night | None, newest: NewestDates | None, *, changed: int) -> date:
    """The date before which the source's events are published, those that changed at the frontier among them.

    Without dates it follows the last known date before ``as_of``: later ones are typing errors or announcements.
    """
    if night is not None and night.terms.end is not None:
        beyond = night.terms.frontier
        return max(night.terms.end, beyond + timedelta(days=1) if changed and beyond else night.terms.end)
    if newest is None or newest.before_as_of is None:
        return job.recipe.as_of
    return newest.before_as_of + timedelta(days=1)
