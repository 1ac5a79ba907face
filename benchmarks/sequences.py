"""Building sequences: ours against DuckDB, Polars and the textbook Spark version, and how the cost grows.

`sequences.py [LARGEST]`: the largest number of events of the growth curve, default 100 million. Every method runs in
its own process on the same Parquet with the same threads; methods of one size are interleaved. Their rows are compared
(user, number of events, hash of the ordered events, profile) before any figure is printed. Prints tables and writes
build/bench/sequences.json, the comparison before the growth, which takes the longest.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.every_event import require_every_event

HOME = Path(__file__).resolve().parent.parent
DATA, OUT = HOME / "build" / "bench" / "data", HOME / "build" / "bench"
PEERS_PYTHON = HOME / "build" / "venv-bench" / "bin" / "python"
BUILDERS = {"ours": sys.executable, "textbook": sys.executable, "with_duckdb": "", "with_polars": ""}
DAY, THREADS, MILLION = "2025-12-01", 2, 1_000_000
SMALL, COMPARED, LARGE = MILLION, 10 * MILLION, 100 * MILLION
ROUNDS = 2

Figures = dict[str, float]
CONSOLE = Console(width=100)


def main(largest: int = LARGE) -> None:
    """Measures and reports."""
    OUT.mkdir(parents=True, exist_ok=True)
    ways = compared(COMPARED)
    flat = report_ways(ways)
    curve = {events: growth(events) for events in (SMALL, LARGE) if events <= largest}
    curve[COMPARED] = with_input(ways["ours"], COMPARED)
    report_growth(dict(sorted(curve.items())), flat)


def growth(events: int) -> Figures:
    """Simulates an input of a size and builds its sequences, twice if that takes only minutes."""
    built = run("ours", made(events))
    require_every_event(made(events), DAY)
    return with_input(built, events)


def with_input(built: Figures, events: int) -> Figures:
    """The figures of a build together with those of its input."""
    data = made(events)
    return {**built, "events": data_count(data), **{f"data_{name}": value for name, value in simulated(data).items()}}


def compared(events: int) -> dict[str, Figures]:
    """The best of some rounds of every method; a method whose rows differ from ours stops the benchmark."""
    data = made(events)
    best: dict[str, Figures] = {}
    for _ in range(ROUNDS):
        for way in BUILDERS:
            found = run(way, data)
            if way not in best or found["wall"] < best[way]["wall"]:
                best[way] = found
    wanted = checksum(data / "out_ours")
    for way in BUILDERS:
        if checksum(data / f"out_{way}") != wanted:
            raise SystemExit(f"{way} built other rows than ours: the comparison means nothing")
    return best


def run(way: str, data: Path) -> Figures:
    """One method in its own process."""
    python = BUILDERS[way] or str(PEERS_PYTHON)
    return program_figures([python, f"{HOME}/benchmarks/builders/{way}.py", str(data), str(data / f"out_{way}"), DAY])


def made(events: int) -> Path:
    """The folder of an input; an existing one is reused."""
    data = DATA / f"sequences_{events}"
    if not (data / "figures.json").is_file():
        figures = program_figures([sys.executable, f"{HOME}/benchmarks/builders/data.py", str(data), str(events)])
        (data / "figures.json").write_text(json.dumps(figures))
    return data


def simulated(data: Path) -> Figures:
    """The cost of simulating the input."""
    figures: Figures = json.loads((data / "figures.json").read_text())
    return {name: figures[name] for name in ("wall", "cpu")}


def data_count(data: Path) -> float:
    """Event versions of an input."""
    return float((data / "count").read_text())


def program_figures(command: list[str]) -> Figures:
    """The figures that a program prints in its last line; it gets the number of threads as its last argument."""
    print("+", *(part.replace(f"{HOME}/", "") for part in command), THREADS, file=sys.stderr, flush=True)
    done = subprocess.run([*command, str(THREADS)], cwd=HOME, stdout=subprocess.PIPE, text=True, check=True)
    figures: Figures = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def checksum(folder: Path) -> tuple[int, int]:
    """Rows, and the sum of a digest of every row: independent of their order."""
    table = ds.dataset(folder).to_table(columns=["user_id", "events_used", "events_hash", "profile"])
    rows = zip(*(table[name].to_pylist() for name in table.column_names), strict=True)
    return table.num_rows, sum(_row_digest(*row) for row in rows) % 2**64


def _row_digest(user_id: str, used: int, events_hash: str, profile: Any) -> int:
    pairs = sorted((item["key"], item["value"]) if isinstance(item, dict) else item for item in profile or [])
    return hash_text(json.dumps([user_id, used, events_hash, pairs]))


def hash_text(text: str) -> int:
    """The first 64 bits of a SHA-256."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def report_ways(ways: dict[str, Figures]) -> Figures:
    """The table of the comparison; returns its figures, written to the flat file."""
    ours, flat = ways["ours"], Figures()
    table = Table(title=f"sequences of {COMPARED:,} events, {THREADS} threads, best of {ROUNDS}", title_justify="left")
    for column in ("way", "wall s", "CPU s", "ours / theirs, wall", "CPU"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for way, found in ways.items():
        short = f"{way.removeprefix('with_')}_10m"
        wall, cpu = ours["wall"] / found["wall"], ours["cpu"] / found["cpu"]
        table.add_row(way, f"{found['wall']:.1f}", f"{found['cpu']:.1f}", f"{wall:.2f}", f"{cpu:.2f}")
        flat |= {f"seconds.{short}": found["wall"], f"cpu.{short}": found["cpu"]}
        if way != "ours":
            flat |= {f"vs_{short}": wall, f"vs_{short}_cpu": cpu}
    CONSOLE.print(table)
    (OUT / "sequences.json").write_text(json.dumps(flat, indent=1))
    return flat


def report_growth(curve: dict[int, Figures], flat: Figures) -> None:
    """The table of the growth, whose figures join the others in the flat file."""
    table = Table(title="growth: a build after the code was compiled", title_justify="left")
    for column in ("events", "simulated in s", "built in s", "CPU s", "microseconds an event"):
        table.add_column(column, justify="right")
    for found in curve.values():
        table.add_row(
            f"{found['events']:,.0f}", f"{found['data_wall']:.0f}", f"{found['warm_wall']:.1f}",
            f"{found['warm_cpu']:.1f}", f"{1e6 * _per_event(found, 'wall'):.2f}",
        )  # fmt: skip
    CONSOLE.print(table)
    for events, found in curve.items():
        flat |= {f"growth.{events // MILLION}m.{name}": value for name, value in found.items()}
    if LARGE in curve:
        flat["growth_1m_100m"] = _per_event(curve[LARGE], "wall") / _per_event(curve[SMALL], "wall")
        flat["growth_1m_100m_cpu"] = _per_event(curve[LARGE], "cpu") / _per_event(curve[SMALL], "cpu")
    (OUT / "sequences.json").write_text(json.dumps(flat, indent=1))
    CONSOLE.print(f"written to {(OUT / 'sequences.json').relative_to(HOME)}")


def _per_event(found: Figures, clock: str) -> float:
    return found[f"warm_{clock}"] / found["events"]


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
