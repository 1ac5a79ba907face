"""Every key of a recipe is explained, on docs/recipes.md and in the terminal, and a draft is a valid recipe."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel
from typer.testing import CliRunner

from zigong.cli import app
from zigong.recipe import Recipe, load_recipe
from zigong.recipe.page import recipe_page
from zigong.recipe.reference import recipe_keys

REPOSITORY = Path(__file__).resolve().parents[2]


def leaves(model: type[BaseModel], prefix: str = "") -> list[str]:
    """The paths of all fields that hold no section."""
    found: list[str] = []
    for name, field in model.model_fields.items():
        parts: tuple[Any, ...] = (field.annotation, *get_args(field.annotation))
        sections = [part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)]
        found += leaves(sections[0], f"{prefix}{name}.") if sections else [prefix + name]
    return found


def test_the_page_is_the_generated_text() -> None:
    page = (REPOSITORY / "docs/recipes.md").read_text(encoding="utf-8")
    assert page == recipe_page(), "run `zigong recipe reference > docs/recipes.md`"


def test_every_key_has_meaning_default_and_an_example_that_its_type_takes() -> None:
    keys = {key.path.replace("[]", ""): key for key in recipe_keys()}
    assert list(keys) == leaves(Recipe)
    for path, key in keys.items():
        assert key.meaning, path
        assert key.default, path
        assert key.example not in {"", "null"}, path
    base: dict[str, Any] = yaml.safe_load((REPOSITORY / "recipes/demo.yaml").read_text(encoding="utf-8"))
    for path in ("seed", "lakehouse.user_buckets", "mix.rank", "observations.cohort.max_days_past_due", "card.pdo"):
        value = yaml.safe_load(keys[path].example)
        Recipe.model_validate({**base, **nested(path.split("."), value, base)})


def nested(path: list[str], value: object, base: dict[str, Any]) -> dict[str, Any]:
    """A change of one key, with the other keys of its sections."""
    head, *rest = path
    return {head: {**base.get(head, {}), **nested(rest, value, base.get(head, {}))} if rest else value}


def test_the_page_names_the_common_pitfalls() -> None:
    page = " ".join(recipe_page().split())
    for wanted in (
        "every calendar month of the window",
        "counts outcome events",
        "`open_loan` is true by default",
        "--from-step STEP --like RUN",
    ):
        assert wanted in page


def test_explain_shows_a_key_or_a_section_and_names_the_closest_keys() -> None:
    one = CliRunner().invoke(app, ["recipe", "explain", "labels.horizons.window_months"])
    assert one.exit_code == 0
    assert "good needs an outcome event in every month" in " ".join(one.output.split())
    assert "default: 6" in one.output
    section = CliRunner().invoke(app, ["recipe", "explain", "observations.cohort"])
    assert section.output.count("allowed:") == 4
    bare = CliRunner().invoke(app, ["recipe", "explain", "open_loan"])
    assert "default: true" in bare.output
    unknown = CliRunner().invoke(app, ["recipe", "explain", "cohort.open_loan"])
    assert unknown.exit_code == 2
    assert "observations.cohort.open_loan" in " ".join(unknown.output.split())


@pytest.mark.parametrize("window", [1, 6, 12])
def test_a_new_recipe_is_valid_and_its_last_windows_have_closed_by_as_of(tmp_path: Path, window: int) -> None:
    file = tmp_path / "loans.yaml"
    given = ["--mapping", "simulated", "--as-of", "2024-03-02", "--window-months", str(window), "--output", str(file)]
    answer = CliRunner().invoke(app, ["recipe", "new", "loans", *given])
    assert answer.exit_code == 0, answer.output
    recipe = load_recipe(file)
    assert recipe.observations.oot is not None
    last = recipe.observations.oot.last
    closes = date(last.year + (last.month - 1 + window) // 12, (last.month - 1 + window) % 12 + 1, 1)
    assert closes == date(2024, 3, 1) <= recipe.as_of
    again = CliRunner().invoke(app, ["recipe", "new", "loans", *given])
    assert again.exit_code == 2
    assert "exists" in again.output
