"""TracSeq scoring against its floor and against other libraries: speed, memory and equality of the scores, in one run.

`influence.py [ROUNDS]`. Every method is a process of its own with one thread (benchmarks/scorers), opened once; within
a comparison the methods take turns, after one turn that is not counted. Ratios are of CPU seconds, medians over the
turns: one thread's CPU seconds are its wall seconds on a machine that does nothing else. The scores of every method are
compared with those of the batch-of-one loop. Prints tables and writes build/bench/influence.json, keeping the figures
of others.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.scorers.inputs import USERS, sample_set, write_model

HOME = Path(__file__).resolve().parent.parent
OUT = HOME / "build" / "bench"
DATA = OUT / "data" / "influence"
PEERS = str(HOME / "build" / "venv-bench-influence" / "bin" / "python")

WAYS = {  # name: interpreter, program and its arguments
    "fwdbwd": (sys.executable, "forward_backward", "label"),
    "fwdbwd_full": (sys.executable, "forward_backward", "full"),
    "ours": (sys.executable, "ours"),
    "tree": (sys.executable, "on_tree"),
    "one_by_one": (sys.executable, "one_by_one"),
    "vmap": (sys.executable, "with_vmap"),
    "bergson": (PEERS, "with_bergson"),
    "dattri": (PEERS, "with_dattri", "given"),
    "dattri_sorted": (PEERS, "with_dattri", "sorted"),
}
FLOOR, OWN = ("fwdbwd", "fwdbwd_full"), ("ours", "tree")
LIBRARIES = ("bergson", "dattri", "dattri_sorted")
PEER_WAYS = ("one_by_one", "vmap", *LIBRARIES)
ROUNDS = 3
LARGEST_ERROR = 1e-3  # of the largest score: beyond it a method computes something else

Figures = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One set of samples at one number of vectors.

    Attributes:
        cpu: CPU seconds of each turn, by way.
        errors: largest difference from the batch-of-one scores, in units of their largest, by way.
        samples: size of the set.
        failed: the error of each method that failed.
    """

    cpu: dict[str, list[float]]
    errors: Figures
    samples: int
    failed: dict[str, str]

    def faster(self, way: str, other: str) -> float:
        """Samples per second of ``way`` over those of ``other``: the median over the turns."""
        return statistics.median(b / a for a, b in zip(self.cpu[way], self.cpu[other], strict=True))

    def vs_best(self, way: str, others: Sequence[str]) -> float:
        """The same over the fastest of others that computes the same scores."""
        return min(self.faster(way, other) for other in others if self.same(other))

    def same(self, way: str) -> bool:
        """Whether the method ran and its scores equal the batch-of-one ones."""
        return way in self.cpu and self.errors.get(way, 0.0) <= LARGEST_ERROR


class Way:
    """A program of benchmarks/scorers that answers requests."""

    def __init__(self, name: str, process: subprocess.Popen[str]) -> None:
        self.name = name
        self._process = process

    def ask(self, samples: str, vectors: int, scores: Path | None = None) -> Figures | str:
        """Scores a set once; returns its figures, or why the program ended."""
        request = {"samples": samples, "vectors": vectors, "scores": str(scores) if scores else None}
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            return self._ended()
        for line in self._process.stdout or ():
            if line.startswith('{"wall"'):  # libraries print while they are imported
                figures: Figures = json.loads(line)
                return figures
        return self._ended()

    def _ended(self) -> str:
        return f"ended; last line: {last_line(log_of(self.name))}"


