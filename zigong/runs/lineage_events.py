"""OpenLineage events of a step: the versions of tables it read and wrote, for catalogs that follow data across systems.

Without settings of the OpenLineage client in the environment (``OPENLINEAGE_URL``, ``OPENLINEAGE_CONFIG``) the events
of a run are lines of ``lineage.jsonl`` in its folder. Source: https://openlineage.io/docs/spec/object-model.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import NAMESPACE_URL, UUID, uuid5

if TYPE_CHECKING:
    from openlineage.client import OpenLineageClient
    from openlineage.client.event_v2 import InputDataset, OutputDataset, RunEvent
    from openlineage.client.facet_v2 import RunFacet

    from zigong.runs.job import Job
    from zigong.runs.run import Outcome

FILE, PRODUCER, NAMESPACE = "lineage.jsonl", "urn:zigong", "zigong"
_SETTINGS = ("OPENLINEAGE_URL", "OPENLINEAGE_CONFIG", "OPENLINEAGE__TRANSPORT")


def run_uuid(root: str, run_id: str, *parts: object) -> UUID:
    """The UUID of a run, or of one attempt at a step of it; the same whoever computes it."""
    return uuid5(NAMESPACE_URL, "/".join([root, run_id, *map(str, parts)]))


def begun(job: Job, at: datetime) -> RunEvent:
    """The event of a step that begins."""
    return _event(job, "START", at, {}, [], [])


def ended(job: Job, outcome: Outcome) -> RunEvent:
    """The event of a step that has ended, with what it read and wrote."""
    from openlineage.client.generated.error_message_run import ErrorMessageRunFacet

    failed = outcome.code != 0
    facets: dict[str, RunFacet] = {}
    if failed:
        facets["errorMessage"] = ErrorMessageRunFacet(message=outcome.message, programmingLanguage="python")
    wrote = {name: counts for name, counts in outcome.tables.items() if counts.get("version") is not None}
    outputs = [_written(job, name, counts["version"], counts["published"]) for name, counts in sorted(wrote.items())]
    inputs = [_read(job, name, version) for name, version in sorted(job.inputs.items()) if name not in wrote]
    return _event(job, "FAIL" if failed else "COMPLETE", datetime.now(UTC), facets, inputs, outputs)


def emit(job: Job, event: RunEvent) -> None:
    """Sends an event; one that cannot be sent never ends a step."""
    try:
        _client(job.run.folder).emit(event)
    except Exception as error:  # whatever a transport raises: lineage is not worth a night
        job.warn(f"a lineage event was not sent: {type(error).__name__}")  # its text may name an address with a key


def _client(folder: Path) -> OpenLineageClient:
    from openlineage.client import OpenLineageClient

    if any(name.startswith(_SETTINGS) for name in os.environ):
        return OpenLineageClient()
    return OpenLineageClient(
        config={"transport": {"type": "file", "log_file_path": str(folder / FILE), "append": True}}
    )


def _event(
    job: Job,
    state: str,
    at: datetime,
    facets: Mapping[str, RunFacet],
    inputs: list[InputDataset],
    outputs: list[OutputDataset],
) -> RunEvent:
    from openlineage.client import event_v2
    from openlineage.client.generated import parent_run

    root, run = job.paths.root, job.run
    parent = parent_run.ParentRunFacet(
        run=parent_run.Run(runId=str(run_uuid(root, run.run_id))),
        job=parent_run.Job(namespace=NAMESPACE, name=job.recipe.name),
    )
    return event_v2.RunEvent(
        eventType=event_v2.RunState(state),
        eventTime=at.isoformat(),
        run=event_v2.Run(
            runId=str(run_uuid(root, run.run_id, job.step, job.attempt.token)), facets={"parent": parent, **facets}
        ),
        job=event_v2.Job(namespace=NAMESPACE, name=f"{job.recipe.name}.{job.step}"),
        inputs=inputs,
        outputs=outputs,
        producer=PRODUCER,
    )


def _read(job: Job, table: str, version: int) -> InputDataset:
    from openlineage.client.event_v2 import InputDataset
    from openlineage.client.generated.dataset_version_dataset import DatasetVersionDatasetFacet

    namespace, name = _address(job, table)
    return InputDataset(
        namespace=namespace, name=name, facets={"version": DatasetVersionDatasetFacet(datasetVersion=str(version))}
    )


def _written(job: Job, table: str, version: int, rows: int) -> OutputDataset:
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.generated.dataset_version_dataset import DatasetVersionDatasetFacet
    from openlineage.client.generated.output_statistics_output_dataset import OutputStatisticsOutputDatasetFacet

    namespace, name = _address(job, table)
    return OutputDataset(
        namespace=namespace,
        name=name,
        facets={"version": DatasetVersionDatasetFacet(datasetVersion=str(version))},
        outputFacets={"outputStatistics": OutputStatisticsOutputDatasetFacet(rowCount=rows)},
    )


def _address(job: Job, table: str) -> tuple[str, str]:
    """Namespace and name by the naming of OpenLineage: ``file`` and a path, or ``s3://bucket`` and a key."""
    path = job.paths.table(table)
    if "://" not in path:
        return "file", path
    scheme, _, rest = path.partition("://")
    bucket, _, key = rest.partition("/")
    return f"{scheme}://{bucket}", key
