"""The generated pages contain every column and rule of the contracts."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from schemas.contracts import table_contract, table_names
from schemas.describe import contract_pages
from zigong.cli import app


def test_every_column_rule_and_reason_of_every_table_is_on_its_page(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["contract", "docs", "--output", str(tmp_path)])
    assert result.exit_code == 0, result.stderr
    index = (tmp_path / "index.md").read_text()
    for name in table_names():
        contract, page = table_contract(name), (tmp_path / f"{name}.md").read_text()
        rendered = page.replace("\\|", "|")
        for column in contract.columns:
            cells = (column.type, "yes" if column.required else "no", column.classification, column.description)
            assert f"| `{column.name}` | `{cells[0]}` | {cells[1]} | {cells[2]} | {cells[3]} |" in rendered
        for rule in contract.rules:
            assert f"| `{rule.name}` | {rule.severity} |" in rendered
            assert " ".join(rule.description.split()) in rendered
        assert all(" ".join(rule.condition.split()) in rendered for rule in contract.row_rules)
        assert f"]({name}.md) | {contract.version} | {contract.purpose} |" in index


def test_pages_do_not_depend_on_the_order_of_the_contracts() -> None:
    contracts = [table_contract(name) for name in table_names()]
    assert contract_pages(contracts) == contract_pages(reversed(contracts))


def test_every_table_row_of_a_page_has_as_many_columns_as_its_header() -> None:
    for page in contract_pages(table_contract(name) for name in table_names()).values():
        cells = 0
        for line in page.splitlines():
            bars = line.replace("\\|", "").count("|")
            assert 0 in {bars, cells} or bars == cells, line
            cells = bars
