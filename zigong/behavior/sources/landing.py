"""Locates the raw files of a recipe; the files of a simulated lender are generated on first use."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pyspark.sql import SparkSession

from zigong.behavior.simulate import simulate_lender
from zigong.errors import ConfigError
from zigong.lakehouse.paths import LakehousePaths
from zigong.recipe import Recipe, Simulation

COMPLETE = "_COMPLETE"


def landing_folder(spark: SparkSession, recipe: Recipe, paths: LakehousePaths) -> str:
    """The folder that ingest reads.

    Raises:
        ConfigError: the recipe names neither a folder nor a simulation, or the folder is missing.
    """
    source = recipe.source
    if source.path is not None:
        folder = Path(source.path).expanduser()
        if not folder.is_dir():
            action = "use --set source.path=FOLDER with the folder of the raw files"
            raise ConfigError(f"source.path {folder} is not a folder", action=action)
        return str(folder.resolve())
    if source.simulation is None:
        raise ConfigError(
            f"source.path is missing: mapping {source.mapping} reads raw files",
            action="use --set source.path=FOLDER with the folder of the raw files",
        )
    return _simulated(spark, source.simulation, paths)


def _simulated(spark: SparkSession, simulation: Simulation, paths: LakehousePaths) -> str:
    """The folder of one simulation; an incomplete one is generated again."""
    identity = json.dumps(simulation.model_dump(mode="json"), sort_keys=True)
    folder = paths.landing(f"simulated-{hashlib.sha256(identity.encode()).hexdigest()[:12]}")
    marker = Path(folder, COMPLETE)
    if not marker.is_file():
        simulate_lender(spark, simulation, seed=simulation.seed, folder=folder)
        marker.touch()
    return folder
