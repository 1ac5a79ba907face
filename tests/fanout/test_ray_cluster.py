"""The cluster recipe of the operations page is accepted by Ray and contains no secret."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

FILE = Path(__file__).resolve().parents[2] / "docs/ray_cluster.yaml"


def test_ray_accepts_the_cluster_recipe_and_its_gpu_workers_scale_from_zero() -> None:
    config = prepare_config(yaml.safe_load(FILE.read_text(encoding="utf-8")))
    validate_config(config)
    workers = config["available_node_types"]["gpu_worker"]
    assert (workers["min_workers"], workers["resources"]["GPU"]) == (0, 1)
    assert workers["max_workers"] <= config["max_workers"]


def test_the_cluster_recipe_contains_no_secret() -> None:
    text = FILE.read_text(encoding="utf-8")
    assert not re.search(r"(?i)(ZIGONG_USER_KEY|password|secret_|access_key|ssh_private_key)", text)
