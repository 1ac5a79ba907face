"""Rendering instruction samples against building the same sequences: `rendering.py [EVENTS]`, default 10 million.

Both run in one process with the same threads, in turn; the fastest round of each counts. Prints a table and adds its
figures to build/bench/sequences.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.table import Table

from benchmarks.sequences import COMPARED, DAY, HOME, OUT, Figures, made, program_figures

ROUNDS = 2


def main(events: int = COMPARED) -> None:
    """Measures and reports."""
    data = made(events)
    script = f"{HOME}/benchmarks/builders/rendered.py"
    found = program_figures([sys.executable, script, str(data), str(data / "out_rendered"), DAY, str(ROUNDS)])
    report(found)


def report(found: Figures) -> None:
    """Prints a table and adds the figures to those of the sequences."""
    per_event = {name: 1e6 * found[name] / found["events"] for name in found if name.startswith(("build_", "render_"))}
    table = Table(title=f"{found['events']:,.0f} kept events, best of {ROUNDS} rounds", title_justify="left")
    for column in ("work", "wall s", "CPU s", "microseconds an event", "CPU"):
        table.add_column(column, justify="left" if column == "work" else "right")
    for work in ("build", "render"):
        wall, cpu = f"{work}_wall", f"{work}_cpu"
        table.add_row(
            work, f"{found[wall]:.1f}", f"{found[cpu]:.1f}", f"{per_event[wall]:.2f}", f"{per_event[cpu]:.2f}"
        )
    console, file = Console(width=100), OUT / "sequences.json"
    console.print(table)
    flat: Figures = json.loads(file.read_text()) if file.is_file() else {}
    flat |= {
        "render_of_build": found["render_wall"] / found["build_wall"],
        "render_of_build_cpu": found["render_cpu"] / found["build_cpu"],
        **{f"rendering.{name}": value for name, value in found.items()},
        "rendering.microseconds_per_event": per_event["render_wall"],
        "rendering.microseconds_per_event_cpu": per_event["render_cpu"],
        "rendering.microseconds_per_event_of_a_batch": 1e6 * found["batch_cpu"] / found["batch_events"],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(flat, indent=1))
    console.print(
        f"render / build: {flat['render_of_build']:.2f} wall, {flat['render_of_build_cpu']:.2f} CPU; "
        f"{found['batch_lines']:,.0f} distinct lines in a batch of {found['batch_events']:,.0f} events"
    )
    console.print(f"written to {file.relative_to(HOME)}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
