"""Shared test code is in tests/support: no test module imports another one, and support imports none."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support.finished import REPOSITORY

TESTS = REPOSITORY / "tests"


def imported(file: Path) -> Iterator[str]:
    """Dotted names of what a module imports, each with the names taken from it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def is_of_tests(name: str) -> bool:
    """Whether a dotted name is a module of tests, by its full path or by the name that pytest's path allows."""
    first = name.split(".", maxsplit=1)[0]
    return first in ("", "tests", "conftest") or any(TESTS.rglob(f"{first}.py"))


def test_no_module_imports_a_test_module() -> None:
    modules = [file for folder in ("tests", "benchmarks") for file in (REPOSITORY / folder).rglob("*.py")]
    assert len(modules) > 100
    strangers = {
        f"{file.relative_to(REPOSITORY)}: {name}"
        for file in modules
        for name in imported(file)
        if is_of_tests(name) and not name.startswith("tests.support.")
    }
    assert strangers == set()
