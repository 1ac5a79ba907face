"""Contracts declare the privacy class of every column."""

from __future__ import annotations

from importlib.resources import files

import pytest

from schemas.contracts import CLASSES, parse_contract, table_contract, table_names

TEXT = files("schemas").joinpath("tables", "user_profiles.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", table_names())
def test_every_column_has_a_class_and_none_is_a_direct_identifier(name: str) -> None:
    classes = {column.name: column.classification for column in table_contract(name).columns}
    assert set(classes.values()) <= set(CLASSES) - {"direct_identifier"}
    assert all(classes[column] == "pseudonym" for column in classes if column in {"user_id", "person_id", "loan_id"})
    assert all(classes[column] == "free_text" for column in classes if column in {"attributes", "events", "payload"})


@pytest.mark.parametrize(
    ("found", "put", "complaint"),
    [
        ("        classification: pseudonym\n", "", "column user_id: classification must be one of pseudonym"),
        ("classification: pseudonym", "classification: secret", "found 'secret'"),
        ("classification: pseudonym", "classification: direct_identifier", "holds pseudonyms only"),
    ],
)
def test_a_contract_without_a_class_does_not_load(found: str, put: str, complaint: str) -> None:
    with pytest.raises(ValueError, match="classification") as error:
        parse_contract(TEXT.replace(found, put, 1))
    assert complaint in str(error.value)


@pytest.mark.parametrize(
    ("found", "put", "complaint"),
    [
        (
            "required: true",
            "required: perhaps",
            "contract: schema.0.properties.0.required: Input should be a valid bool",
        ),
        ("version:", "version: [", "contract: not valid YAML"),
    ],
)
def test_an_invalid_contract_is_reported_with_its_field(found: str, put: str, complaint: str) -> None:
    assert found in TEXT
    with pytest.raises(ValueError, match="contract") as error:
        parse_contract(TEXT.replace(found, put, 1))
    assert str(error.value).startswith(complaint)