@contextmanager
def opened(names: Sequence[str]) -> Iterator[dict[str, Way]]:
    """Starts the programs and ends them."""
    with ExitStack() as stack:
        ways = {}
        for name in names:
            python, program, *arguments = WAYS[name]
            log = stack.enter_context(log_of(name).open("w"))
            process = subprocess.Popen(
                [python, f"{HOME}/benchmarks/scorers/{program}.py", str(DATA), *arguments],
                cwd=HOME, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
            stack.callback(process.wait)
            stack.callback(process.kill)
            ways[name] = Way(name, process)
        yield ways


def log_of(name: str) -> Path:
    """The log file of a program's stderr."""
    return OUT / f"influence_{name}.log"


def last_line(log: Path) -> str:
    """The last line of a program's log."""
    lines = log.read_text().strip().splitlines()
    return lines[-1] if lines else "(nothing)"


def compare(ways: dict[str, Way], names: Sequence[str], samples: str, vectors: int, rounds: int) -> Compared:
    """One turn whose scores are compared, then ``rounds`` turns that count."""
    failed: dict[str, str] = {}
    for name in names:
        print(f"+ {name}, {samples}, {vectors} vectors", file=sys.stderr, flush=True)
        answer = ways[name].ask(samples, vectors, DATA / f"scores_{name}.npy")
        if isinstance(answer, str):
            failed[name] = answer
    able = [name for name in names if name not in failed]
    cpu: dict[str, list[float]] = {name: [] for name in able}
    for _ in range(rounds):
        for name in able:
            answer = ways[name].ask(samples, vectors)
            if isinstance(answer, str):
                raise SystemExit(f"{name} answered once and then {answer}")
            cpu[name].append(answer["cpu"])
    return Compared(cpu=cpu, errors=errors(able), samples=len(sample_set(samples)), failed=failed)


def errors(names: Sequence[str]) -> Figures:
    """Errors of the scores last written; a method without scores has none."""
    scoring = [name for name in names if name not in FLOOR]
    exact = np.load(DATA / f"scores_{'one_by_one' if 'one_by_one' in scoring else 'ours'}.npy")
    largest = np.abs(exact).max()
    return {name: float(np.abs(np.load(DATA / f"scores_{name}.npy") - exact).max() / largest) for name in scoring}


def peak_memory() -> dict[str, Figures]:
    """Peak memory of every method in a fresh process that scores the ragged set against one vector."""
    peaks = {}
    for name in WAYS:
        with opened([name]) as ways:
            answer = ways[name].ask("ragged", 1)
        if not isinstance(answer, str):
            peaks[name] = answer
    return peaks


def measure(rounds: int) -> tuple[dict[tuple[str, int], Compared], dict[str, Figures]]:
    """All comparisons, and the peaks."""
    few, found = max(1, rounds - 1), {}
    core = ("fwdbwd", "fwdbwd_full", "ours", *LIBRARIES)
    with opened(list(WAYS)) as ways:
        every = (*FLOOR, "ours", *PEER_WAYS)
        found["ragged", 1] = compare(ways, (*every, "tree"), "ragged", 1, rounds)
        found["ragged", 64] = compare(ways, every, "ragged", 64, few)
        found["fixed", 1] = compare(ways, (*every, "tree"), "fixed", 1, few)
        for points in USERS:
            names = (*FLOOR, *OWN, *(PEER_WAYS if points == 12 else ("one_by_one", *LIBRARIES)))
            found[str(points), 1] = compare(ways, names, str(points), 1, rounds if points == 12 else few)
        for samples, vectors in (("fixed", 64), ("fixed", 1024), ("ragged", 1024)):
            found[samples, vectors] = compare(ways, core, samples, vectors, few)
    return found, peak_memory()


def token_ratio(points: int) -> float:
    """Tokens of the separate samples over those of their trees, without the last of each, which is never read."""
    samples = sample_set(str(points))
    paths = [prompt + answer[:-1] for prompt, answer in zip(samples.prompts, samples.answers, strict=True)]
    tree = {
        (user, tuple(path[:end]))
        for user, path in zip(samples.users, paths, strict=True)
        for end in range(1, len(path) + 1)
    }
    return sum(map(len, paths)) / len(tree)


def flat_figures(found: dict[tuple[str, int], Compared], peaks: dict[str, Figures]) -> Figures:
    """The content of influence.json."""
    ragged, twelve = found["ragged", 1], found["12", 1]
    flat = {f"vs_fwdbwd_m{vectors}": found["ragged", vectors].faster("ours", "fwdbwd") for vectors in (1, 64, 1024)}
    flat |= {f"vs_fwdbwd_m{m}_fixed": found["fixed", m].faster("ours", "fwdbwd") for m in (1, 64, 1024)}
    flat["vs_fwdbwd_full_m1"] = ragged.faster("ours", "fwdbwd_full")
    flat["vs_best_peer_ragged"] = ragged.vs_best("ours", PEER_WAYS)
    flat["forward_vs_fwdbwd_m1"] = ragged.faster("tree", "fwdbwd")
    flat["forward_vs_best_peer_ragged"] = ragged.vs_best("tree", PEER_WAYS)
    flat["vs_best_peer_ragged_m1024"] = found["ragged", 1024].vs_best("ours", LIBRARIES)
    for points in USERS:
        compared = found[str(points), 1]
        flat[f"tree_vs_best_peer_{points}"] = compared.vs_best("tree", PEER_WAYS)
        flat[f"tree_vs_ours_{points}"] = compared.faster("tree", "ours")
        flat[f"tree_token_ratio_{points}"] = token_ratio(points)
    flat["tree_max_rel_error"] = twelve.errors["tree"]
    flat["memory_vs_fwdbwd"] = peaks["ours"]["peak"] / peaks["fwdbwd"]["peak"]
    flat["memory_above_model_vs_fwdbwd"] = _above_model(peaks["ours"]) / _above_model(peaks["fwdbwd"])
    return flat


def _above_model(peak: Figures) -> float:
    return peak["peak"] - peak["loaded"]


def report(found: dict[tuple[str, int], Compared], peaks: dict[str, Figures]) -> None:
    """Tables."""
    console = Console(width=110)
    for (samples, vectors), compared in found.items():
        what = f"{samples} monthly points a user" if samples.isdigit() else f"{samples} lengths"
        title = f"{what}, M = {vectors}, {compared.samples} samples, one thread"
        table = Table(title=title, title_justify="left")
        for column in ("way", "samples / CPU s", "over fwdbwd", "over fwdbwd_full", "largest error"):
            table.add_column(column, justify="left" if column == "way" else "right")
        for name, cpu in compared.cpu.items():
            error = compared.errors.get(name)
            difference = "-" if error is None else f"{error:.1e}" + ("" if compared.same(name) else " DIFFERENT")
            speed = compared.samples / statistics.median(cpu)
            ratios = (f"{compared.faster(name, floor):.2f}" for floor in FLOOR)
            table.add_row(name, f"{speed:.1f}", *ratios, difference)
        console.print(table)
        for name, why in compared.failed.items():
            console.print(f"{name}: {why}")
    table = Table(title="peak memory, ragged, M = 1, MiB", title_justify="left")
    for column in ("way", "peak", "above imports and model"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for name, peak in peaks.items():
        table.add_row(name, f"{peak['peak']:.0f}", f"{_above_model(peak):.0f}")
    console.print(table)


def write_figures(flat: Figures) -> None:
    """Adds the figures to the file, which other programs write too."""
    file = OUT / "influence.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    file.write_text(json.dumps({**known, **flat}, indent=1) + "\n", encoding="utf-8")


def main(rounds: int = ROUNDS) -> None:
    """Measures and reports."""
    DATA.mkdir(parents=True, exist_ok=True)
    write_model(DATA)
    found, peaks = measure(rounds)
    report(found, peaks)
    flat = flat_figures(found, peaks)
    Console(width=110).print(flat)
    write_figures(flat)
    wrong = [
        f"{way} ({samples}, M = {vectors})"
        for (samples, vectors), compared in found.items()
        for way in OWN
        if way in compared.errors and not compared.same(way)
    ]
    if wrong:
        raise SystemExit(f"scores differ from the batch-of-one loop: {', '.join(wrong)}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
