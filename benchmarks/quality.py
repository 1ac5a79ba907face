"""Checking sequences against their contract: ours, Great Expectations on Spark and DQX, and the cost of building them.

`quality.py [EVENTS]`: the number of events of the sequences, default 10 million. Every method runs in its own process
on the same Parquet with the same threads; methods are interleaved. The violations that they find are compared with one
another, and with the planted ones, before any figure is printed. Prints a table and writes build/bench/quality.json:
vs_WAY is their time divided by ours, validate_of_build ours divided by the time of building the same sequences. Each is
reported for the first time in a fresh session, where starting up weighs most, and as `_warm` for further times: a step
checks the table that it has just built, in a running session.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.table import Table

from benchmarks.sequences import COMPARED, DAY, HOME, OUT, ROUNDS, THREADS, Figures, made, program_figures
from benchmarks.validators import FOUND

PEER_PYTHON = HOME / "build" / "venv-bench-quality" / "bin" / "python"
VALIDATORS = f"{HOME}/benchmarks/validators"
CACHED = "_cached"  # GX may keep the rows in memory or not: the faster counts
WAYS = {
    "ours": [sys.executable, f"{VALIDATORS}/ours.py"],
    **{
        f"gx_{way}{CACHED if cached else ''}": [sys.executable, f"{VALIDATORS}/with_gx.py", way, str(cached)]
        for way in ("one_by_one", "suite")
        for cached in (False, True)
    },
    "dqx": [str(PEER_PYTHON), f"{VALIDATORS}/with_dqx.py"],
}
CLOCKS = {"wall": "", "cpu": "_cpu", "warm_wall": "_warm", "warm_cpu": "_warm_cpu"}
NOT_EVALUATED = "as_many_rows_as_before, history_lengths_are_stable"


def main(events: int = COMPARED) -> None:
    """Measures and reports."""
    source = made(events)
    built = [build(source, events) for _ in range(ROUNDS)]
    program_figures([sys.executable, f"{VALIDATORS}/planted.py", f"{source}/whole", str(source), str(events)])
    ways, missing = compared(source, events)
    report(events, ways, fastest(built), missing)


def build(source: Path, events: int) -> Figures:
    """Builds the sequences in all columns of the contract."""
    print(f"building the sequences of {events:,} events", file=sys.stderr)
    return program_figures(
        [sys.executable, f"{HOME}/benchmarks/builders/whole.py", str(source), str(source / "whole"), DAY]
    )


def compared(source: Path, events: int) -> tuple[dict[str, Figures], dict[str, str]]:
    """The fastest round of every method, and why a peer has none.

    Raises:
        SystemExit: a method found other violations than planted.
    """
    planted = json.loads((source / "planted.json").read_text())
    rounds: dict[str, list[Figures]] = {}
    missing: dict[str, str] = {}
    for _ in range(ROUNDS):
        for way, command in WAYS.items():
            if way in missing:
                continue
            try:
                found = program_figures(
                    [*command, str(source / "sequences"), str(source / f"judged_{way}"), str(events)]
                )
            except (OSError, subprocess.CalledProcessError) as error:
                if way != "dqx":
                    raise
                missing[way] = str(error)
                continue
            require_planted(way, found, planted)
            rounds.setdefault(way.removesuffix(CACHED), []).append(found)
    return {way: fastest(found) for way, found in rounds.items()}, missing


def require_planted(way: str, found: Figures, planted: dict[str, int]) -> None:
    """Stops the benchmark if a method found other violations; for a rule without planted ones it must find none."""
    counted = {name.removeprefix(FOUND): number for name, number in found.items() if name.startswith(FOUND)}
    wanted = {rule: planted.get(rule, 0) for rule in counted}
    if counted != wanted or not set(planted) <= set(counted):
        raise SystemExit(f"{way} found {counted}, planted were {planted}: the comparison is invalid")


def fastest(rounds: list[Figures]) -> Figures:
    """The lowest of each clock."""
    return {clock: min(found[clock] for found in rounds) for clock in CLOCKS}


def report(events: int, ways: dict[str, Figures], built: Figures, missing: dict[str, str]) -> None:
    """A table, and the flat file of figures."""
    console, ours = Console(width=110), ways["ours"]
    title = f"rules of user_sequences over {events:,} events, {THREADS} threads, best of {ROUNDS}; x is theirs / ours"
    table = Table(title=title, title_justify="left")
    for column in ("way", "wall s", "x", "CPU s", "x", "warm wall s", "x", "warm CPU s", "x"):
        table.add_column(column, justify="left" if column == "way" else "right")
    flat: Figures = {"events": float(events)}
    for way, found in {**ways, "build": built}.items():
        cells = [way]
        for clock, suffix in CLOCKS.items():
            cells += [f"{found[clock]:.1f}", f"{found[clock] / ours[clock]:.2f}"]
            flat[f"seconds.{way}{suffix}"] = found[clock]
            if way == "build":
                flat[f"validate_of_build{suffix}"] = ours[clock] / built[clock]
            elif way != "ours":
                flat[f"vs_{way}{suffix}"] = found[clock] / ours[clock]
        table.add_row(*cells)
    console.print(table)
    first, warm = flat["validate_of_build"], flat["validate_of_build_warm"]
    console.print(f"validating takes {first:.2f} of the time of building the same sequences, warm {warm:.2f}")
    console.print(f"not evaluated by any method, since there are no earlier runs and no reference: {NOT_EVALUATED}")
    for way, why in missing.items():
        console.print(f"no figure vs_{way}: {why}")
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "quality.json").write_text(json.dumps(flat, indent=1))
    console.print(f"written to {(OUT / 'quality.json').relative_to(HOME)}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
