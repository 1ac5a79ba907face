"""The page docs/recipes.md, generated from the reference of a recipe's keys."""

from __future__ import annotations

from collections.abc import Sequence

from zigong.recipe.reference import Key, recipe_keys, recipe_sections

_HEAD = """\
# Recipes

A recipe is one YAML file that describes one complete run, from raw files to a released Behavior Card. This page is
generated from its types, `zigong recipe reference > docs/recipes.md`; a test checks that both are equal.

    zigong recipe new consumer_loans --mapping mappings/consumer_loans.yaml --path /landing --as-of 2024-03-02
    zigong recipe explain labels                     # a key or a section, in the terminal
    zigong plan consumer_loans.yaml                  # what the run would do; runs nothing
    zigong run consumer_loans.yaml --set seed=8      # any key can be set for one run

An unknown key or a value that is not allowed is an error that names its place and what is allowed there.

## Common pitfalls

- **good needs every month.** A client is bad once his days past due reach `dpd_threshold` in the window (a delay
  carried into it counts), and good only if every calendar month of the window has one of the mapping's
  `outcome_events`. All others are indeterminate and excluded from training. A source that reports only when something
  happens has hardly any good: declare the monthly statement, or every payment, as an outcome event.
- **`max_months_since_last_event` counts outcome events**, not logins or orders. With 1, a client without an outcome
  event in the last month before T is not observed.
- **`open_loan` is true by default**: clients after one of the mapping's `closing_events` are not observed.
- **`as_of` is the end of the data.** What became known at or after it is not used, and a label counts once its
  window and `reporting_lag_days` have passed before it.
- **Windows of splits do not overlap.** With a window of 6 months and one month of train, validation begins 6 months
  later and `oot` 12 months later: the data has to cover three windows and the history before them.
- **A recipe belongs to its run.** A run cannot be resumed with a changed recipe; `zigong run RECIPE --from-step STEP
  --like RUN` starts a new run that reuses what the change does not affect."""


def recipe_page() -> str:
    """The text of docs/recipes.md."""
    keys = recipe_keys()
    parts = [_HEAD, "## Keys at the top\n", _table([key for key in keys if not key.section])]
    for section in recipe_sections():
        inside = [key for key in keys if key.section == section.path]
        optional = "" if section.required else " May be left out."
        parts.append(f"## {section.path}\n\n{section.meaning}{optional}\n")
        if inside:
            parts.append(_table(inside))
    return "\n".join(parts)


def _table(keys: Sequence[Key]) -> str:
    rows = ["| " + " | ".join(_cells(key)) + " |" for key in keys]
    return "\n".join(["| key | meaning | allowed | default | example |", "|---|---|---|---|---|", *rows, ""])


def _cells(key: Key) -> tuple[str, ...]:
    name = key.path.rpartition(".")[2]
    return f"`{name}`", key.meaning, _with_unit(key), _code(key.default), _code(key.example)


def _with_unit(key: Key) -> str:
    return f"{key.allowed} ({key.unit})" if key.unit and key.unit != key.allowed else key.allowed


def _code(value: str) -> str:
    return value if value == "required" else f"`{value}`"
