"""The loop of a method: reads requests from stdin, answers on the original stdout; libraries print to stderr."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.scorers.inputs import SampleSet, Vectors, sample_set, test_vectors

Scoring = Callable[[], Tensor]  # -> [N, M]
Way = Callable[[SampleSet, Vectors], Scoring]


def answer_requests(open_way: Callable[[Path], Way]) -> None:
    """Serves until stdin ends.

    A request is one line of JSON: ``samples`` (name of a set), ``vectors`` (M) and ``scores`` (file for the scores, or
    null). The answer is one line: ``wall`` and ``cpu`` seconds, ``peak`` and ``loaded``, the largest resident memory so
    far and that before the first scoring, in MiB.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    torch.set_num_threads(1)
    way = open_way(Path(sys.argv[1]))
    prepared: tuple[tuple[str, int], Scoring] | None = None
    loaded = _peak()
    for line in sys.stdin:
        request = json.loads(line)
        key = (request["samples"], request["vectors"])
        if prepared is None or prepared[0] != key:
            prepared = None  # frees the vectors before the next ones are created
            prepared = key, way(sample_set(key[0]), test_vectors(key[1]))
        wall, cpu = time.perf_counter(), time.process_time()
        scores = prepared[1]()
        figures = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        if request["scores"]:
            np.save(request["scores"], scores.double().numpy())
        print(json.dumps({**figures, "peak": _peak(), "loaded": loaded}), file=answers, flush=True)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
