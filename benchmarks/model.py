"""The card against the baselines on held-out samples: credit_record, taiwan, the demo and CALM, three seeds each.

`model.py DATA [NAME ...] [KEY=VALUE ...]`: the folder of the public data sets, the recipes to run, by default all, and
changes of their settings. The seed of the model varies, the split stays; later seeds start on the tables of the first
one's run. Prints a table per recipe and
writes build/bench/model.json. A figure is the mean over the seeds; an end of an interval is the mean of their ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from rich.console import Console
from rich.table import Table

HOME = Path(__file__).resolve().parent.parent
OUT = HOME / "build" / "bench"
ZIGONG = Path(sys.executable).with_name("zigong")
SEEDS = (20, 21, 22)
RECIPES = ("credit_record", "taiwan", "demo")
CALM = "calm"
CARD, LM = "zigong", "zigong_lm"
METRICS = ("auc", "ks", "brier", "log_loss")

Figures = dict[str, float]
CONSOLE = Console(width=110)


def main(data: str, *given: str) -> None:
    """Runs, reports and writes the figures."""
    flat, changes = Figures(), [item for item in given if "=" in item]
    for name in [item for item in given if "=" not in item] or (*RECIPES, CALM):
        if name == CALM:
            flat |= calm_figures(Path(data))
            continue
        runs = [run_of(name, seed, Path(data), changes) for seed in SEEDS]
        report(name, runs)
        flat |= {f"{name}.{key}": value for key, value in means(runs).items()}
    flat |= headline(flat)
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "model.json").write_text(json.dumps(flat, indent=1, sort_keys=True) + "\n")
    CONSOLE.print(f"written to {(OUT / 'model.json').relative_to(HOME)}")


def run_of(name: str, seed: int, data: Path, changes: Sequence[str]) -> Figures:
    """The figures of a recipe under a seed; a finished run is reused."""
    root, run_id = OUT / "model" / name, f"seed-{seed}"
    metrics = root / "_runs" / run_id / "metrics.json"
    if not metrics.is_file() or "gate.auc" not in json.loads(metrics.read_text()):
        command = [str(ZIGONG), "run", f"recipes/{name}.yaml", "--run-id", run_id]
        settings = [f"lakehouse.root={root}", f"seed={seed}", *changes]
        settings += [] if name == "demo" else [f"source.path={data / name}"]
        command += [part for setting in settings for part in ("--set", setting)]
        if seed != SEEDS[0]:
            command += ["--from-step", "build_base", "--like", f"seed-{SEEDS[0]}"]
        subprocess.run(command, cwd=HOME, check=True)
    figures: Figures = json.loads(metrics.read_text())
    return figures


def calm_figures(data: Path) -> Figures:
    """The figures of `zigong benchmark calm`, with the number of its rows, ``calm_rows``."""
    command = [str(ZIGONG), "benchmark", CALM, "--data", str(data / CALM), "--out", str(OUT)]
    subprocess.run(command, cwd=HOME, check=True)
    figures: Figures = json.loads((OUT / "calm.json").read_text())
    return figures


def means(runs: Sequence[Figures]) -> Figures:
    """The mean of every held-out figure that all runs have."""
    common = set.intersection(*(set(figures) for figures in runs))
    return {key: mean(figures[key] for figures in runs) for key in sorted(common) if key.startswith(("oot.", "gate."))}


def models_of(figures: Figures, prefix: str = "") -> list[str]:
    """The models of some figures, the one with the largest AUC first."""
    start = f"{prefix}oot.auc."
    found = {key.removeprefix(start): value for key, value in figures.items() if key.startswith(start)}
    return sorted(found, key=lambda model: -found[model])


def best_baseline(figures: Figures, prefix: str) -> str | None:
    """The model with the largest AUC that contains no language model."""
    return next((model for model in models_of(figures, prefix) if not model.startswith(CARD)), None)


def headline(flat: Figures) -> Figures:
    """The few figures that the targets name, of the recipes that ran."""
    found = Figures()
    for name in RECIPES:
        auc = f"{name}.oot.auc."
        best = best_baseline(flat, f"{name}.")
        if best is None:
            continue
        lm = flat.get(f"{auc}{LM}", flat[f"{auc}{CARD}"])
        if name == "credit_record":
            found["fused_auc"] = flat[f"{auc}{CARD}"]
            found["fused_minus_best_baseline_low"] = flat[f"{name}.oot.auc_lead_of_zigong_low.{best}"]
            found["lm_minus_best_baseline"] = lm - flat[f"{auc}{best}"]
        elif name == "taiwan":
            found["taiwan_fused_auc"] = flat[f"{auc}{CARD}"]
        else:
            found["demo_lm_minus_lightgbm"] = lm - flat[f"{auc}lightgbm"]
    return found


def report(name: str, runs: Sequence[Figures]) -> None:
    """The table of a recipe: means over the seeds, and the single AUCs."""
    averaged = means(runs)
    table = Table(title=f"{name}: held-out samples, mean of {len(runs)} seeds", title_justify="left")
    for column in ("model", *METRICS, "AUC of each seed", "lead of zigong in AUC (mean ends)"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for model in models_of(averaged):
        seeds = " ".join(f"{figures[f'oot.auc.{model}']:.3f}" for figures in runs)
        ends = [
            averaged[key]
            for end in ("", "_low", "_high")
            if (key := f"oot.auc_lead_of_zigong{end}.{model}") in averaged
        ]
        lead = "{:+.3f} ({:+.3f} to {:+.3f})".format(*ends) if ends else ""
        cells = [f"{averaged[f'oot.{metric}.{model}']:.4f}" for metric in METRICS]
        table.add_row(model, *cells, seeds, lead)
    CONSOLE.print(table)


if __name__ == "__main__":
    main(*sys.argv[1:])
