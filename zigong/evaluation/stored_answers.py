"""Answers of evaluated models, read back from evaluation_answers."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from zigong.errors import DataError
from zigong.runs.job import Job


def stored_answers(job: Job, model_id: str, members: pa.Table) -> NDArray[np.float64]:
    """Probabilities of bad of a model, as it gave them, in the order of the members: [members].

    Raises:
        DataError: a member has no answer.
    """
    own = (ds.field("dataset_id") == job.sample_source().dataset_id) & (ds.field("model_id") == model_id)
    rows = job.arrow("evaluation_answers", ["sample_id", "p_bad"], where=own)
    places = pc.index_in(members["sample_id"], rows["sample_id"])
    if places.null_count:
        raise DataError(
            f"{places.null_count} of {len(members)} members have no answer of {model_id}",
            action="start evaluate_model again with this run id",
        )
    return np.asarray(rows["p_bad"].take(places).to_numpy())
