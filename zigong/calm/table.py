"""The table of the benchmark as Markdown and on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from zigong.calm.benchmark import Row
from zigong.calm.measures import MEASURES
from zigong.calm.task_files import load_task
from zigong.evaluation.bootstrap import Interval

_TITLES = {
    "accuracy": "Acc",
    "f1": "F1",
    "macro_f1": "macro F1",
    "miss": "Miss",
    "mcc": "MCC",
    "auc": "AUC",
    "ks": "KS",
}
_HEAD = ("data set", "model", *(_TITLES[measure] for measure in MEASURES))


def markdown(rows: Sequence[Row]) -> str:
    """One line per task and model; intervals in parentheses."""
    lines = [_line(_HEAD), _line(["---"] * len(_HEAD))]
    return "\n".join([*lines, *(_line(_cells(row)) for row in rows)]) + "\n"


def shown(rows: Sequence[Row]) -> Table:
    """The same for the terminal, without the intervals."""
    table = Table(title="CALM", title_justify="left")
    for number, title in enumerate(_HEAD):
        table.add_column(title, justify="left" if number < 2 else "right", overflow="fold")
    for row in rows:
        table.add_row(*_cells(row, intervals=False))
    return table


def _cells(row: Row, *, intervals: bool = True) -> list[str]:
    found = [row.figures.get(measure) for measure in MEASURES]
    cells = ["" if one is None else _figure(one, intervals=intervals) for one in found]
    return [load_task(row.task).title, row.model, *cells]


def _figure(figure: Interval, *, intervals: bool) -> str:
    ends = f" ({_number(figure.low)} to {_number(figure.high)})"
    return _number(figure.value) + (ends if intervals and figure.low < figure.high else "")


def _number(value: float) -> str:
    text = f"{value:.3f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 and not text.endswith("1.000") else text


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
