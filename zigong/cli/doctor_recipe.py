"""The checks of ``zigong doctor --recipe``: what a run of this recipe needs, tried for real and removed again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from zigong.cli.doctor import GIB, MachineCheck, tried
from zigong.errors import ConfigError, InfraError
from zigong.lakehouse.paths import LakehousePaths
from zigong.recipe import Recipe

FREE_GIB = 5
PROBE_ROWS = 1000


def examine_recipe(recipe: Recipe) -> list[MachineCheck]:
    """Tries what a run of the recipe needs; every check that fails says what to do."""
    folder = LakehousePaths.at(recipe.lakehouse.root).local("_doctor", uuid4().hex)
    below_root: dict[str, Callable[[], str]] = {
        "commits": lambda: conditional_commits(str(folder / "commits")),
        "spark sees the root": lambda: _spark(recipe, folder),
        "ray sees the root": lambda: _ray(recipe, folder),
        "registry": lambda: _registry(recipe),
    }
    try:
        root = tried("root", lambda: _root(folder))
        found = [root, tried("key of the pseudonyms", lambda: _key(recipe)), tried("source", lambda: _source(recipe))]
        for part, check in below_root.items():
            missing = MachineCheck(part=part, found="not tried", ok=False, action="mend the root first")
            found.append(_answered(part, check) if root.ok else missing)
        return found
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if folder.parent.is_dir() and not any(folder.parent.iterdir()):
            folder.parent.rmdir()


def _answered(part: str, check: Callable[[], str]) -> MachineCheck:
    """A check of another system, which may fail in ways of its own."""
    try:
        return tried(part, check)
    except Exception as error:  # whatever its client raises
        lines = str(error).strip().splitlines() or [""]
        found = f"{type(error).__name__}: {lines[0][:200]}"
        return MachineCheck(part=part, found=found, ok=False, action="see the log of that system")


def conditional_commits(uri: str) -> str:
    """Lets two writers commit the same version of a table: exactly one of them may be told that it did.

    Raises:
        InfraError: both were told so, or neither: this store is no place for a lakehouse.
    """
    import pyarrow as pa
    from deltalake import CommitProperties, DeltaTable
    from deltalake.exceptions import CommitFailedError

    schema = pa.schema([pa.field("n", pa.int64())])
    DeltaTable.create(uri, schema=schema)
    told = 0
    for writer in [DeltaTable(uri), DeltaTable(uri)]:
        try:
            writer.create_write_transaction(
                [], "append", writer.schema(), commit_properties=CommitProperties(max_commit_retries=0)
            )
            told += 1
        except CommitFailedError:
            continue
    if told != 1 or DeltaTable(uri).version() != 1:
        raise InfraError(
            f"of two writers of one version {told} were told that they made it",
            action="use a file system or an object store that creates a file only if it does not exist",
        )
    return "of two writers of one version one was refused"


def _root(folder: Path) -> str:
    try:
        folder.mkdir(parents=True)
        (folder / "probe").write_text("x", encoding="utf-8")
    except OSError as error:
        raise InfraError(f"{folder.parent.parent}: {error.strerror}", action="let this user write there") from error
    free = shutil.disk_usage(folder).free / GIB
    if free < FREE_GIB:
        raise InfraError(f"{free:.1f} GiB are free", action=f"make room: {FREE_GIB} GiB are recommended")
    return f"{folder.parent.parent}, {free:,.0f} GiB free"


def _key(recipe: Recipe) -> str:
    from zigong.recipe.source import pseudonym_key

    pseudonym_key(recipe)
    return "published, for public data" if recipe.lakehouse.key == "published" else "set"


def _source(recipe: Recipe) -> str:
    path = recipe.source.path
    if path is None:
        return "simulated"
    if "://" not in str(path) and not Path(path).exists():
        raise ConfigError(f"{path} does not exist", action="set source.path to the folder of the files")
    return str(path)


def _spark(recipe: Recipe, folder: Path) -> str:
    """Executors write, this process counts."""
    import pyarrow.parquet as pq

    from zigong.lakehouse.session import open_spark

    session = open_spark(recipe.engine, app_name="zigong doctor", log=folder / "spark.log")
    session.range(PROBE_ROWS).write.parquet(str(folder / "rows"))
    found = sum(pq.read_metadata(file).num_rows for file in (folder / "rows").glob("*.parquet"))
    if found != PROBE_ROWS:
        raise InfraError(
            f"executors wrote {PROBE_ROWS} rows, {found} are here",
            action="mount lakehouse.root at the same path on driver and executors",
        )
    return f"{session.version} at {session.sparkContext.master}"


def _ray(recipe: Recipe, folder: Path) -> str:
    """A worker reads what this process has written."""
    from zigong.fanout.probe import seen_by_worker

    seen = seen_by_worker(recipe.engine, folder / "probe")
    if not seen.sees_file:
        raise InfraError(
            "a worker does not see the root", action="mount lakehouse.root at the same path on every Ray node"
        )
    return f"{seen.cpus} CPUs, {seen.gpus} GPUs"


def _registry(recipe: Recipe) -> str:
    from zigong.release.registry import champion
    from zigong.release.serving import registry_of

    registry = registry_of(recipe)
    known = champion(registry)
    return f"{registry.uri.split('://')[0]}, {'champion ' + known.model.model_id if known else 'no champion yet'}"
