"""A lender whose clients hold one to three loans, as a raw file and a mapping, and a complete run that scores loans."""

from __future__ import annotations

import random
from datetime import date
from pathlib import Path

MAPPING = """
name: SOURCE
data: public
title: clients with several loans
files:
  statements:
    path: statements.csv
    format: csv
    columns:
      CLIENT: {type: string, required: true, identifier: true}
      LOAN: {type: string, required: true, identifier: true}
      DAY: {type: date, required: true}
      LATE: {type: int, required: true}
events: >
  SELECT CLIENT AS user_key, concat(LOAN, '/', DAY) AS event_key, LOAN AS loan_key, 'upsert' AS op,
    'KIND' AS event_type, CAST(DAY AS TIMESTAMP) AS event_at, CAST(NULL AS DECIMAL(18,2)) AS amount,
    CAST(NULL AS STRING) AS currency, LATE AS days_past_due, CAST(map() AS MAP<STRING, STRING>) AS attributes
  FROM statements
profiles: >
  SELECT CLIENT AS user_key, TIMESTAMP'2022-12-31' AS valid_from, TIMESTAMP'2022-12-31' AS known_at,
    CAST(NULL AS STRING) AS person_key, CAST(map() AS MAP<STRING, STRING>) AS attributes
  FROM (SELECT DISTINCT CLIENT FROM statements)
known_at: {lag: INTERVAL 1 HOUR}
outcome_events: [OUTCOME]
id_namespace: NAMESPACE
"""
CLIENTS, MONTHS = 160, 7


def write_mapping(folder: Path, name: str, **words: str) -> Path:
    """Writes a mapping of the raw file; ``words`` change its event type, its outcome event and its namespace."""
    text = MAPPING.replace("name: SOURCE", f"name: {name}")
    for word, value in {"KIND": "statement", "OUTCOME": "statement", "NAMESPACE": "bank", **words}.items():
        text = text.replace(word, value)
    mapping = folder / f"{name}.yaml"
    mapping.write_text(text, encoding="utf-8")
    return mapping


def write_lender(folder: Path) -> Path:
    """Writes the raw file and a mapping; returns the mapping's path. A loan is late more often after it was late."""
    chance = random.Random(3)  # noqa: S311
    lines = ["CLIENT,LOAN,DAY,LATE"]
    for client in range(CLIENTS):
        for loan in range(1 + client % 3):
            late = 0
            for month in range(1, MONTHS + 1):
                misses = chance.random() < (0.6 if late else 0.25)
                late = chance.choice((35, 40)) if misses else 0
                day = date(2023, month, 20 + loan)
                lines.append(f"client-{client:03d},client-{client:03d}-loan-{loan},{day},{late}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "statements.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return write_mapping(folder, "several")
