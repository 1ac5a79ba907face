"""``zigong quarantine``: rejected rows, the reasons, and their replay."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from schemas.contracts import TableContract, table_contract, table_names
from schemas.rules import RowRule
from zigong.cli.shared import OnlyRecipe, Root, named_errors, named_run, runs_folder_of
from zigong.console import CONSOLE, say, say_error
from zigong.errors import ConfigError, DataError
from zigong.lakehouse.paths import LakehousePaths
from zigong.runs.dates import Dates
from zigong.runs.run import open_run

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from zigong.runs.replay import Replayed

RunId = Annotated[str, typer.Option("--run-id", help="run that rejected the rows")]
SHOWN = ("none", "quasi_identifier")  # classes of columns whose values ``explain`` shows


def list_refused(recipe: OnlyRecipe = None, root: Root = None) -> None:
    """List the rows in quarantine, by table, run and rule, newest first."""
    from zigong.lakehouse.replayed import QUARANTINE, refused_rows

    retention = table_contract(QUARANTINE).retention
    shown = Table(title="quarantine")
    for column in ("table", "run", "rule", "rows", "replayed", "refused", "expires"):
        shown.add_column(column, justify="right" if column in ("rows", "replayed") else "left", overflow="fold")
    with named_errors():
        refused = refused_rows(LakehousePaths.at(str(runs_folder_of(recipe, root).parent)))
        if not refused:
            say("quarantine is empty")
            return
        for item in refused:
            expires = item.newest + timedelta(days=retention.days) if retention else None
            shown.add_row(
                item.table,
                item.run_id,
                item.rule,
                f"{item.rows:,}",
                f"{item.replayed:,}",
                f"{item.newest:%Y-%m-%d %H:%M}",
                f"{expires:%Y-%m-%d}" if expires else "-",
            )
    CONSOLE.print(shown)


def explain(
    table: str,
    run_id: RunId,
    recipe: OnlyRecipe = None,
    root: Root = None,
    limit: Annotated[int, typer.Option(help="rows shown for each rule")] = 3,
) -> None:
    """Show what each rule requires, and the values of some rejected rows in the columns it reads.

    Pseudonyms and free text are never shown.
    """
    from pyspark.sql import functions as F

    from zigong.behavior.sources.casts import TIMES
    from zigong.lakehouse.replayed import refused_rows, unreplayed_rows
    from zigong.quality.quarantine import read_back
    from zigong.runs.job import Job

    with named_errors():
        run = named_run(run_id, recipe, root)
        job = Job(step="explain_quarantine", run=run, paths=LakehousePaths.at(run.recipe.lakehouse.root))
        tables = {item.table for item in refused_rows(job.paths) if item.run_id == run_id and item.rows > item.replayed}
        if not tables:
            say(f"quarantine has no row of run {run_id}: nothing was refused, or every row was replayed")
            return
        if table not in tables:
            raise DataError(
                f"quarantine has no row of table {table} and run {run_id}; it has rows of {', '.join(sorted(tables))}",
                action="name one of these tables; `zigong quarantine ls` lists what it holds",
            )
        refused = unreplayed_rows(job.spark, job.paths, table, run_id).cache()
        counts = refused.select(F.explode("reasons").alias("rule")).groupBy("rule").count().collect()
        contract = table_contract(table) if table in table_names() else None
        rules = {rule.name: rule for rule in contract.row_rules} if contract else {}
        # A rejected time may lie in a year that Python does not have.
        times = [column.name for column in contract.columns if column.type in TIMES] if contract else []
        for row in sorted(counts, key=lambda item: -item["count"]):
            say(f"[bold]{row['rule']}[/]: {row['count']:,} rows")
            rule = rules.get(row["rule"])
            if contract is None or rule is None:
                say("  a rule of the step that built the rows, or of the source mapping; the payload shows the fields")
                _say_places(refused.where(F.array_contains("reasons", row["rule"])), limit)
                continue
            say(f"  requires {rule.condition}" + (f": {rule.description}" if rule.description else ""))
            columns = _columns_of(rule, contract)
            broken = refused.where(F.array_contains("reasons", rule.name)).orderBy("_row").limit(limit)
            texts = [F.col(name).cast("string").alias(name) if name in times else F.col(name) for name in columns]
            for held in read_back(broken, contract).select(*texts).collect():
                say("  found   " + ", ".join(f"{name} = {held[name]!r}" for name in columns))
        was = {row["rules_version"] for row in refused.select("rules_version").distinct().collect()}
        if contract is not None and was != {contract.rules_version}:
            say(f"rejected under rules {', '.join(sorted(was))}; the current ones are {contract.rules_version}")


def _say_places(refused: DataFrame, limit: int) -> None:
    """Prints file and line of some rows of raw files; other rows have none."""
    from pyspark.sql import functions as F

    file, line = (F.get_json_object("payload", f"$.{name}") for name in ("_file", "_line"))
    places = refused.select(file.alias("file"), line.cast("bigint").alias("line")).where("file IS NOT NULL")
    for row in places.orderBy("file", "line").limit(limit).collect():
        say(f"  found   in {escape(row['file'])}, line {row['line']:,}")


def replay(
    table: str,
    run_id: RunId,
    recipe: OnlyRecipe = None,
    root: Root = None,
    correct: Annotated[
        list[str] | None,
        typer.Option("--correct", metavar="COLUMN=SQL", help="new value of a column, over the columns of the row"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only count")] = False,
) -> None:
    """Publish the rows that pass the current rules, each once; the others are kept in quarantine."""
    from zigong.runs.job import Job
    from zigong.runs.launch import run_step
    from zigong.runs.replay import STEP
    from zigong.runs.replay import replay as replayed

    with named_errors():
        former, corrections = named_run(run_id, recipe, root), _corrections(correct or [])
        if dry_run:
            job = Job(step=STEP, run=former, paths=LakehousePaths.at(former.recipe.lakehouse.root))
            say(f"would be: {_counts_text(replayed(job, table, run_id, corrections, dry_run=True))}")
            return
        stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
        run = open_run(former.recipe, former.folder.parent, f"replay-{table}-{stamp}")
        done: list[Replayed] = []
        outcome = run_step(
            STEP,
            lambda job: done.append(replayed(job, table, run_id, corrections, dry_run=False)),
            run,
            Dates(),
        )
        if outcome.code:
            say_error(outcome.kind, outcome.message, outcome.action)
            raise typer.Exit(outcome.code)
        say(f"{_counts_text(done[0])};  {table} is at version {done[0].version}")


def _counts_text(done: Replayed) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {rows:,}" for name, rows in done.counts.items())


def _corrections(given: list[str]) -> dict[str, str]:
    pairs = [item.partition("=") for item in given]
    for column, equals, sql in pairs:
        if not (column and equals and sql):
            raise ConfigError(f"--correct {column}{equals}{sql} is not COLUMN=SQL", action="write COLUMN=SQL")
    return {column.strip(): sql for column, _, sql in pairs}


def _columns_of(rule: RowRule, contract: TableContract) -> list[str]:
    """The columns a rule reads whose values may be shown."""
    words = set(re.findall(r"[A-Za-z_][A-Za-z0-9_]*", rule.condition))
    return [c.name for c in contract.columns if c.name in words and c.classification in SHOWN]
